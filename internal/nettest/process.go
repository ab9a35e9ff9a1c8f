package nettest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Role is what a process of its own plays in a test, so that what it costs
// can be told from what the test costs. It sets going what there is to do, and
// returns what says how that is: a value for JSON. Its process ends as soon as
// the test does, whatever it is doing.
type Role func(arg string) (facts func() any, err error)

// roleVariable tells a process its role, and the argument behind a space.
const roleVariable = "NETTEST_ROLE"

// Main is the TestMain of a package whose tests Spawn: it runs them or, in a
// process that they have started, its role.
func Main(m *testing.M, roles map[string]Role) {
	name, arg, cast := strings.Cut(os.Getenv(roleVariable), " ")
	if !cast {
		os.Exit(m.Run())
	}
	if err := play(roles[name], arg, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "playing %q: %v\n", name, err)
		os.Exit(1)
	}
}

// A report is the answer to one line of questions.
type report struct {
	CPU   time.Duration // used by the process so far
	Facts any
}

func play(role Role, arg string, questions io.Reader, answers io.Writer) error {
	if role == nil {
		return errors.New("no such role")
	}
	facts, err := role(arg)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(questions); lines.Scan(); {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			return fmt.Errorf("asking what was used: %w", err)
		}
		r := report{time.Duration(used.Utime.Nano() + used.Stime.Nano()), facts()}
		if err := json.NewEncoder(answers).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// A Process plays a role.
type Process struct {
	role string
	in   io.Writer
	out  *json.Decoder
}

// Spawn has a process of its own play a role inside n, until t ends.
func (n *Namespace) Spawn(t testing.TB, role, arg string) *Process {
	t.Helper()
	self, err := os.Executable()
	must(t, n.Name, err)
	said := &bytes.Buffer{}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role+" "+arg)
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	must(t, n.Name, err)
	out, err := cmd.StdoutPipe()
	must(t, n.Name, err)
	must(t, n.Name, n.Do(cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // by that
		if t.Failed() {
			t.Logf("%s, playing %s, has said:\n%s", n.Name, role, said)
		}
	})
	return &Process{role, in, json.NewDecoder(out)}
}

// Ask fills facts with what the role says, and returns what CPU time the
// process has used since it began.
func (p *Process) Ask(t testing.TB, facts any) time.Duration {
	t.Helper()
	r := report{Facts: facts}
	_, err := fmt.Fprintln(p.in)
	if err == nil {
		err = p.out.Decode(&r)
	}
	must(t, "asking the process that plays "+p.role, err)
	return r.CPU
}

// Spin is a Role that keeps a machine busy: it computes on as many CPUs as
// there are, and has nothing to say.
func Spin(string) (facts func() any, err error) {
	for range runtime.NumCPU() {
		go func() {
			for n := 0; ; n++ {
			}
		}()
	}
	return func() any { return nil }, nil
}
