package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
)

// Play plays a story outside of `go test`: what it says goes to out. The error
// says whether it failed.
func Play(ctx context.Context, out io.Writer, name string, story func(T)) error {
	p := &player{ctx: ctx, out: out, name: name}
	// A goroutine of its own, because Fatalf ends the one that it is called on.
	for _, act := range []func(){func() { story(p) }, p.clean} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			act()
		}()
		<-done
	}
	return errors.Join(p.errs...)
}

// A player is the T of a story that is played. One goroutine uses it.
type player struct {
	ctx      context.Context
	out      io.Writer
	name     string
	cleanups []func()
	errs     []error
}

func (p *player) Helper()                  {}
func (p *player) Name() string             { return p.name }
func (p *player) Context() context.Context { return p.ctx }
func (p *player) Failed() bool             { return len(p.errs) > 0 }
func (p *player) Cleanup(f func())         { p.cleanups = append(p.cleanups, f) }

func (p *player) Logf(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *player) Errorf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *player) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

func (p *player) clean() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}
