package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A terminal prints the story. It uses colours only where somebody looks.
type terminal struct {
	out    *os.File
	colour bool
	steps  int
}

func newTerminal(out *os.File) *terminal {
	info, err := out.Stat()
	tty := err == nil && info.Mode()&os.ModeCharDevice != 0
	// A guest's console is a terminal that nobody may look at: it has no TERM.
	term := os.Getenv("TERM")
	return &terminal{out: out, colour: tty && term != "" && term != "dumb" && os.Getenv("NO_COLOR") == ""}
}

// paint wraps text in one of the SGR codes of ECMA-48.
func (t *terminal) paint(code, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (t *terminal) title(text string) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint("1", text))
}

// step begins a new step.
func (t *terminal) step(text string) {
	t.steps++
	head := fmt.Sprintf("── %d. %s ", t.steps, text)
	fmt.Fprintf(t.out, "\n%s\n", t.paint("1", head+strings.Repeat("─", max(2, 78-len([]rune(head))))))
}

func (t *terminal) say(text string) { fmt.Fprintln(t.out, text) }

// command prints a command as it is typed at a prompt.
func (t *terminal) command(prompt, command string) {
	fmt.Fprintf(t.out, "%s %s\n", t.paint("36", prompt+"$"), command)
}

// output prints what a command has printed.
func (t *terminal) output(text string) {
	if text = strings.TrimRight(text, "\n"); text != "" {
		fmt.Fprintln(t.out, text)
	}
}

// ok prints what was checked, and how long it took where that says something.
func (t *terminal) ok(text string, took time.Duration) {
	if took > 0 {
		text += " " + t.paint("2", "("+round(took)+")")
	}
	fmt.Fprintf(t.out, "%s %s\n", t.paint("32", "✓"), text)
}

// round writes a time with three digits or so.
func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
