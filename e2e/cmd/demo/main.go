// Command demo tells Herald's story on this machine, step by step: a Service
// waits for an address, a pool gives it one, a client reaches it, the node that
// announces it fails, another goes on, the Service goes and leaves nothing.
//
// Every command that it prints is run, and what follows is its real output.
// The exit code is 0 only if every step held.
//
//	demo        tells the story and cleans up; KEEP=1 leaves it running until ^C
//	demo stop   ends a demo that runs
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// prefix begins the names of the demo's namespaces: herald-client, herald-n1.
const prefix = "herald-"

// run is the folder for everything that the demo writes.
var run = filepath.Join(os.TempDir(), "herald-demo")

// pidFile says which process the demo is.
var pidFile = run + ".pid"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	act := tell
	if len(os.Args) > 1 && os.Args[1] == "stop" {
		act = end
	}
	if err := act(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// tell runs the whole demo.
func tell(ctx context.Context) (err error) {
	if os.Getuid() != 0 {
		return errors.New("it makes network namespaces, which only root may")
	}
	if pid := running(); pid != 0 {
		return fmt.Errorf("process %d runs a demo already; `bin/demo stop` ends it", pid)
	}
	if err := lab.Clear(prefix, run); err != nil {
		return fmt.Errorf("clearing up after an earlier demo: %w", err)
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	defer os.Remove(pidFile)

	began := time.Now()
	out := newTerminal(os.Stdout)
	out.title("Herald: a Service gets an address, and a client on the wire reaches it")
	out.say("etcd, kube-apiserver and kube-controller-manager are starting …")
	cp, err := lab.StartControlPlane(ctx, prefix, run)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Close()) }()
	out.ok("the control plane is ready, deploy/base is installed: no warning", time.Since(began))
	return lab.Play(ctx, os.Stdout, "demo", func(t lab.T) { play(t, cp, out, began) })
}

// end stops the demo that runs, and waits until it is gone.
func end(ctx context.Context) error {
	pid := running()
	if pid == 0 {
		return errors.New("no demo is running")
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping process %d: %w", pid, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for running() == pid {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// running returns the process that the demo runs in, or 0.
func running() int {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	return pid
}
