package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A planTest is a promise about one Plan.
type planTest struct {
	name  string
	world World
	want  []string
}

func runPlans(t *testing.T, tests []planTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, lines(Plan(tt.world))); diff != "" {
				t.Errorf("grants (-want +got):\n%s", diff)
			}
		})
	}
}

func lanOf(p Pool, reqs ...Request) World { return World{Pools: []Pool{p}, Requests: reqs} }

func key(k string, ports ...uint16) func(*Request) {
	return func(r *Request) {
		r.Share = k
		for _, n := range ports {
			r.Ports = append(r.Ports, Port{6, n})
		}
	}
}
func in(namespace string, with ...string) func(*Request) {
	return func(r *Request) { r.Namespace, r.ShareWith = namespace, with }
}
func prefer(a ...string) func(*Request) { return func(r *Request) { r.Prefer = addrs(a...) } }
func moving(r *Request)                 { r.Move = true }

func TestSharing(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	runPlans(t, []planTest{{
		"owners with one key and other ports are on one address",
		lanOf(lan, request("a", key("k", 80)), request("b", key("k", 443)), request("c", key("k", 25, 53))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.1@lan", "c 192.0.2.1@lan"},
	}, {
		"whose port is taken gets an address of its own, which the next joins",
		lanOf(lan, request("a", key("k", 80)), request("b", key("k", 80, 443)), request("c", key("k", 80)), request("d", key("k", 25))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.2@lan", "c 192.0.2.3@lan", "d 192.0.2.1@lan"},
	}, {
		"one number is two ports in two protocols",
		lanOf(lan, request("a", key("k", 53)), request("b", key("k"), func(r *Request) { r.Ports = []Port{{17, 53}} })),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.1@lan"},
	}, {
		"another key, or none, is another address",
		lanOf(lan, request("a", key("k", 80)), request("b", key("l", 81)), request("c")),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.2@lan", "c 192.0.2.3@lan"},
	}, {
		"a key is not shared with another namespace unless both want it",
		lanOf(lan, request("x/a", in("x", "y"), key("k", 80)), request("y/b", in("y"), key("k", 81)), request("z/c", in("z", "*"), key("k", 82))),
		[]string{"x/a 192.0.2.1@lan", "y/b 192.0.2.2@lan", "z/c 192.0.2.3@lan"},
	}, {
		"with both willing namespaces share",
		lanOf(lan, request("x/a", in("x", "y"), key("k", 80)), request("y/b", in("y", "*"), key("k", 81))),
		[]string{"x/a 192.0.2.1@lan", "y/b 192.0.2.1@lan"},
	}, {
		"everybody there must be willing",
		lanOf(lan, request("x/a", in("x", "*"), key("k", 80)), request("y/b", in("y", "x"), key("k", 81)), request("z/c", in("z", "*"), key("k", 82))),
		[]string{"x/a 192.0.2.1@lan", "y/b 192.0.2.1@lan", "z/c 192.0.2.2@lan"},
	}, {
		"of two held addresses under the key the lower one is joined, whoever is older",
		lanOf(lan, request("a", age(1), key("k", 80), held("192.0.2.3")), request("b", age(2), key("k", 80), held("192.0.2.2")), request("c", age(3), key("k", 443))),
		[]string{"a 192.0.2.3@lan", "b 192.0.2.2@lan", "c 192.0.2.2@lan"},
	}, {
		"a full pool is no reason not to share",
		lanOf(pool("lan", "192.0.2.1"), request("a", key("k", 80), held("192.0.2.1")), request("b", key("k", 443)), request("c", key("k", 443))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.1@lan", "c IPv4:PoolFull"},
	}, {
		"an address of a pool that would not serve the newcomer is not joined",
		World{Pools: []Pool{lan, pool("wan", "203.0.113.1")}, Requests: []Request{request("a", key("k", 80), held("203.0.113.1")), request("b", key("k", 443))}},
		[]string{"a 203.0.113.1@wan", "b 192.0.2.1@lan"},
	}, {
		"an address by name is joined, too, and nobody is moved for it",
		lanOf(lan, request("a", key("k", 80), held("192.0.2.2")), request("b", key("k", 443), want("192.0.2.2")), request("c", key("k", 80), want("192.0.2.2")), request("d", want("192.0.2.2"))),
		[]string{"a 192.0.2.2@lan", "b 192.0.2.2@lan", "c IPv4:ShareRefused", "d IPv4:AddressTaken"},
	}, {
		"sharers whose ports now clash part, the youngest goes",
		lanOf(lan, request("a", age(1), key("k", 80), held("192.0.2.1")), request("b", age(2), key("k", 443), held("192.0.2.1")), request("c", age(3), key("k", 443), held("192.0.2.1"))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.1@lan", "c 192.0.2.2@lan"},
	}, {
		"who leaves the key leaves the address, those who stay together move together",
		lanOf(lan, request("a", age(1), held("192.0.2.1")), request("b", age(2), key("k", 80), held("192.0.2.1")), request("c", age(3), key("k", 443), held("192.0.2.1"))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.2@lan", "c 192.0.2.2@lan"},
	}, {
		"a port that somebody gives up is not taken by the same plan",
		lanOf(lan, request("a", age(1), key("k", 80), held("192.0.2.1")), request("b", age(2), key("k", 443), held("192.0.2.1"), want("192.0.2.3")), request("c", age(3), key("k", 443))),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.3@lan", "c 192.0.2.2@lan"},
	}, {
		"nobody joins an address that all give up",
		lanOf(lan, request("a", age(1), key("k", 80), held("192.0.2.1"), want("192.0.2.3")), request("b", age(2), key("k", 443))),
		[]string{"a 192.0.2.3@lan", "b 192.0.2.3@lan"},
	}, {
		"the automatic half of a dual request leaves a port to who asks for the address by name",
		World{Pools: []Pool{lan, pool("six", "2001:db8::1-2001:db8::3")}, Requests: []Request{
			request("a", age(1), require, pools("lan", "six"), key("k", 80), want("192.0.2.2")),
			request("b", age(2), families(IPv6), pools("six"), key("k", 80), want("2001:db8::1")),
			request("c", age(3), families(IPv6), pools("six"), key("k", 25), held("2001:db8::1")),
		}},
		[]string{"a 192.0.2.2@lan 2001:db8::2@six", "b 2001:db8::1@six", "c 2001:db8::1@six"},
	}, {
		"each family is shared by itself",
		World{Pools: []Pool{lan, pool("six", "2001:db8::1-2001:db8::3")}, Requests: []Request{
			request("a", dual, pools("lan", "six"), key("k", 80)), request("b", families(IPv6), pools("six"), key("k", 81)), request("c", require, pools("lan", "six"), key("k", 81)),
		}},
		[]string{"a 192.0.2.1@lan 2001:db8::1@six", "b 2001:db8::1@six", "c 192.0.2.1@lan 2001:db8::2@six"},
	}})
}

func TestMovesOnPurpose(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	shrunk := lan
	shrunk.Shrink = true
	out := held("192.0.2.200")
	runPlans(t, []planTest{{
		"who asks to move gets another address, never the one it gives up",
		lanOf(lan, request("a", held("192.0.2.1"), moving, prefer("192.0.2.1"))),
		[]string{"a 192.0.2.2@lan"},
	}, {
		"who asks to move keeps what it has if there is no other, and is told",
		lanOf(pool("lan", "192.0.2.1"), request("a", held("192.0.2.1"), moving)),
		[]string{"a 192.0.2.1@lan IPv4:PoolFull"},
	}, {
		"who asks for an address by name does not move away from it",
		lanOf(lan, request("a", held("192.0.2.2"), want("192.0.2.2"), moving)),
		[]string{"a 192.0.2.2@lan"},
	}, {
		"a sharer that asks to move leaves the others",
		lanOf(lan, request("a", key("k", 80), held("192.0.2.1")), request("b", key("k"), held("192.0.2.1"), moving)),
		[]string{"a 192.0.2.1@lan", "b 192.0.2.2@lan"},
	}, {
		"an address outside of all pools moves to a pool that takes in others",
		lanOf(shrunk, request("a", out), request("b", held("192.0.2.1"))),
		[]string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		"it moves only to such a pool",
		World{Pools: []Pool{priority(pool("wan", "203.0.113.1"), 9), shrunk}, Requests: []Request{request("a", out, pools("lan", "wan"))}},
		[]string{"a 192.0.2.1@lan"},
	}, {
		"it is kept, and nothing is refused, where such a pool is full, does not admit the owner or serves on request",
		World{Pools: []Pool{{Name: "lan", Auto: true, Shrink: true, Ranges: pool("", "192.0.2.1").Ranges}, onRequest(Pool{Name: "quiet", Shrink: true, Ranges: pool("", "192.0.2.9").Ranges})},
			Requests: []Request{request("a", held("192.0.2.1")), request("b", held("192.0.2.201"), pools("lan", "quiet")), request("c", held("192.0.2.202"), pools())}},
		[]string{"a 192.0.2.1@lan", "b 192.0.2.201@", "c 192.0.2.202@"},
	}, {
		"an address that was asked for by name is kept outside of all pools",
		lanOf(shrunk, request("a", out, want("192.0.2.200"))),
		[]string{"a 192.0.2.200@"},
	}, {
		"moving into a pool does not wait for a family that cannot be had",
		lanOf(shrunk, request("a", out, require)),
		[]string{"a 192.0.2.1@lan IPv6:WrongFamily"},
	}, {
		"what was there before comes first: before younger names, and before older owners to whom any address will do",
		lanOf(lan, request("a", age(1)), request("b", age(2), want("192.0.2.1")), request("c", age(3), prefer("192.0.2.1"))),
		[]string{"a 192.0.2.2@lan", "b IPv4:AddressTaken", "c 192.0.2.1@lan"},
	}, {
		"what was there before is joined again",
		lanOf(lan, request("a", key("k", 80), held("192.0.2.2")), request("b", age(-1), key("k", 443), prefer("192.0.2.2"))),
		[]string{"a 192.0.2.2@lan", "b 192.0.2.2@lan"},
	}, {
		"what was there before and may not be had any more is no loss",
		lanOf(lan, request("a", held("192.0.2.2")), request("b", prefer("192.0.2.2", "203.0.113.1", "2001:db8::1"))),
		[]string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		"both families come back to who requires both",
		World{Pools: []Pool{lan, pool("six", "2001:db8::1-2001:db8::3")}, Requests: []Request{request("a", age(9), require, pools("lan", "six"), prefer("192.0.2.1", "2001:db8::1")), request("b", dual, pools("lan", "six"))}},
		[]string{"a 192.0.2.1@lan 2001:db8::1@six", "b 192.0.2.2@lan 2001:db8::2@six"},
	}})
}

// Who would be on one address is compared in two ways: guest by guest, and by
// what a circle has counted.
func TestACircleCountsRight(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	addr := netip.MustParseAddr("192.0.2.1")
	for round := range 3000 {
		l := newLedger(World{})
		var there []Request
		for n := range 1 + rnd.IntN(6) {
			r := randomRequest(rnd, fmt.Sprintf("r%02d", n))
			r.Namespace, r.Share = []string{"x", "y", "z"}[rnd.IntN(3)], "k"
			b := &bid{Request: &r}
			ok := !slices.ContainsFunc(there, func(o Request) bool { return !lawful(o, r) })
			if sh := l.shares[addr]; sh != nil && sh.lets(b) != ok {
				t.Fatalf("round %d: %+v may join %+v: %v, want %v", round, r, there, !ok, ok)
			}
			for i := range there {
				if q := quarrel(&there[i], &r); (q == "") != lawful(there[i], r) {
					t.Fatalf("round %d: %+v and %+v: %q", round, there[i], r, q)
				}
			}
			if ok {
				l.host(b, addr, true)
				there = append(there, r)
			}
		}
	}
}
