package ipam

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func quota(p Pool, n int32) Pool { p.Quota = n; return p }
func edges(p Pool) Pool          { p.SkipFirstLast = true; return p }

func reserve(w World, addr, whose string) World {
	w.Reserved = map[netip.Addr]string{netip.MustParseAddr(addr): whose}
	return w
}

// resting lets addr rest after owner until the given time; it is time 100.
func resting(w World, addr, owner string, until int64) World {
	w.Now = 100
	w.Resting = append(w.Resting, Rest{netip.MustParseAddr(addr), owner, until})
	return w
}

func TestLimits(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	one := pool("lan", "192.0.2.1")
	runPlans(t, []planTest{{
		"a namespace has as many addresses as its quota, and another one has its own",
		lanOf(quota(lan, 1), request("x/a", in("x")), request("x/b", in("x")), request("y/a", in("y"))),
		[]string{"x/a 192.0.2.1@lan", "x/b IPv4:QuotaExceeded", "y/a 192.0.2.2@lan"},
	}, {
		"whoever shares an address takes nothing of the quota",
		lanOf(quota(lan, 1), request("x/a", in("x"), key("k", 80)), request("x/b", in("x"), key("k", 81)), request("x/c", in("x"), key("k", 80))),
		[]string{"x/a 192.0.2.1@lan", "x/b 192.0.2.1@lan", "x/c IPv4:QuotaExceeded"},
	}, {
		"a claim and its users count once",
		lanOf(quota(lan, 1), claim("c"), user("a", claims("c")), user("b")),
		[]string{"claim x/c 192.0.2.1@lan", "x/a 192.0.2.1@lan", "x/b IPv4:QuotaExceeded"},
	}, {
		"a quota takes nothing away, and another pool may still serve",
		World{Pools: []Pool{quota(lan, 1), pool("wan", "203.0.113.1")}, Requests: []Request{
			request("a", held("192.0.2.1")), request("b", held("192.0.2.2")), request("c", pools("lan", "wan")), request("d", want("192.0.2.3")),
		}},
		[]string{"a 192.0.2.1@lan", "b 192.0.2.2@lan", "c 203.0.113.1@wan", "d IPv4:QuotaExceeded"},
	}, {
		"who moves within a pool needs no more of the quota than it had",
		lanOf(quota(lan, 1), request("a", held("192.0.2.1"), want("192.0.2.2"))),
		[]string{"a 192.0.2.2@lan"},
	}, {
		"both families count",
		lanOf(quota(pool("lan", "192.0.2.1", "2001:db8::1"), 1), request("a", dual), request("x/b", in("x"), require)),
		[]string{"a 192.0.2.1@lan IPv6:QuotaExceeded", "x/b IPv4:PoolFull"},
	}, {
		"an address of a node is given to nobody, and what is held is kept",
		reserve(lanOf(lan, request("a"), request("b", want("192.0.2.1")), request("c", prefer("192.0.2.1"))), "192.0.2.1", "node n1"),
		[]string{"a 192.0.2.2@lan", "b IPv4:ReservedAddress", "c 192.0.2.3@lan"},
	}, {
		"a held address that a node has, too, is kept",
		reserve(lanOf(lan, request("a", held("192.0.2.1"))), "192.0.2.1", "node n1"),
		[]string{"a 192.0.2.1@lan"},
	}, {
		"a freed address rests, but not for who had it",
		resting(lanOf(lan, request("a"), request("b", age(9))), "192.0.2.1", "b", 101),
		[]string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		"it rests for those who ask for it by name as well",
		resting(lanOf(lan, request("a", want("192.0.2.1"))), "192.0.2.1", "b", 101),
		[]string{"a IPv4:Resting"},
	}, {
		"only resting addresses are left",
		resting(lanOf(one, request("a")), "192.0.2.1", "b", 101),
		[]string{"a IPv4:Resting"},
	}, {
		"in time a rest is over",
		resting(lanOf(one, request("a")), "192.0.2.1", "b", 100),
		[]string{"a 192.0.2.1@lan"},
	}, {
		"what is held does not rest, and what a claim keeps does not",
		resting(resting(lanOf(lan, request("a", held("192.0.2.1")), claim("c", held("192.0.2.2")), user("b", claims("c"))), "192.0.2.1", "z", 200), "192.0.2.2", "z", 200),
		[]string{"a 192.0.2.1@lan", "claim x/c 192.0.2.2@lan", "x/b 192.0.2.2@lan"},
	}, {
		"an address that several had rests for each of them",
		resting(resting(lanOf(one, request("a", key("k", 80)), request("b", key("k", 81))), "192.0.2.1", "a", 200), "192.0.2.1", "b", 150),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.1@lan"},
	}, {
		"addresses that end in .0 and .255 are passed over, also by name, and kept",
		lanOf(edges(pool("lan", "192.0.2.254-192.0.3.1")), request("a"), request("b"), request("c"), request("d", want("192.0.3.0")), request("e", held("192.0.2.255"))),
		[]string{"a 192.0.2.254@lan", "b 192.0.3.1@lan", "c IPv4:PoolFull", "d IPv4:NotInPool", "e 192.0.2.255@lan"},
	}, {
		"in IPv6 there is no such thing",
		lanOf(edges(pool("lan", "2001:db8::ff00")), request("a", families(IPv6))),
		[]string{"a 2001:db8::ff00@lan"},
	}})
}

// Every refusal and note names the object, the field or annotation, the reason
// and a remedy.
func TestDetails(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	const second = 1_000_000_000
	rest := lanOf(pool("lan", "192.0.2.1"), request("x/a", in("x"), want("192.0.2.1")), request("x/b", in("x")))
	rest.Now, rest.Resting = 1767225600*second, []Rest{{netip.MustParseAddr("192.0.2.1"), "x/z", 1767225660 * second}}
	holder := request("x/a", in("x"), key("k", 80), held("192.0.2.1"), age(-1))
	tests := []struct {
		name  string
		world World
		want  []string
	}{
		{"resting, by name and any", rest, []string{
			`Address 192.0.2.1 rests after its last use until 2026-01-01T00:01:00Z: wait, ask for another, or lower spec.reuseAfter of pool "lan".`,
			`Every free IPv4 address in pool "lan" rests after its last use, the first until 2026-01-01T00:01:00Z: wait, lower spec.reuseAfter, or add addresses to a pool.`,
		}},
		{"quota, any and by name", lanOf(quota(lan, 1), request("x/a", in("x"), held("192.0.2.1")), request("x/b", in("x")), request("x/c", in("x"), want("192.0.2.2"))), []string{
			`Namespace "x" has as many addresses of pool "lan" as spec.quotaPerNamespace allows: release one, or raise the quota.`,
			`Namespace "x" has as many addresses of pool "lan" as spec.quotaPerNamespace allows: release one, or raise the quota.`,
		}},
		{"sharing with one who has no key", lanOf(lan, request("x/a", in("x"), held("192.0.2.1")), request("x/b", in("x"), key("k"), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by x/a, and x/a has no herald-lb.io/share key: give it the same key, or ask for another address.`,
		}},
		{"sharing with another key", lanOf(lan, holder, request("x/b", in("x"), key("l"), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by x/a, and its herald-lb.io/share key is "k", not "l": give both the same key, or ask for another address.`,
		}},
		{"sharing with a port in common", lanOf(lan, holder, request("x/b", in("x"), key("k", 53, 80), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by x/a, and both use port 80/tcp: change it in one of them, or ask for another address.`,
		}},
		{"sharing with a namespace that does not", lanOf(lan, holder, request("y/b", in("y", "x"), key("k"), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by x/a, and herald-lb.io/share-with of x/a does not list namespace "y": add it there, or ask for another address.`,
		}},
		{"sharing across namespaces one-sidedly", lanOf(lan, request("x/a", in("x", "*"), key("k"), held("192.0.2.1")), request("y/b", in("y"), key("k"), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by x/a, and herald-lb.io/share-with of y/b does not list namespace "x": add it there, or ask for another address.`,
		}},
		{"a claim keeps it", lanOf(lan, claim("c", held("192.0.2.1")), request("y/b", in("y"), key("k"), want("192.0.2.1"))), []string{
			`Address 192.0.2.1 is held by claim x/c: ask for another, or release it there.`,
		}},
		{"a claim of what one of several strangers has", lanOf(lan, holder, request("y/b", in("y", "x"), key("k"), held("192.0.2.2")), claim("c", want("192.0.2.2"))), []string{
			`Address 192.0.2.2 is held by y/b: ask for another, or release it there.`,
		}},
		{"claims that do not help", lanOf(lan, claim("c"), user("a", claims("d")), user("b", claims("c"), families(IPv6)), user("e", claims("c"), want("192.0.2.3"))), []string{
			`There is no AddressClaim "d" in namespace "x": create it, or name another.`,
			`AddressClaim "c" has no IPv6 address: see its conditions and its spec.families, or name another.`,
			`Address 192.0.2.3 is not one of AddressClaim "c": ask for the claim or for the address, or make them agree.`,
		}},
		{"an address of a node, wanted and held", reserve(lanOf(lan, request("a", want("192.0.2.1"))), "192.0.2.1", "node n1"), []string{
			`Address 192.0.2.1 belongs to node n1: ask for another, or exclude it from pool "lan".`,
		}},
		{"an address of a node, held", reserve(lanOf(lan, request("a", held("192.0.2.1"))), "192.0.2.1", "node n1"), []string{
			`Note ReservedAddress: Address 192.0.2.1 belongs to node n1, too, but is kept, for an assigned address never changes by itself: release it, or ask for another.`,
		}},
		{"who has to leave, and why", lanOf(lan, holder, request("x/b", in("x"), key("k", 80), held("192.0.2.1")), request("y/c", in("y"), held("192.0.2.1"))), []string{
			`Note ShareRefused: It had to leave an address to an older owner. Address 192.0.2.1 is held by x/a, and both use port 80/tcp: change it in one of them, or ask for another address.`,
			`Note AddressTaken: It had to leave an address to an older owner. Address 192.0.2.1 is held by x/a: ask for another, or release it there.`,
		}},
		{"the end of a block", lanOf(edges(pool("lan", "192.0.2.0/24")), request("a", want("192.0.2.255"))), []string{
			`Address 192.0.2.255 ends in .0 or .255, and pool "lan" has spec.skipFirstLast: ask for another, or unset it.`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, g := range Plan(tt.world) {
				for _, r := range g.Refusals {
					got = append(got, r.Detail)
				}
				for _, n := range g.Notes {
					got = append(got, "Note "+string(n.Reason)+": "+n.Detail)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("details (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUsageCountsAnAddressOnce(t *testing.T) {
	w := lanOf(edges(pool("lan", "192.0.2.0/28", "2001:db8::/126")),
		user("a", key("k", 80), held("192.0.2.1")), user("b", key("k", 81), held("192.0.2.1")), claim("c", held("192.0.2.1")), user("d", held("192.0.2.0")))
	w = reserve(resting(resting(w, "192.0.2.5", "z", 101), "192.0.2.6", "z", 99), "192.0.2.7", "node n1")
	w.Reserved[netip.MustParseAddr("192.0.2.1")] = "node n2"
	w.Reserved[netip.MustParseAddr("203.0.113.1")] = "node n3"
	got := Use(w, Plan(w))
	// Of fifteen, one is assigned, one rests and one is of a node; .0 is not handed out.
	if want := []Usage{{"lan", Tally{15, 2, 12}, Tally{4, 0, 4}}}; !slices.Equal(got, want) {
		t.Errorf("Use = %v, want %v", got, want)
	}
}

// Counting does not look at addresses, and agrees with looking at them.
func TestCountOfEdges(t *testing.T) {
	for _, s := range []string{"192.0.2.0", "192.0.2.1", "192.0.2.255", "192.0.2.255-192.0.3.0", "192.0.2.1-192.0.2.254", "192.0.2.7-192.0.9.9", "255.255.254.0-255.255.255.255", "0.0.0.0/20", "2001:db8::/120"} {
		p := edges(pool("lan", s))
		var want int64
		for a := p.Ranges[0].First; a.IsValid() && a.Compare(p.Ranges[0].Last) <= 0; a = a.Next() {
			if handedOut(p, a) {
				want++
			}
		}
		if got := Count(p, p.Ranges[0].Family()); got != want {
			t.Errorf("%s has %d addresses to hand out, want %d", s, got, want)
		}
	}
	if got, want := Count(edges(pool("lan", "0.0.0.0/0")), IPv4), int64(1<<32-1<<25); got != want {
		t.Errorf("all of IPv4 has %d addresses to hand out, want %d", got, want)
	}
}
