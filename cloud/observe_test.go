package cloud

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A lister lists what was there when it was asked, once it is let go.
type lister struct {
	Driver
	calls int
	there []Found
	hang  chan struct{}
}

func (l *lister) List(ctx context.Context, _ string) ([]Found, error) {
	l.calls++
	there := l.there
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.hang:
		return there, nil
	}
}

func TestSnapshot(t *testing.T) {
	of := func(uids ...types.UID) (all []Found) {
		for _, uid := range uids {
			all = append(all, Found{Owner: Owner{UID: uid}, ID: string(uid)})
		}
		return all
	}
	type answer struct {
		all map[types.UID][]Found
		err error
	}
	ask := func(ctx context.Context, s *snapshot, l *lister) chan answer {
		c := make(chan answer, 1)
		go func() {
			all, _, err := s.list(ctx, l, "c1", fresh)
			c <- answer{all, err}
		}()
		synctest.Wait()
		return c
	}
	run := func(name string, f func(*testing.T, *snapshot, *lister)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, &snapshot{}, &lister{there: of("a", "b"), hang: make(chan struct{})}) })
		})
	}
	run("those who ask at once ask once", func(t *testing.T, s *snapshot, l *lister) {
		a, b := ask(t.Context(), s, l), ask(t.Context(), s, l)
		close(l.hang)
		if a, b := <-a, <-b; len(a.all) != 2 || len(b.all) != 2 || a.err != nil || b.err != nil || l.calls != 1 {
			t.Errorf("%+v and %+v, by %d calls", a, b, l.calls)
		}
	})
	run("nobody waits for longer than they want to", func(t *testing.T, s *snapshot, l *lister) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a, b := ask(t.Context(), s, l), ask(ctx, s, l)
		began := time.Now()
		if b := <-b; !errors.Is(b.err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %s: %+v", time.Since(began), b)
		}
		close(l.hang)
		if a := <-a; len(a.all) != 2 {
			t.Errorf("%+v", a)
		}
	})
	run("one who gives up does not give up for others", func(t *testing.T, s *snapshot, l *lister) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := ask(ctx, s, l), ask(t.Context(), s, l)
		cancel()
		synctest.Wait()
		close(l.hang)
		if a, b := <-a, <-b; a.err == nil || len(b.all) != 2 || l.calls != 2 {
			t.Errorf("%+v and %+v, by %d calls", a, b, l.calls)
		}
	})
	run("what is shown meanwhile is newer", func(t *testing.T, s *snapshot, l *lister) {
		a := ask(t.Context(), s, l)
		s.put(Owner{UID: "a"}, nil)
		s.put(Owner{UID: "c"}, of("c"))
		close(l.hang)
		if a := <-a; len(a.all) != 2 || len(a.all["b"]) != 1 || len(a.all["c"]) != 1 {
			t.Errorf("%+v", a)
		}
	})
}
