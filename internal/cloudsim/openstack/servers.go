package openstack

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

//go:embed octavia.py
var octavia string

//go:embed neutron.py
var neutron string

// python is Debian's own: the packages' extensions are made for it.
const python = "/usr/bin/python3"

// startup is how long servers may take to start, on a machine that has other work.
const startup = 4 * time.Minute

// Servers are an Octavia and a Neutron that know each other.
type Servers struct {
	octavia, neutron *process
	state            string
	projects         atomic.Int32 // made so far
}

// A process is one server.
type process struct {
	cmd  *exec.Cmd
	port int
	log  string // file
	done chan struct{}
}

// Packages returns the folder that the packages were unpacked into: OPENSTACK_ROOT,
// or what e2e/setup.sh says in the cache.
func Packages() (string, error) {
	if dir := os.Getenv("OPENSTACK_ROOT"); dir != "" {
		return dir, nil
	}
	cache := os.Getenv("HERALD_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "herald")
	}
	env, err := os.ReadFile(filepath.Join(cache, "env"))
	if err != nil {
		return "", fmt.Errorf("finding OpenStack's packages, which e2e/setup.sh unpacks: %w", err)
	}
	for line := range strings.Lines(string(env)) {
		if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "OPENSTACK_ROOT="); ok {
			return dir, nil
		}
	}
	return "", errors.New("finding OpenStack's packages: run e2e/setup.sh openstack")
}

// Required is whether tests that need the servers are to be run.
func Required() bool { return os.Getenv("REQUIRE_OPENSTACK") != "" }

// Start starts both and waits until they serve.
func Start() (_ *Servers, err error) {
	root, err := Packages()
	if err != nil {
		return nil, err
	}
	s := &Servers{}
	if s.state, err = os.MkdirTemp("", "openstack"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	env := []string{"ROOT=" + root, "DELAY=0.05", "HOME=" + s.state, "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", fmt.Sprintf("NEUTRON_PORT=%d", ports[1])}
	if s.octavia, err = s.run("octavia", octavia, ports[0], env); err != nil {
		return nil, err
	}
	if s.neutron, err = s.run("neutron", neutron, ports[1], env); err != nil {
		return nil, err
	}
	until := time.Now().Add(startup)
	return s, errors.Join(s.octavia.ready(until), s.neutron.ready(until))
}

// run starts a server. Python is not to see what else this machine has installed.
func (s *Servers) run(name, script string, port int, env []string) (*process, error) {
	dir := filepath.Join(s.state, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name+".py")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		return nil, err
	}
	p := &process{port: port, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(python, "-I", "-S", "-W", "ignore", file)
	p.cmd.Env = append(env, "STATE="+dir, fmt.Sprintf("PORT=%d", port))
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// It is not to outlive a test that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // ends by a signal
	}()
	return p, nil
}

// ready waits until a server has said so.
func (p *process) ready(until time.Time) error {
	for time.Now().Before(until) {
		text, err := os.ReadFile(p.log)
		if err == nil && bytes.Contains(text, []byte("\nready\n")) || bytes.HasPrefix(text, []byte("ready\n")) {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %s", p.cmd.Path, tail(text))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not serve after %s", p.log, startup)
}

func tail(text []byte) string {
	const last = 2000
	return string(text[max(0, len(text)-last):])
}

// Stop ends both. Neutron ignores SIGTERM.
func (s *Servers) Stop() {
	for _, p := range []*process{s.octavia, s.neutron} {
		if p != nil {
			_ = p.cmd.Process.Kill() // may have ended
			<-p.done
		}
	}
	os.RemoveAll(s.state)
}

// SetStatus writes the provisioning_status of a load balancer into Octavia's
// database, as a worker that has failed would.
func (s *Servers) SetStatus(t testing.TB, lb, status string) {
	t.Helper()
	const script = `import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=30) as db:
    assert db.execute("UPDATE load_balancer SET provisioning_status = ? WHERE id = ?", sys.argv[2:]).rowcount == 1`
	db := filepath.Join(s.state, "octavia", "octavia.sqlite")
	if out, err := exec.Command(python, "-I", "-c", script, db, status, lb).CombinedOutput(); err != nil {
		t.Fatalf("setting the status of load balancer %s: %v\n%s", lb, err, out)
	}
}

// freePorts returns ports of the loopback that nobody has. Until a server has started, which
// takes long, Linux gives none of them to who asks for any: those are from 32768 on.
func freePorts(n int) (ports []int, err error) {
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err != nil && tries < 100 {
			continue // somebody has it
		}
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
