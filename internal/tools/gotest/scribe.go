package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// An event is one line of go test -json; see "go doc test2json".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// A key names a test, or a package where Test is empty.
type key struct{ Package, Test string }

// A scribe turns events into what a person reads, and into outcomes.
type scribe struct {
	out  io.Writer
	each bool

	lines    map[key][]string // what tests that have not ended have printed
	outcomes []outcome
}

// read reads events until r ends. What is not an event is shown as it is.
func (s *scribe) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(s.out, lines.Text())
			continue
		}
		s.hear(e)
	}
	return lines.Err()
}

func (s *scribe) hear(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.print(k, e.Output)
	case "pass", "skip", "fail":
		s.end(k, e)
	}
}

// print shows what packages say at once, and keeps what tests say until it is
// known how they end.
func (s *scribe) print(k key, line string) {
	switch {
	case k.Test != "":
		s.lines[k] = append(s.lines[k], line)
	case line == "PASS\n", strings.Contains(line, "[no test files]"), strings.HasPrefix(line, "coverage:"):
	default:
		fmt.Fprint(s.out, line)
	}
}

func (s *scribe) end(k key, e event) {
	if k.Test == "" {
		s.endPackage(k.Package, e.Action)
		return
	}
	o := outcome{Package: k.Package, Test: k.Test, Outcome: e.Action}
	switch e.Action {
	case "fail":
		fmt.Fprint(s.out, strings.Join(s.lines[k], ""))
		o.Reason = complaint(s.lines[k])
	case "skip":
		o.Reason = reason(s.lines[k])
	}
	if s.each && !strings.Contains(k.Test, "/") {
		fmt.Fprintf(s.out, "    %-4s %5.1f s  %s\n", e.Action, e.Elapsed, k.Test)
	}
	s.outcomes = append(s.outcomes, o)
	delete(s.lines, k)
}

// endPackage shows what the tests printed that never ended, for a package that
// failed: in one of them it panicked, or ran out of time.
func (s *scribe) endPackage(name, action string) {
	for _, k := range slices.SortedFunc(maps.Keys(s.lines), compareKeys) {
		if k.Package != name {
			continue
		}
		if action == "fail" {
			fmt.Fprint(s.out, strings.Join(s.lines[k], ""))
		}
		delete(s.lines, k)
	}
}

func compareKeys(a, b key) int {
	return strings.Compare(a.Package+" "+a.Test, b.Package+" "+b.Test)
}

// complaints prints once more, in a line each, what failed and why: among
// everything that tests print it may be far up.
func (s *scribe) complaints() {
	for _, o := range s.outcomes {
		if o.Outcome == "fail" {
			fmt.Fprintf(s.out, "  failed: %s %s: %s\n", o.Package, o.Test, o.Reason)
		}
	}
}

// complaint is everything that a failed test said of itself, with line numbers,
// or the end of it: what is a complaint and what only chatter is not marked.
func complaint(lines []string) string {
	var said []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); strings.Contains(line, "_test.go:") {
			said = append(said, line[:min(len(line), 400)])
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said[max(0, len(said)-12):], " | ")
}

// reason is what a test said last, before it was skipped: the text of
// t.Skip, without the line number.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}
