package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Cache returns the folder for what takes long to build.
func Cache() (string, error) {
	if dir := os.Getenv("HERALD_CACHE"); dir != "" {
		return dir, nil
	}
	user, err := os.UserHomeDir()
	return filepath.Join(user, ".cache", "herald"), err
}

// Tool returns the path of a program that e2e/setup.sh has built: LABKUBE or
// KUBECTL, from the environment or else from the file env in the cache.
func Tool(name string) (string, error) {
	if path := os.Getenv(name); path != "" {
		return path, nil
	}
	dir, err := Cache()
	if err != nil {
		return "", err
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return "", fmt.Errorf("finding %s, which e2e/setup.sh builds: %w", name, err)
	}
	for line := range strings.Lines(string(env)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(path, `"'`), nil
		}
	}
	return "", fmt.Errorf("finding %s: %s/env does not name it; e2e/setup.sh builds it", name, dir)
}

// Root returns the top folder of Herald's source.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/herald-lb/herald\n") {
			return dir, nil
		}
	}
	return "", errors.New("finding Herald's source: start this inside it")
}

// heraldBinary returns $HERALD_BIN, or builds the binary that users get, once.
var heraldBinary = func() func(context.Context) (string, error) {
	var once sync.Once
	var path string
	var err error
	return func(ctx context.Context) (string, error) {
		once.Do(func() { path, err = buildHerald(ctx) })
		return path, err
	}
}()

func buildHerald(ctx context.Context) (string, error) {
	if path := os.Getenv("HERALD_BIN"); path != "" {
		return path, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bin", "herald")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/herald")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building herald: %w\n%s", err, out)
	}
	return path, nil
}

// giveUp is an error that waiting does not cure.
type giveUp struct{ error }

// poll calls cond until it is content, and returns its last complaint if it
// never was.
func poll(ctx context.Context, limit time.Duration, cond func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if stop := (giveUp{}); err == nil || errors.As(err, &stop) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-deadline.C:
			return fmt.Errorf("after %s: %w", limit, err)
		case <-tick.C:
		}
	}
}
