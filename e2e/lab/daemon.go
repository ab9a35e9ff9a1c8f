package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stopWithin bounds how long Herald may take to end when asked to.
	stopWithin = 15 * time.Second
	// settleWithin bounds how long anything at all may take in a story.
	// Nothing waits that long unless it is broken.
	settleWithin = 30 * time.Second
)

// A Daemon is one of Herald's controllers or speakers, or a kube-proxy.
type Daemon struct {
	lab   *Lab
	name  string
	host  *Host
	ready string   // URL that is answered, inside the host, when it is ready
	args  []string // the program first
	proc  *process
}

// newController returns replica i; the first is 1.
func (l *Lab) newController(i int) *Daemon {
	name, health := fmt.Sprintf("controller-%d", i), fmt.Sprintf("127.0.0.1:%d", 10100+i)
	return &Daemon{
		lab: l, name: name, host: &Host{Namespace: l.cp.hub}, ready: "http://" + health + "/readyz",
		args: append([]string{l.cp.herald, "controller", "--kubeconfig", l.cp.Kubeconfig("controller"), "--namespace", heraldNamespace,
			"--identity", name, "--health-address", health, "--log-level", "info"}, l.options.Flags...),
	}
}

func (l *Lab) newSpeaker(n *Node) *Daemon {
	const health = "127.0.0.1:10081"
	args := []string{l.cp.herald, "speaker", "--kubeconfig", l.cp.Kubeconfig("speaker"), "--namespace", heraldNamespace,
		"--node-name", n.Name, "--node-ips", n.ips(), "--state-dir", n.StateDir(), "--memory-dir", n.MemoryDir(), "--steer", l.options.Steer, "--health-address", health}
	return &Daemon{
		lab: l, name: "speaker-" + n.Name, host: n.Host, ready: "http://" + health + "/readyz",
		args: slices.Concat(args, l.options.Flags, l.options.SpeakerFlags),
	}
}

// Start starts the program. It does not wait until it is ready.
func (d *Daemon) Start() {
	d.lab.t.Helper()
	if d.proc != nil && d.proc.alive() {
		d.lab.t.Fatalf("starting %s: it runs", d.name)
	}
	proc, err := d.host.start(d.name, d.LogFile(), d.args...)
	if err != nil {
		d.lab.t.Fatalf("%v", err)
	}
	d.proc = proc
}

// Flags gives the program more flags, from its next start on. They go before
// those that it has.
func (d *Daemon) Flags(flags ...string) { d.args = append(d.args, flags...) }

// WaitReady waits until the program says that it is ready.
func (d *Daemon) WaitReady() {
	d.lab.t.Helper()
	d.lab.Eventually(d.name+" is ready", d.Ready)
}

// Ready says whether the program has seen the cluster and done its first pass.
func (d *Daemon) Ready() error {
	if !d.Alive() {
		return giveUp{fmt.Errorf("%s has ended:\n%s", d.name, tail(d.LogFile(), 4096))}
	}
	_, err := d.host.Get(d.ready)
	return err
}

// Name returns what the program is called; a controller has it for its identity.
func (d *Daemon) Name() string { return d.name }

// Alive is whether the program runs.
func (d *Daemon) Alive() bool { return d.proc != nil && d.proc.alive() }

// PID returns the number of the process.
func (d *Daemon) PID() int { return d.proc.cmd.Process.Pid }

// Kill is kill -9.
func (d *Daemon) Kill() { d.proc.kill() }

// Stop sends SIGTERM and waits: the planned end.
func (d *Daemon) Stop() {
	d.lab.t.Helper()
	if err := d.proc.stop(stopWithin); err != nil {
		d.lab.t.Errorf("%v", err)
	}
}

// Freeze halts the program without ending it.
func (d *Daemon) Freeze() { d.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (d *Daemon) Thaw() { d.signal(syscall.SIGCONT) }

func (d *Daemon) signal(sig syscall.Signal) {
	d.lab.t.Helper()
	if err := d.proc.signal(sig); err != nil {
		d.lab.t.Fatalf("%v", err)
	}
}

// RSS returns the resident memory in bytes.
func (d *Daemon) RSS() int64 { d.lab.t.Helper(); return d.memory("VmRSS") }

// PeakRSS returns the most resident memory that this run ever had, in bytes.
func (d *Daemon) PeakRSS() int64 { d.lab.t.Helper(); return d.memory("VmHWM") }

func (d *Daemon) memory(field string) int64 {
	d.lab.t.Helper()
	n, err := d.proc.memory(field)
	if err != nil {
		d.lab.t.Fatalf("%v", err)
	}
	return n
}

// CPU returns the processor time that this run has used.
func (d *Daemon) CPU() time.Duration {
	d.lab.t.Helper()
	used, err := d.proc.cpu()
	if err != nil {
		d.lab.t.Fatalf("%v", err)
	}
	return used
}

// LogFile is where the output of all its runs is.
func (d *Daemon) LogFile() string { return d.lab.cp.log(d.lab.name + "-" + d.name) }

// Said returns how many lines of its output, of all its runs, hold text.
func (d *Daemon) Said(text string) int {
	d.lab.t.Helper()
	log, err := os.ReadFile(d.LogFile())
	if err != nil {
		d.lab.t.Fatalf("reading what %s has said: %v", d.name, err)
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// panicked says whether one of the runs ended in a panic.
func (d *Daemon) panicked() bool {
	log := tail(d.LogFile(), 1<<20)
	return strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:")
}
