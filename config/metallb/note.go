package metallb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A Level says how much a Note matters.
type Level int

// The levels of Notes.
const (
	Done      Level = iota // translated, or of no meaning to Herald
	Attention              // translated, but somebody should look
	Missing                // without equivalent
)

// A Note says what has become of a field of an object.
type Note struct {
	Level  Level
	Object string // kind and name, as in "IPAddressPool metallb-system/first"
	Field  string // path of the field, "" for the object as a whole
	Text   string
}

// String returns n as one line.
func (n Note) String() string {
	line := n.Object + ": " + n.Text
	if n.Field != "" {
		line = n.Object + ": " + n.Field + ": " + n.Text
	}
	return oneLine(line)
}

// oneLine returns s without what could end a line, or a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// An origin is where an object stands in the input.
type origin struct {
	object string
	field  func(path string) string // from the path in an object of today's form; nil if it is one
}

// notes collects Notes.
type notes struct{ list []Note }

func (n *notes) add(level Level, o origin, field, format string, args ...any) {
	if o.field != nil {
		field = o.field(field)
	}
	n.list = append(n.list, Note{Level: level, Object: o.object, Field: field, Text: fmt.Sprintf(format, args...)})
}

// lostSince returns what has been noted to have no equivalent since the list of notes
// was as long as before.
func (n *notes) lostSince(before int) []string {
	var lost []string
	for _, m := range n.list[before:] {
		if m.Level == Missing {
			lost = append(lost, m.String())
		}
	}
	return lost
}

// sorted returns the notes by object and field, each once. What is without
// equivalent, even in part, is not called translated.
func (n *notes) sorted() []Note {
	lost := map[[2]string]bool{}
	for _, m := range n.list {
		if m.Level == Missing {
			lost[[2]string{m.Object, m.Field}] = true
		}
	}
	list := slices.DeleteFunc(n.list, func(m Note) bool {
		whole, _, _ := strings.Cut(m.Field, ".")
		return m.Level == Done && (lost[[2]string{m.Object, m.Field}] || whole == "spec" && lost[[2]string{m.Object, whole}])
	})
	slices.SortStableFunc(list, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field),
			cmp.Compare(b.Level, a.Level), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(list)
}
