package kerneltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"

	"github.com/herald-lb/herald/speaker/steer"
)

// some are changes of every kind, in the order in which rows join.
var some = []steer.Change{
	Pods(steer.Add, "10.244.1.0/24"),
	Pods(steer.Add, "fd10:244:1::/64"),
	Server(steer.Add, web, "rr", true),
	Dest(steer.Add, web, "10.0.0.7:8080", 1),
	Dest(steer.Add, web, "10.0.0.8:8080", 0),
	Server(steer.Add, web6, "wrr", false),
	Dest(steer.Add, web6, "[fd00::7]:8080", 4),
	Addr(steer.Add, "192.0.2.1"),
	Addr(steer.Add, "2001:db8::1"),
}

func testLifecycle(t *testing.T, newKernel New) {
	ctx := context.Background()
	k := prepared(t, newKernel)
	if k.Name() == "" {
		t.Error("Name() is empty")
	}
	expect(t, k, steer.NewTable())

	if err := k.Apply(ctx, some); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
	want := tableOf(t, some...)
	if err := k.Prepare(ctx); err != nil {
		t.Errorf("Prepare() with rows in place = %v", err)
	}
	expect(t, k, want)

	if err := k.Apply(ctx, nil); err != nil {
		t.Errorf("Apply() of nothing = %v", err)
	}
	for range 2 { // removing what is not there is no error
		if err := k.Remove(ctx); err != nil {
			t.Errorf("Remove() = %v", err)
		}
	}
	if err := k.Prepare(ctx); err != nil {
		t.Errorf("Prepare() after Remove() = %v", err)
	}
	expect(t, k, steer.NewTable())
	if err := k.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// bad are changes that no kernel can make, of a server that is there.
var bad = []steer.Change{
	Dest(steer.Add, web, "10.0.0.9:8080", -1),
	Dest(steer.Add, web, "10.0.0.9:8080", 65536),
	Dest(steer.Add, web, "[fd00::7]:8080", 1),
	Server(steer.Set, dns, "rr", false),
	Dest(steer.Del, web, "10.0.0.9:8080", 0),
	Addr(steer.Del, "192.0.2.9"),
	Server(steer.Add, web, "rr", false),
}

func testFailures(t *testing.T, newKernel New) {
	ctx := context.Background()
	k := prepared(t, newKernel)
	// A good change stands before, between and after the bad ones.
	changes := append([]steer.Change{}, some[:3]...)
	for i, c := range some[3:] {
		changes = append(changes, c)
		if i < len(bad) {
			changes = append(changes, bad[i])
		}
	}
	changes = append(changes, bad[len(some)-3:]...)
	err := k.Apply(ctx, changes)
	if err == nil {
		t.Fatal("Apply() of changes that cannot be made reports nothing")
	}
	if !names(err, bad, nil) {
		t.Errorf("error does not name every bad change:\n%v", err)
	}
	if !names(err, nil, some[3:]) {
		t.Errorf("error names good changes:\n%v", err)
	}
	if !errors.Is(err, os.ErrExist) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error joins not all causes:\n%v", err)
	}
	expect(t, k, tableOf(t, some...))
}

// testWalk makes many small random changes, good and bad, and compares the
// kernel with the model after each step. In the end it empties the kernel.
func testWalk(t *testing.T, newKernel New) {
	ctx := context.Background()
	k := prepared(t, newKernel)
	r := rand.New(rand.NewPCG(1, 2))
	want := steer.NewTable()
	for step := range 60 {
		changes := make([]steer.Change, 1+r.IntN(12))
		var errs []error
		for i := range changes {
			changes[i] = anyChange(r, k.Self().Tiers)
			errs = append(errs, Model(want, changes[i]))
		}
		promised := errors.Join(errs...)
		err := k.Apply(ctx, changes)
		if (err == nil) != (promised == nil) {
			t.Fatalf("step %d: Apply(%v) = %v, want %v", step, changes, err, promised)
		}
		for _, cause := range []error{os.ErrExist, os.ErrNotExist} {
			if errors.Is(err, cause) != errors.Is(promised, cause) {
				t.Fatalf("step %d: Apply(%v) = %v, want %v", step, changes, err, promised)
			}
		}
		expect(t, k, want)
		if t.Failed() {
			t.Fatalf("step %d: after %v", step, changes)
		}
	}
	if err := k.Apply(ctx, emptying(want)); err != nil {
		t.Errorf("Apply() that empties = %v", err)
	}
	expect(t, k, steer.NewTable())
}

// anyChange draws from a world so small that changes often meet.
func anyChange(r *rand.Rand, tiers bool) steer.Change {
	verb := []steer.Verb{steer.Add, steer.Add, steer.Set, steer.Del}[r.IntN(4)]
	ip, target := "192.0.2.%d", "10.0.0.%d:8080"
	if r.IntN(3) == 0 {
		ip, target = "2001:db8::%d", "[fd00::%d]:8080"
	}
	addr := netip.MustParseAddr(fmt.Sprintf(ip, 1+r.IntN(2)))
	switch kind := r.IntN(11); {
	case kind == 0:
		return addrChange(verb, addr)
	case kind == 1:
		prefix := netip.PrefixFrom(addr, addr.BitLen()-1)
		return steer.Change{Verb: addOrDel(verb), Pods: prefix.Masked()}
	case kind == 2 && tiers:
		return steer.Change{Verb: addOrDel(verb), Node: addr}
	}
	c := steer.Change{Verb: verb, Virtual: Virtual(
		netip.AddrPortFrom(addr, 80).String() + []string{"/tcp", "/udp"}[r.IntN(2)])}
	if tiers {
		c.Virtual.Tier = []steer.Tier{steer.Single, steer.Front, steer.Back}[r.IntN(3)]
	}
	if r.IntN(4) == 0 {
		if verb != steer.Del {
			c.Server = anyServer(r, c.Virtual)
		}
		return c
	}
	c.Real = netip.MustParseAddrPort(fmt.Sprintf(target, 1+r.IntN(5)))
	if verb != steer.Del {
		c.Weight = []int{0, 1, 1, 2, 7}[r.IntN(5)]
	}
	return c
}

// anyServer draws what can be set on v.
func anyServer(r *rand.Rand, v steer.Virtual) steer.Server {
	s := steer.Server{Scheduler: []string{"rr", "wrr"}[r.IntN(2)], Affinity: []uint32{0, 0, 60}[r.IntN(3)]}
	switch v.Tier {
	case steer.Single:
		s.SNAT = r.IntN(2) == 0
		if v.Addr.Addr().Is4() {
			s.Sources = []steer.Sources{"", "", "10.0.0.0/8 192.0.2.0/24", "10.0.0.0/8", steer.Nobody}[r.IntN(5)]
		}
	case steer.Back:
		s.Direct = r.IntN(2) == 0
	}
	return s
}

func addrChange(verb steer.Verb, addr netip.Addr) steer.Change {
	return steer.Change{Verb: addOrDel(verb), Addr: addr}
}

// addOrDel turns Set, which addresses and prefixes have no use for, into Add.
func addOrDel(verb steer.Verb) steer.Verb {
	if verb == steer.Set {
		return steer.Add
	}
	return verb
}

// emptying removes all rows, destinations before their servers.
func emptying(t steer.Table) []steer.Change {
	var changes []steer.Change
	for a := range t.Addrs {
		changes = append(changes, steer.Change{Verb: steer.Del, Addr: a})
	}
	for p := range t.Pods {
		changes = append(changes, steer.Change{Verb: steer.Del, Pods: p})
	}
	for a := range t.Nodes {
		changes = append(changes, steer.Change{Verb: steer.Del, Node: a})
	}
	for d := range t.Dests {
		changes = append(changes, steer.Change{Verb: steer.Del, Virtual: d.Virtual, Real: d.Real})
	}
	for v := range t.Servers {
		changes = append(changes, steer.Change{Verb: steer.Del, Virtual: v})
	}
	return changes
}
