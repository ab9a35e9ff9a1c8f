// Command gotest runs "go test" and remembers what was skipped.
//
//	gotest run -o FILE [-each] -- GO-TEST-ARGS...  runs tests, shows failures, writes outcomes to FILE
//	gotest skipped FILE...                       says which tests ran in none of these runs, and why
//
// The same tests run in several places: on this machine's kernel, in a network
// namespace, in User-Mode Linux. One that is skipped here and runs there was
// not skipped. Where $CI is set, a test that ran nowhere is a failure.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	err := command(os.Args[1:], os.Stdout)
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		os.Exit(exit.ExitCode()) // go test has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func command(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("want run or skipped")
	}
	switch args[0] {
	case "run":
		flags := flag.NewFlagSet("run", flag.ContinueOnError)
		file := flags.String("o", "", "file to write the outcomes to")
		each := flags.Bool("each", false, "show each test as it ends")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return run(flags.Args(), *file, *each, out)
	case "skipped":
		return skipped(args[1:], os.Getenv("CI") != "", out)
	}
	return fmt.Errorf("reading arguments: %q is neither run nor skipped", args[0])
}

// run runs go test and writes the outcomes to file, also when tests failed.
func run(args []string, file string, each bool, out io.Writer) error {
	test := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	if err := test.Start(); err != nil {
		return fmt.Errorf("starting go test: %w", err)
	}
	s := scribe{out: out, each: each, lines: map[key][]string{}}
	readErr := s.read(events)
	testErr := test.Wait()
	s.complaints()
	return errors.Join(testErr, readErr, writeOutcomes(file, s.outcomes))
}

// skipped prints the tests that no run has run. With strict they are an error.
func skipped(files []string, strict bool, out io.Writer) error {
	var all []outcome
	for _, file := range files {
		o, err := readOutcomes(file)
		if err != nil {
			return err
		}
		all = append(all, o...)
	}
	never, ran := neverRan(all)
	fmt.Fprintf(out, "%d tests ran, %d were skipped\n", ran, len(never))
	for _, o := range never {
		fmt.Fprintf(out, "  skipped: %s %s: %s\n", o.Package, o.Test, o.Reason)
	}
	if strict && len(never) > 0 {
		return errors.New("in CI nothing may be skipped")
	}
	return nil
}
