package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// A MAC is a hardware address, to be compared.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// A Voice is one packet in which a host says that an address is at it.
type Voice struct {
	At  time.Time
	MAC MAC
}

// A Record is who has spoken for one address, while it was asked for every so
// often. Both lists are in order of time.
type Record struct {
	Began, Ended time.Time
	Every        time.Duration
	Answers      []Voice
	Greetings    []Voice // that nobody had asked for, to all
}

// A Hold is a time in which one host answered again and again.
type Hold struct {
	MAC      MAC
	From, To time.Time
}

func (h Hold) String() string {
	return fmt.Sprintf("%s for %s from %s", h.MAC, h.To.Sub(h.From).Round(time.Millisecond), h.From.Format("05.000"))
}

// lapse is how long a host may be silent and still hold the address: some
// questions are lost or late where the machine is busy.
func (r Record) lapse() time.Duration { return max(10*r.Every, 100*time.Millisecond) }

// Holds returns who held the address when, by when they began.
func (r Record) Holds() []Hold {
	var holds []Hold
	last := map[MAC]int{} // in holds
	for _, a := range r.Answers {
		i, known := last[a.MAC]
		if known && a.At.Sub(holds[i].To) <= r.lapse() {
			holds[i].To = a.At
			continue
		}
		last[a.MAC] = len(holds)
		holds = append(holds, Hold{a.MAC, a.At, a.At})
	}
	return holds
}

// A Double is a time in which two hosts answered, to the same questions or by
// turns.
type Double struct {
	A, B MAC
	From time.Time
	For  time.Duration
}

func (d Double) String() string {
	return fmt.Sprintf("%s and %s both answered for %s from %s on",
		d.A, d.B, d.For.Round(time.Millisecond), d.From.Format("05.000"))
}

// Doubles returns where two hosts answered for longer than grace. One that
// answers no more once another has begun to is none.
func (r Record) Doubles(grace time.Duration) []Double {
	var doubles []Double
	holds := r.Holds()
	for i, a := range holds {
		for _, b := range holds[i+1:] {
			to := a.To
			if b.To.Before(to) {
				to = b.To
			}
			if both := to.Sub(b.From); a.MAC != b.MAC && both > grace {
				doubles = append(doubles, Double{a.MAC, b.MAC, b.From, both})
			}
		}
	}
	return doubles
}

// Strays returns the holds of those who answered while another did before them
// and after, for however short a time.
func (r Record) Strays() []Hold {
	holds := r.Holds()
	return slices.DeleteFunc(slices.Clone(holds), func(h Hold) bool {
		return !slices.ContainsFunc(holds, func(o Hold) bool {
			return o.MAC != h.MAC && o.From.Before(h.From) && h.To.Before(o.To)
		})
	})
}

// A Change is when an address got another owner.
type Change struct {
	At       time.Time
	From, To MAC
}

// Changes returns how the address moved. Strays do not count.
func (r Record) Changes() []Change {
	var changes []Change
	var owner Hold
	for i, h := range r.Holds() {
		switch {
		case i > 0 && !h.To.After(owner.To): // a stray, or one that has just lost it
			continue
		case i > 0 && h.MAC != owner.MAC:
			changes = append(changes, Change{h.From, owner.MAC, h.MAC})
		}
		owner = h
	}
	return changes
}

// Owner returns who held the address in the end.
func (r Record) Owner() (MAC, error) {
	n := len(r.Answers)
	if n == 0 || r.Ended.Sub(r.Answers[n-1].At) > r.lapse() {
		return MAC{}, errors.New("nobody answers in the end")
	}
	last := r.Answers[n-1]
	for _, a := range slices.Backward(r.Answers) {
		if last.At.Sub(a.At) > 3*r.Every {
			break
		}
		if a.MAC != last.MAC {
			return MAC{}, fmt.Errorf("both %s and %s answer in the end", a.MAC, last.MAC)
		}
	}
	return last.MAC, nil
}

// Longest returns the longest time without any answer.
func (r Record) Longest() time.Duration {
	var longest time.Duration
	last := r.Began
	for _, a := range r.Answers {
		longest, last = max(longest, a.At.Sub(last)), a.At
	}
	return max(longest, r.Ended.Sub(last))
}

// Since returns the part of the record that begins at t.
func (r Record) Since(t time.Time) Record {
	after := func(voices []Voice) []Voice {
		i, _ := slices.BinarySearchFunc(voices, t, func(v Voice, t time.Time) int { return v.At.Compare(t) })
		return voices[i:]
	}
	r.Answers, r.Greetings = after(r.Answers), after(r.Greetings)
	if r.Began.Before(t) {
		r.Began = t
	}
	return r
}

// Of returns what one host has said of the record.
func (r Record) Of(mac MAC) Record {
	others := func(v Voice) bool { return v.MAC != mac }
	r.Answers = slices.DeleteFunc(slices.Clone(r.Answers), others)
	r.Greetings = slices.DeleteFunc(slices.Clone(r.Greetings), others)
	return r
}

// note adds a voice. Two readers of one socket do not exist, but packets may
// bear times that are not quite in order.
func note(voices []Voice, v Voice) []Voice {
	i, _ := slices.BinarySearchFunc(voices, v, func(a, b Voice) int {
		return cmp.Or(a.At.Compare(b.At), -1) // after those of the same time
	})
	return slices.Insert(voices, i, v)
}
