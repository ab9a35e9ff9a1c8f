package nettest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Needs returns where a program is. Without it t is skipped or, where it must run, fails,
// and says of which package it is.
func Needs(t testing.TB, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_NETNS") != "":
		t.Fatalf("there is no %s, of the package %s: %v", program, debian, err)
	default:
		t.Skipf("there is no %s, of the package %s", program, debian)
	}
	return path
}

// Folder returns one with a short name, for sockets, which belongs to a user.
func Folder(t testing.TB, owner string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "net")
	must(t, "making a folder", err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	u, err := user.Lookup(owner)
	must(t, "looking for user "+owner, err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	must(t, "giving a folder to "+owner, os.Chown(dir, uid, gid))
	return dir
}

// A Buffer keeps what is written to it. It is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A Daemon is a program in a namespace, until the test ends.
type Daemon struct {
	Said *Buffer
	cmd  *exec.Cmd
}

// Start starts one. What it has said is shown if the test fails.
func (n *Namespace) Start(t testing.TB, name string, args ...string) *Daemon {
	t.Helper()
	d := &Daemon{&Buffer{}, exec.Command(name, args...)}
	d.cmd.Stdout, d.cmd.Stderr = d.Said, d.Said
	must(t, "starting "+name, n.Do(d.cmd.Start))
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() {
			t.Logf("%s has said:\n%s", name, d.Said)
		}
	})
	return d
}

// Kill ends it without a word, and can be called again.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill() // it may have ended
	_ = d.cmd.Wait()
}

// Listens is whether somebody does at a socket in the file system.
func Listens(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// Long is after how long a wait is in vain, and a fault. What takes longest, a start of
// FRR, takes two seconds, and ten times that on a machine that does other things as well.
const Long = time.Minute

// Await waits until something is so.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(Long); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("waited %s in vain for %s", Long, what)
}
