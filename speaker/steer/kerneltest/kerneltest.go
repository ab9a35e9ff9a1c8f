// Package kerneltest holds every steer.Kernel to the same promises.
//
// The fake, IPVS and nftables run through one table and one random walk, so
// that what is tested against the fake holds in the kernel. Only what all of
// them know is used here: schedulers rr and wrr, addresses of both families
// if the kernel under test has IPv6.
package kerneltest

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// New makes a kernel under test, empty and not yet prepared.
type New func(t testing.TB) steer.Kernel

// Run runs all tests against kernels that newKernel makes, one for each.
func Run(t *testing.T, newKernel New) {
	t.Run("table", func(t *testing.T) { testTable(t, newKernel) })
	t.Run("lifecycle", func(t *testing.T) { testLifecycle(t, newKernel) })
	t.Run("one failure does not stop the others", func(t *testing.T) { testFailures(t, newKernel) })
	t.Run("random walk", func(t *testing.T) { testWalk(t, newKernel) })
}

// Virtual parses "192.0.2.1:80/tcp" or "front 192.0.2.1:80/tcp".
func Virtual(s string) steer.Virtual {
	for _, tier := range []steer.Tier{steer.Front, steer.Back} {
		if rest, ok := strings.CutPrefix(s, tier.String()+" "); ok {
			v := Virtual(rest)
			v.Tier = tier
			return v
		}
	}
	addr, proto, _ := strings.Cut(s, "/")
	v := steer.Virtual{Addr: netip.MustParseAddrPort(addr)}
	for _, p := range []snapshot.Proto{snapshot.TCP, snapshot.UDP, snapshot.SCTP} {
		if p.String() == proto {
			v.Proto = p
		}
	}
	return v
}

// Node is the change of an address that tunnels may come from.
func Node(verb steer.Verb, addr string) steer.Change {
	return steer.Change{Verb: verb, Node: netip.MustParseAddr(addr)}
}

// Server is the change of a virtual server.
func Server(verb steer.Verb, virtual, scheduler string, snat bool) steer.Change {
	return steer.Change{Verb: verb, Virtual: Virtual(virtual),
		Server: steer.Server{Scheduler: scheduler, SNAT: snat}}
}

// Dest is the change of a destination.
func Dest(verb steer.Verb, virtual, target string, weight int) steer.Change {
	return steer.Change{Verb: verb, Virtual: Virtual(virtual),
		Real: netip.MustParseAddrPort(target), Weight: weight}
}

// Addr is the change of an address.
func Addr(verb steer.Verb, addr string) steer.Change {
	return steer.Change{Verb: verb, Addr: netip.MustParseAddr(addr)}
}

// Pods is the change of a prefix.
func Pods(verb steer.Verb, prefix string) steer.Change {
	return steer.Change{Verb: verb, Pods: netip.MustParsePrefix(prefix)}
}

// Model makes one change of a Table, with the errors a Kernel promises.
func Model(t steer.Table, c steer.Change) error {
	d := steer.Dest{Virtual: c.Virtual, Real: c.Real}
	switch c.Kind() {
	case steer.KindAddr:
		return change(t.Addrs, c.Verb, c.Addr, true)
	case steer.KindPods:
		return change(t.Pods, c.Verb, c.Pods, true)
	case steer.KindNode:
		return change(t.Nodes, c.Verb, c.Node, true)
	case steer.KindDest:
		if _, ok := t.Servers[c.Virtual]; !ok {
			return os.ErrNotExist
		}
		return change(t.Dests, c.Verb, d, c.Weight)
	}
	if err := change(t.Servers, c.Verb, c.Virtual, c.Server); err != nil {
		return err
	}
	if c.Verb == steer.Del {
		for d := range t.Dests {
			if d.Virtual == c.Virtual {
				delete(t.Dests, d)
			}
		}
	}
	return nil
}

func change[K comparable, V any](m map[K]V, verb steer.Verb, k K, v V) error {
	_, ok := m[k]
	switch {
	case verb == steer.Add && ok:
		return os.ErrExist
	case verb != steer.Add && !ok:
		return os.ErrNotExist
	case verb == steer.Del:
		delete(m, k)
	default:
		m[k] = v
	}
	return nil
}

// prepared makes a kernel that is ready for rows.
func prepared(t testing.TB, newKernel New) steer.Kernel {
	t.Helper()
	k := newKernel(t)
	if err := k.Prepare(context.Background()); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
	return k
}

// expect fails t unless the kernel lists exactly want.
func expect(t testing.TB, k steer.Kernel, want steer.Table) {
	t.Helper()
	got, err := k.Table(context.Background())
	if err != nil {
		t.Fatalf("Table() = %v", err)
	}
	if diff := cmp.Diff(want, got, byValue, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Table() differs (-want +got):\n%s", diff)
	}
	holds(t, k, want)
}

// holds fails t unless the kernel says that it holds want, and nothing that
// differs from it in one row.
func holds(t testing.TB, k steer.Kernel, want steer.Table) {
	t.Helper()
	check := func(of steer.Table, should bool, what string) {
		t.Helper()
		if is, err := k.Holds(context.Background(), of); err != nil || is != should {
			t.Errorf("Holds() of %s = %v, %v", what, is, err)
		}
	}
	check(want, true, "what it has")
	other := Virtual("203.0.113.9:9/udp")
	for _, edit := range []struct {
		what string
		edit func(steer.Table)
	}{
		{"a server more", func(t steer.Table) { t.Servers[other] = steer.Server{Scheduler: "rr"} }},
		{"an address more", func(t steer.Table) { t.Addrs[other.Addr.Addr()] = true }},
		{"a server less", func(t steer.Table) { less(t.Servers) }},
		{"an address less", func(t steer.Table) { less(t.Addrs) }},
		{"a destination less", func(t steer.Table) { less(t.Dests) }},
		{"a weight", func(t steer.Table) {
			for d := range t.Dests {
				t.Dests[d]++
				return
			}
		}},
		{"a scheduler", func(t steer.Table) {
			for v, s := range t.Servers {
				s.Scheduler = "lc"
				t.Servers[v] = s
				return
			}
		}},
	} {
		of := want.Clone()
		edit.edit(of)
		check(of, steer.Same(of, want), edit.what)
	}
}

// less takes away one row, if there is any.
func less[K comparable, V any](rows map[K]V) {
	for k := range rows {
		delete(rows, k)
		return
	}
}

// byValue makes go-cmp compare the netip types with ==.
var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// tableOf is what changes make of nothing; every one of them must succeed.
func tableOf(t testing.TB, changes ...steer.Change) steer.Table {
	t.Helper()
	table := steer.NewTable()
	for _, c := range changes {
		if err := Model(table, c); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
	}
	return table
}

// is tells whether err is what was promised; nil promises success.
func is(err, want error) bool {
	if want == nil {
		return err == nil
	}
	return errors.Is(err, want)
}

// names tells whether err names every change, and none of others.
func names(err error, changes, others []steer.Change) bool {
	text := err.Error()
	in := func(c steer.Change) bool { return strings.Contains(text, c.String()) }
	return !slices.ContainsFunc(changes, func(c steer.Change) bool { return !in(c) }) &&
		!slices.ContainsFunc(others, in)
}
