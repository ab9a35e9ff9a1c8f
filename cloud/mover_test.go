package cloud

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestPlanMoves(t *testing.T) {
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) }
	at := func(i int, machine string) FoundAddress {
		return FoundAddress{Found: Found{ID: fmt.Sprint(i), State: Ready, Addrs: []netip.Addr{addr(i)}}, Instance: Instance{ID: machine}}
	}
	to := func(machine string, steady bool, able ...string) Placement {
		p := Placement{To: Target{Node: machine, Instance: Instance{ID: machine}}, Able: map[string]bool{}, Steady: steady}
		for _, a := range append(able, machine) {
			p.Able[a] = true
		}
		return p
	}
	gone := at(1, "a")
	gone.State = Deleting
	for name, c := range map[string]struct {
		want map[netip.Addr]Placement
		have []FoundAddress
		text string
	}{
		"nothing is wanted of it":            {nil, []FoundAddress{at(1, "a")}, ""},
		"it is there":                        {map[netip.Addr]Placement{addr(1): to("a", true)}, []FoundAddress{at(1, "a")}, ""},
		"it is nowhere":                      {map[netip.Addr]Placement{addr(1): to("a", false)}, []FoundAddress{at(1, "")}, "1→a dark"},
		"it is where nobody serves it":       {map[netip.Addr]Placement{addr(1): to("b", false, "c")}, []FoundAddress{at(1, "a")}, "1→b dark"},
		"it is where it could be":            {map[netip.Addr]Placement{addr(1): to("b", true, "a")}, []FoundAddress{at(1, "a")}, "1→b"},
		"who should have it has just come":   {map[netip.Addr]Placement{addr(1): to("b", false, "a")}, []FoundAddress{at(1, "a")}, ""},
		"it is being given back":             {map[netip.Addr]Placement{addr(1): to("b", true)}, []FoundAddress{gone}, ""},
		"what is dark first":                 {map[netip.Addr]Placement{addr(1): to("b", true, "a"), addr(2): to("b", true)}, []FoundAddress{at(1, "a"), at(2, "a")}, "2→b dark, 1→b"},
		"what the cloud does not have waits": {map[netip.Addr]Placement{addr(3): to("b", true)}, []FoundAddress{at(1, "a")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := ""
			for i, m := range PlanMoves(c.want, c.have) {
				if i > 0 {
					text += ", "
				}
				text += m.Address.ID + "→" + m.To.Node
				if m.Dark {
					text += " dark"
				}
			}
			if text != c.text {
				t.Errorf("PlanMoves() = %q, want %q", text, c.text)
			}
		})
	}
}

// Whatever there is, carrying out the plan leaves nothing to plan, nothing is moved twice,
// what is served goes to no node that has just come, and what is dark is not left so.
func TestPlanMovesProperties(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		machines := []string{"a", "b", "c", "d"}
		want, have := map[netip.Addr]Placement{}, []FoundAddress{}
		for i := range r.IntN(30) {
			a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
			have = append(have, FoundAddress{Found: Found{ID: fmt.Sprint(i), State: Ready, Addrs: []netip.Addr{a}}, Instance: Instance{ID: append(machines, "")[r.IntN(5)]}})
			if r.IntN(5) == 0 {
				continue
			}
			able := machines[r.IntN(4):]
			p := Placement{To: Target{Node: able[0], Instance: Instance{ID: able[0]}}, Able: map[string]bool{}, Steady: r.IntN(2) == 0}
			for _, m := range able {
				p.Able[m] = true
			}
			want[a] = p
		}
		moves := PlanMoves(want, have)
		for _, m := range moves {
			i := slices.IndexFunc(have, func(a FoundAddress) bool { return a.ID == m.Address.ID })
			if p := want[m.Address.Addrs[0]]; m.Dark == p.Able[have[i].Instance.ID] || !m.Dark && !p.Steady {
				t.Errorf("seed %d: %+v of %+v", seed, m, p)
			}
			have[i].Instance = m.To.Instance
		}
		if again := PlanMoves(want, have); len(again) != 0 {
			t.Errorf("seed %d: %v are left", seed, again)
		}
		for _, a := range have {
			if p, ok := want[a.Addrs[0]]; ok && !p.Able[a.Instance.ID] {
				t.Errorf("seed %d: %s is where nobody serves it", seed, a.Addrs[0])
			}
		}
	}
}

// What was asked for before an address was routed does not say where it is now.
func TestAnAnswerMayBeOld(t *testing.T) {
	o := Owner{Cluster: "c", UID: "u", Namespace: "a", Name: "web"}
	at := func(machine string) FoundAddress {
		return FoundAddress{Found: Found{ID: "1", Owner: o, State: Ready}, Instance: Instance{ID: machine}}
	}
	var b book
	asked := time.Now()
	b.put(o, []FoundAddress{at("a")}, asked)
	time.Sleep(time.Millisecond)
	b.routed("1", Instance{ID: "b"})
	b.put(o, []FoundAddress{at("a")}, asked)
	if got := b.known()[0].Instance.ID; got != "b" {
		t.Errorf("by an old answer it is at %s", got)
	}
	b.put(o, []FoundAddress{at("c")}, time.Now())
	if got := b.known()[0].Instance.ID; got != "c" {
		t.Errorf("by a new answer it is at %s", got)
	}
	b.put(o, nil, time.Now())
	if len(b.known()) != 0 || len(b.sent) != 0 {
		t.Errorf("what is gone is remembered: %v, %v", b.known(), b.sent)
	}
}

// What is lent is forgotten with the last Service that names it.
func TestWhatIsLentIsForgotten(t *testing.T) {
	var b book
	b.use("u", "mine")
	b.lent["mine"], b.all["1"] = lent{id: "1"}, FoundAddress{Found: Found{ID: "1"}}
	b.use("v", "mine")
	b.leave("u")
	if len(b.known()) != 1 {
		t.Error("it is forgotten though a Service names it")
	}
	b.leave("v")
	if len(b.known()) != 0 || len(b.lent) != 0 || len(b.uses) != 0 || len(b.left) != 0 {
		t.Errorf("%v, %v, %v, %v", b.known(), b.lent, b.uses, b.left)
	}
}
