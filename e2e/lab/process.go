package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a program that runs inside a namespace, with its output in a
// file. It dies with this process, whatever happens.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// start runs args in the namespace. It does not use `ip netns exec`, which
// hides the mounts that the program makes.
func (ns *Namespace) start(name, logFile string, args ...string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer out.Close()
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := ns.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal reaches the program and all that it started.
func (p *process) signal(sig syscall.Signal) error {
	if !p.alive() {
		return fmt.Errorf("sending %s to %s: it has ended: %w", sig, p.name, errors.Join(p.err, os.ErrProcessDone))
	}
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}

// kill ends the program at once and waits until it is gone.
func (p *process) kill() {
	if p == nil {
		return
	}
	if p.alive() {
		_ = p.signal(syscall.SIGKILL)
	}
	<-p.done
}

// stop asks the program to end, and says if it did not, or not well.
func (p *process) stop(limit time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("stopping %s: still there %s after SIGTERM", p.name, limit)
	}
	if p.err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, p.err)
	}
	return nil
}

// memory returns a field of /proc/PID/status in bytes, VmRSS or VmHWM.
func (p *process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("reading memory of %s: no %s", p.name, field)
}

// cpu returns the processor time that the program has used, in user mode and in
// the kernel.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return cpuTime(string(stat))
}

// cpuTime reads utime and stime, fields 14 and 15 of proc_pid_stat(5). They
// come in clock ticks, which Linux shows to programs as 100 a second everywhere.
func cpuTime(stat string) (time.Duration, error) {
	const tick = time.Second / 100
	// The second field, the name in brackets, may hold spaces and brackets.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const first = 3 // the number of fields[0]
	if len(fields) <= 15-first {
		return 0, fmt.Errorf("reading processor times: %q ends too early", stat)
	}
	user, err := strconv.ParseInt(fields[14-first], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading processor times: %w", err)
	}
	system, err := strconv.ParseInt(fields[15-first], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading processor times: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}

// tail returns the last lines of a file, at most limit bytes.
func tail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		_, _ = f.Seek(-limit, 2)
	}
	buf := make([]byte, limit)
	n, _ := f.Read(buf)
	return string(buf[:n])
}
