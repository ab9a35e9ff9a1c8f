package l2

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A script is one letter for each half a second: the link is there (+) or not (-).
// What is said of it is s (steady), u (unsteady) or - (nothing).
func TestALinkThatComesAndGoesIsUnsteady(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"one that was always there", "++++", "ssss"},
		{"one that comes, as at a start", "--++", "--ss"},
		{"one that was gone once: a cable was changed", "++--++", "ss--ss"},
		{"twice: two seconds", "+-+-++++++", "s-s-uuuuss"},
		{"three times: four", "+-+-+-+++++++++++", "s-s-u-uuuuuuuusss"},
		{"while it is gone that runs on", "+-+-+---+++++++++++", "s-s-u---uuuuuuuusss"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got strings.Builder
			d := Damper{Ring: func() {}}
			at := time.Unix(1000, 0)
			for _, there := range tt.script {
				links := []snapshot.Link{{Name: "eth1"}} // another, which is always there
				if there == '+' {
					links = append(links, snapshot.Link{Name: "eth0"})
				}
				links = d.Mark(links, at)
				if links[0].Unsteady {
					t.Error("the other link is unsteady")
				}
				switch i := slices.IndexFunc(links, func(l snapshot.Link) bool { return l.Name == "eth0" }); {
				case i < 0:
					got.WriteByte('-')
				case links[i].Unsteady:
					got.WriteByte('u')
				default:
					got.WriteByte('s')
				}
				at = at.Add(time.Second / 2)
			}
			if got.String() != tt.want {
				t.Errorf("there: %s\nsaid:  %s\nwant:  %s", tt.script, got.String(), tt.want)
			}
		})
	}
}

func TestAFlappingLinkIsUnsteadyForSecondsAndForgivenAfterAMinute(t *testing.T) {
	d := Damper{Ring: func() {}}
	at := time.Unix(1000, 0)
	mark := func(there bool) bool {
		var links []snapshot.Link
		if there {
			links = []snapshot.Link{{Name: "eth0"}}
		}
		links = d.Mark(links, at)
		return there && links[0].Unsteady
	}
	flap := func() { mark(false); at = at.Add(100 * time.Millisecond); mark(true) }
	mark(true)
	for range 100 {
		flap()
	}
	at = at.Add(steadyMost - time.Millisecond)
	if !mark(true) {
		t.Error("it is steady too early")
	}
	at = at.Add(time.Millisecond)
	if mark(true) {
		t.Error("it is unsteady for too long")
	}
	at = at.Add(flapMemory)
	flap()
	if mark(true) {
		t.Error("what was a minute ago counts")
	}
	flap()
	if !mark(true) {
		t.Error("what was a moment ago does not count")
	}
	mark(false)
	at = at.Add(flapMemory + time.Second)
	mark(false)
	if len(d.links) != 0 {
		t.Errorf("links that are long gone are kept: %v", d.links)
	}
}

func TestADamperRingsWhenALinkIsSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rings atomic.Int32
		d := Damper{Ring: func() { rings.Add(1) }}
		for _, links := range [][]snapshot.Link{{{Name: "eth0"}}, nil, {{Name: "eth0"}}, nil, {{Name: "eth0"}}} {
			d.Mark(links, time.Now())
		}
		time.Sleep(steadyLeast - time.Millisecond)
		synctest.Wait()
		if rings.Load() != 0 {
			t.Errorf("it has rung %d times too early", rings.Load())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if links := d.Mark([]snapshot.Link{{Name: "eth0"}}, time.Now()); rings.Load() != 1 || links[0].Unsteady {
			t.Errorf("it has rung %d times, unsteady %t", rings.Load(), links[0].Unsteady)
		}
	})
}
