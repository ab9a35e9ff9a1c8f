package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netns"
)

// labs counts the labs of this process, for their names.
var labs atomic.Int64

func (cp *ControlPlane) nextName() string { return fmt.Sprintf("story-%d", labs.Add(1)) }

// shared is the control plane that all stories of a test binary use.
var shared struct {
	once sync.Once
	cp   *ControlPlane
	err  error
}

// Start builds a Lab on the control plane of this test binary, which starts
// with the first Lab. TestMain must call Main.
func Start(t T, o Options) *Lab {
	t.Helper()
	shared.once.Do(func() {
		shared.cp, shared.err = startShared(context.WithoutCancel(t.Context()))
	})
	if shared.err != nil {
		t.Fatalf("%v", shared.err)
	}
	return shared.cp.Start(t, o)
}

func startShared(ctx context.Context) (*ControlPlane, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("starting a lab: it makes network namespaces, which only root may")
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("sweeping up after earlier labs: %w", err)
	}
	id := fmt.Sprintf("herald-%d-", os.Getpid())
	return StartControlPlane(ctx, id, filepath.Join(os.TempDir(), id+"lab"))
}

// Main runs the tests and stops the control plane after them.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if shared.cp == nil {
		return code
	}
	if err := shared.cp.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
		return max(code, 1)
	}
	return code
}

// sweep removes the namespaces and folders of labs whose process has died
// without doing so itself.
func sweep() error {
	var errs []error
	for _, path := range glob("/run/netns/herald-*-*") {
		if orphaned(filepath.Base(path)) {
			errs = append(errs, netns.DeleteNamed(filepath.Base(path)))
		}
	}
	for _, path := range glob(filepath.Join(os.TempDir(), "herald-*-lab")) {
		if orphaned(filepath.Base(path)) {
			errs = append(errs, unmountBelow(path), os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

func glob(pattern string) []string {
	paths, _ := filepath.Glob(pattern) // the patterns are constants, and right
	return paths
}

// orphaned says whether a name holds the number of a process that is no more.
func orphaned(name string) bool {
	_, rest, _ := strings.Cut(name, "-")
	number, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(number)
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// Clear removes what an earlier run has left that used the same names and
// folder and died before it could do so itself.
func Clear(prefix, run string) error {
	var errs []error
	for _, path := range glob("/run/netns/" + prefix + "*") {
		name := filepath.Base(path)
		// Others have longer prefixes of their own: herald-4711-.
		if _, err := strconv.Atoi(strings.SplitN(name, "-", 3)[1]); err == nil {
			continue
		}
		errs = append(errs, netns.DeleteNamed(name))
	}
	return errors.Join(append(errs, unmountBelow(run), os.RemoveAll(run))...)
}
