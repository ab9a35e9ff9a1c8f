package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// pool builds a pool that serves unasked.
func pool(name string, ranges ...string) Pool {
	p := Pool{Name: name, Auto: true}
	for _, s := range ranges {
		r, err := ParseRange(s)
		if err != nil {
			panic(err)
		}
		p.Ranges = append(p.Ranges, r)
	}
	p.Ranges = Normalize(p.Ranges)
	return p
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// request is for one IPv4 address of pool "lan", unless edits say otherwise.
func request(owner string, edits ...func(*Request)) Request {
	r := Request{Owner: owner, Families: []Family{IPv4}, Pools: []string{"lan"}}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func age(n int64) func(*Request)          { return func(r *Request) { r.Age = n } }
func held(a ...string) func(*Request)     { return func(r *Request) { r.Held = addrs(a...) } }
func want(a ...string) func(*Request)     { return func(r *Request) { r.Want = addrs(a...) } }
func named(p string) func(*Request)       { return func(r *Request) { r.Pool = p } }
func pools(p ...string) func(*Request)    { return func(r *Request) { r.Pools = p } }
func families(f ...Family) func(*Request) { return func(r *Request) { r.Families = f } }
func require(r *Request)                  { r.Families, r.Require = []Family{IPv4, IPv6}, true }
func dual(r *Request)                     { r.Families = []Family{IPv4, IPv6} }

func onRequest(p Pool) Pool         { p.Auto = false; return p }
func priority(p Pool, n int32) Pool { p.Priority = n; return p }
func (g Grant) line() string        { return strings.Join(g.words(), " ") }
func lines(grants []Grant) (l []string) { // one line a grant
	for _, g := range grants {
		l = append(l, g.line())
	}
	return l
}

// words renders g as "owner addr@pool … family:Reason …".
func (g Grant) words() []string {
	w := []string{g.Owner}
	for _, a := range g.Addrs {
		w = append(w, a.Addr.String()+"@"+a.Pool)
	}
	for _, r := range g.Refusals {
		w = append(w, r.Family.String()+":"+string(r.Reason))
	}
	return w
}

func TestPlan(t *testing.T) {
	lan := pool("lan", "192.0.2.1-192.0.2.3")
	six := pool("six", "2001:db8::1-2001:db8::3")
	tests := []struct {
		name  string
		pools []Pool
		reqs  []Request
		want  []string
	}{{
		name:  "the lowest free address comes first, the oldest owner before younger ones",
		pools: []Pool{lan},
		reqs:  []Request{request("a", age(2)), request("b", age(1)), request("c", age(1))},
		want:  []string{"a 192.0.2.3@lan", "b 192.0.2.1@lan", "c 192.0.2.2@lan"},
	}, {
		name:  "a held address is nobody else's, however old the newcomer",
		pools: []Pool{lan},
		reqs:  []Request{request("a", age(1)), request("b", age(2), held("192.0.2.1"))},
		want:  []string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		name:  "of two owners of one address the older keeps it and the other gets a new one",
		pools: []Pool{lan},
		reqs:  []Request{request("a", age(2), held("192.0.2.1")), request("b", age(1), held("192.0.2.1"))},
		want:  []string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		name:  "of two equally old owners of one address the smaller name keeps it",
		pools: []Pool{lan},
		reqs:  []Request{request("b", held("192.0.2.1")), request("a", held("192.0.2.1"))},
		want:  []string{"a 192.0.2.1@lan", "b 192.0.2.2@lan"},
	}, {
		name:  "an address that no pool covers is kept",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("198.51.100.7"))},
		want:  []string{"a 198.51.100.7@"},
	}, {
		name: "without any pool what is held is kept",
		reqs: []Request{request("a", held("198.51.100.7")), request("b")},
		want: []string{"a 198.51.100.7@", "b IPv4:NoPool"},
	}, {
		name:  "an address of a pool that no longer admits its owner is kept",
		pools: []Pool{lan},
		reqs:  []Request{request("a", pools(), held("192.0.2.2"))},
		want:  []string{"a 192.0.2.2@lan"},
	}, {
		name:  "an address of a family no longer wanted is given up, the other stays",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", held("192.0.2.2", "2001:db8::2"), families(IPv6), pools("lan", "six"))},
		want:  []string{"a 2001:db8::2@six"},
	}, {
		name:  "what is given up is not handed out by the same plan",
		pools: []Pool{pool("lan", "192.0.2.1")},
		reqs:  []Request{request("a", held("192.0.2.1"), families(IPv6)), request("b")},
		want:  []string{"a IPv6:WrongFamily", "b IPv4:PoolFull"},
	}, {
		name:  "of two held addresses of one family the first stays",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("192.0.2.3", "192.0.2.2"))},
		want:  []string{"a 192.0.2.3@lan"},
	}, {
		name:  "of two held addresses of one family the one asked for stays",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("192.0.2.3", "192.0.2.2"), want("192.0.2.2"))},
		want:  []string{"a 192.0.2.2@lan"},
	}, {
		name:  "a surplus address of an older owner is no reason to take it from the owner that keeps it",
		pools: []Pool{lan},
		reqs: []Request{
			request("a", age(1), held("192.0.2.1", "192.0.2.2")),
			request("b", age(2), held("192.0.2.2")),
		},
		want: []string{"a 192.0.2.1@lan", "b 192.0.2.2@lan"},
	}, {
		name:  "an address asked for by name goes before automatic ones",
		pools: []Pool{lan},
		reqs:  []Request{request("a", age(1)), request("b", age(2), want("192.0.2.1"))},
		want:  []string{"a 192.0.2.2@lan", "b 192.0.2.1@lan"},
	}, {
		name:  "of two who ask for one address the older gets it",
		pools: []Pool{lan},
		reqs:  []Request{request("a", age(2), want("192.0.2.1")), request("b", age(1), want("192.0.2.1"))},
		want:  []string{"a IPv4:AddressTaken", "b 192.0.2.1@lan"},
	}, {
		name:  "asking for another address moves the owner",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("192.0.2.1"), want("192.0.2.3"))},
		want:  []string{"a 192.0.2.3@lan"},
	}, {
		name:  "asking for an address that is taken keeps what is held and says why",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("192.0.2.1"), want("192.0.2.3")), request("b", held("192.0.2.3"))},
		want:  []string{"a 192.0.2.1@lan IPv4:AddressTaken", "b 192.0.2.3@lan"},
	}, {
		name:  "asking for an address outside all pools keeps what is held and says why",
		pools: []Pool{lan},
		reqs:  []Request{request("a", held("192.0.2.1"), want("203.0.113.1"))},
		want:  []string{"a 192.0.2.1@lan IPv4:NotInPool"},
	}, {
		name:  "whoever asks by name gets no other address",
		pools: []Pool{lan},
		reqs:  []Request{request("a", want("203.0.113.1")), request("b", want("2001:db8::1"))},
		want:  []string{"a IPv4:NotInPool", "b IPv6:WrongFamily"},
	}, {
		name:  "an address of an unwanted family is refused beside one that is granted",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", want("192.0.2.2", "2001:db8::1"), pools("lan", "six"))},
		want:  []string{"a 192.0.2.2@lan IPv6:WrongFamily"},
	}, {
		name:  "an address by name may come from a pool that serves only on request",
		pools: []Pool{onRequest(lan)},
		reqs:  []Request{request("a", want("192.0.2.2")), request("b", named("lan")), request("c")},
		want:  []string{"a 192.0.2.2@lan", "b 192.0.2.1@lan", "c IPv4:NotAuto"},
	}, {
		name:  "selectors hold for addresses and pools by name as well",
		pools: []Pool{lan},
		reqs:  []Request{request("a", pools(), want("192.0.2.2")), request("b", pools(), named("lan")), request("c", pools())},
		want:  []string{"a IPv4:NotEligible", "b IPv4:NotEligible", "c IPv4:NotEligible"},
	}, {
		name:  "a pool by name that does not exist is refused, what is held is kept",
		pools: []Pool{lan},
		reqs:  []Request{request("a", named("wan")), request("b", named("wan"), held("192.0.2.1"))},
		want:  []string{"a IPv4:PoolUnknown", "b 192.0.2.1@lan IPv4:PoolUnknown"},
	}, {
		name:  "naming another pool moves the owner if that pool has a free address",
		pools: []Pool{lan, pool("wan", "203.0.113.1")},
		reqs: []Request{
			request("a", age(1), pools("lan", "wan"), named("wan"), held("192.0.2.1")),
			request("b", age(2), pools("lan", "wan"), named("wan"), held("192.0.2.2")),
		},
		want: []string{"a 203.0.113.1@wan", "b 192.0.2.2@lan IPv4:PoolFull"},
	}, {
		name:  "a named pool that no longer covers the address held does not move its owner",
		pools: []Pool{lan},
		reqs:  []Request{request("a", named("lan"), held("192.0.2.200"))},
		want:  []string{"a 192.0.2.200@"},
	}, {
		name:  "address and pool by name must agree",
		pools: []Pool{lan, pool("wan", "203.0.113.1")},
		reqs:  []Request{request("a", pools("lan", "wan"), named("wan"), want("192.0.2.2")), request("b", named("lan"), want("198.51.100.1"))},
		want:  []string{"a IPv4:NotInPool", "b IPv4:NotInPool"},
	}, {
		name:  "pools serve by priority, then by name",
		pools: []Pool{pool("b", "192.0.2.1"), pool("a", "192.0.2.2"), priority(pool("z", "192.0.2.3"), 5)},
		reqs: []Request{
			request("1", pools("a", "b", "z")), request("2", pools("z", "b", "a")),
			request("3", pools("a", "b", "z")), request("4", pools("a", "b", "z")),
		},
		want: []string{"1 192.0.2.3@z", "2 192.0.2.2@a", "3 192.0.2.1@b", "4 IPv4:PoolFull"},
	}, {
		name:  "each family may come from another pool",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", dual, pools("lan", "six"))},
		want:  []string{"a 192.0.2.1@lan 2001:db8::1@six"},
	}, {
		name:  "the order of families is the order of addresses",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", families(IPv6, IPv4), pools("lan", "six"))},
		want:  []string{"a 2001:db8::1@six 192.0.2.1@lan"},
	}, {
		name:  "whoever prefers both families takes what there is",
		pools: []Pool{lan},
		reqs:  []Request{request("a", dual)},
		want:  []string{"a 192.0.2.1@lan IPv6:WrongFamily"},
	}, {
		name:  "whoever requires both families takes nothing if one is missing",
		pools: []Pool{pool("lan", "192.0.2.1"), pool("six", "2001:db8::1")},
		reqs: []Request{
			request("a", age(1), pools("six"), families(IPv6)),
			request("b", age(2), require, pools("lan", "six")),
			request("c", age(3)),
		},
		want: []string{"a 2001:db8::1@six", "b IPv6:PoolFull", "c 192.0.2.1@lan"},
	}, {
		name:  "whoever requires both families keeps the one that is held",
		pools: []Pool{lan},
		reqs:  []Request{request("a", require, held("192.0.2.2"))},
		want:  []string{"a 192.0.2.2@lan IPv6:WrongFamily"},
	}, {
		name:  "an address by name does not wait for someone who cannot have both families",
		pools: []Pool{lan},
		reqs: []Request{
			request("a", age(1), require, want("192.0.2.2")),
			request("b", age(2), want("192.0.2.2")),
		},
		want: []string{"a IPv4:AddressTaken IPv6:WrongFamily", "b 192.0.2.2@lan"},
	}, {
		name:  "the automatic half of a dual request passes over addresses asked for by name",
		pools: []Pool{lan, six},
		reqs: []Request{
			request("a", age(1), require, want("192.0.2.2"), pools("lan", "six")),
			request("b", age(2), families(IPv6), want("2001:db8::1"), pools("lan", "six")),
		},
		want: []string{"a 192.0.2.2@lan 2001:db8::2@six", "b 2001:db8::1@six"},
	}, {
		name:  "an address asked for in vain by others is free for all",
		pools: []Pool{pool("lan", "192.0.2.1"), pool("six", "2001:db8::1")},
		reqs: []Request{
			request("a", age(1), require, want("192.0.2.1"), pools("lan", "six")),
			request("b", age(2), families(IPv6), want("2001:db8::1"), pools()),
		},
		want: []string{"a 192.0.2.1@lan 2001:db8::1@six", "b IPv6:NotEligible"},
	}, {
		name:  "whoever comes to require both families keeps what it has and gets the other",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", require, held("192.0.2.3"), pools("lan", "six"))},
		want:  []string{"a 192.0.2.3@lan 2001:db8::1@six"},
	}, {
		name:  "whoever wants its families in another order keeps both",
		pools: []Pool{lan, six},
		reqs:  []Request{request("a", families(IPv6, IPv4), held("192.0.2.3", "2001:db8::3"), pools("lan", "six"))},
		want:  []string{"a 2001:db8::3@six 192.0.2.3@lan"},
	}, {
		name:  "an owner that wants no family gives up all and gets nothing",
		pools: []Pool{lan},
		reqs:  []Request{request("a", families(), held("192.0.2.1"))},
		want:  []string{"a"},
	}, {
		name:  "families that are repeated or do not exist count for nothing",
		pools: []Pool{lan},
		reqs:  []Request{request("a", families(IPv4, 0, IPv4, 9))},
		want:  []string{"a 192.0.2.1@lan"},
	}, {
		name:  "the last of all addresses is an address like any other",
		pools: []Pool{pool("lan", "255.255.255.254/31", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
		reqs:  []Request{request("a", dual), request("b", dual), request("c", dual)},
		want: []string{
			"a 255.255.255.254@lan ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff@lan",
			"b 255.255.255.255@lan IPv6:PoolFull", "c IPv4:PoolFull IPv6:PoolFull",
		},
	}, {
		name:  "all of IPv4 and all of IPv6 are pools like any other",
		pools: []Pool{pool("lan", "0.0.0.0/0", "::/0")},
		reqs:  []Request{request("a", dual, want("0.0.0.0")), request("b", dual)},
		want:  []string{"a 0.0.0.0@lan ::@lan", "b 0.0.0.1@lan ::1@lan"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, lines(Plan(World{Pools: tt.pools, Requests: tt.reqs}))); diff != "" {
				t.Errorf("grants (-want +got):\n%s", diff)
			}
		})
	}
}

// A refusal names the object, the reason and a remedy, and the pools in order.
func TestRefusals(t *testing.T) {
	pools4 := []Pool{
		pool("full", "192.0.2.1"), onRequest(pool("quiet", "192.0.2.2")),
		priority(pool("six", "2001:db8::/64"), 1), pool("theirs", "192.0.2.3"),
	}
	eligible := pools("full", "quiet", "six")
	tests := []struct {
		name       string
		req        Request
		detail     string
		considered []Considered
	}{{
		name:       "automatic",
		req:        request("b", eligible),
		detail:     `No IPv4 address is free in pool "full": add addresses to a pool, or release one that is held.`,
		considered: []Considered{{"six", WrongFamily}, {"full", PoolFull}, {"quiet", NotAuto}, {"theirs", NotEligible}},
	}, {
		name:       "no pool of the family",
		req:        request("b", pools("six", "quiet")),
		detail:     `No IPv4 address is in pool "six": add some to a pool, or do without IPv4.`,
		considered: []Considered{{"six", WrongFamily}, {"full", NotEligible}, {"quiet", NotAuto}, {"theirs", NotEligible}},
	}, {
		name:       "no pool that admits",
		req:        request("b", pools()),
		detail:     `The selectors of pools "six", "full", "quiet" and "theirs" do not match: change them, or add a pool that admits this owner.`,
		considered: []Considered{{"six", NotEligible}, {"full", NotEligible}, {"quiet", NotEligible}, {"theirs", NotEligible}},
	}, {
		name:       "pool by name is full",
		req:        request("b", eligible, named("full")),
		detail:     `No IPv4 address is free in pool "full": add addresses to a pool, or release one that is held.`,
		considered: []Considered{{"full", PoolFull}},
	}, {
		name:       "pool by name lacks the family",
		req:        request("b", eligible, named("six")),
		detail:     `No IPv4 address is in pool "six": add some to a pool, or do without IPv4.`,
		considered: []Considered{{"six", WrongFamily}},
	}, {
		name:       "address by name is taken",
		req:        request("b", eligible, want("192.0.2.1")),
		detail:     `Address 192.0.2.1 is held by a: ask for another, or release it there.`,
		considered: []Considered{{"full", AddressTaken}},
	}, {
		name:       "address by name is in another pool",
		req:        request("b", eligible, named("quiet"), want("192.0.2.1")),
		detail:     `Address 192.0.2.1 lies in pool "full", not in pool "quiet": ask for the pool or for the address, or make them agree.`,
		considered: []Considered{{"quiet", NotInPool}},
	}, {
		name:       "address by name is nowhere",
		req:        request("b", eligible, want("192.0.2.9")),
		detail:     `Address 192.0.2.9 lies in no pool: add it to one, or ask for one that does.`,
		considered: []Considered{{"six", NotInPool}, {"full", NotInPool}, {"quiet", NotInPool}, {"theirs", NotInPool}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			grants := Plan(World{Pools: pools4, Requests: []Request{request("a", eligible, held("192.0.2.1")), tt.req}})
			if n := len(grants[1].Refusals); n != 1 {
				t.Fatalf("%d refusals, want 1: %v", n, grants[1])
			}
			got := grants[1].Refusals[0]
			if got.Detail != tt.detail {
				t.Errorf("detail\n got %s\nwant %s", got.Detail, tt.detail)
			}
			if !slices.Equal(got.Considered, tt.considered) {
				t.Errorf("considered\n got %v\nwant %v", got.Considered, tt.considered)
			}
		})
	}
}

func TestManyPoolsAreNotAllNamed(t *testing.T) {
	got := list([]string{"a", "b", "c", "d", "e", "f", "g"})
	if want := `pools "a", "b", "c", "d", "e" and 2 more`; got != want {
		t.Errorf("list = %s, want %s", got, want)
	}
}

func TestUse(t *testing.T) {
	ps := []Pool{pool("wan", "2001:db8::/64", "2001:db9::/48"), pool("lan", "192.0.2.0/29", "192.0.2.100", "2001:db8:1::1")}
	w := World{Pools: ps, Requests: []Request{request("a", dual), request("b"), request("c", held("198.51.100.1"))}}
	grants := Plan(w)
	want := []Usage{
		{"lan", Tally{9, 2, 7}, Tally{1, 1, 0}},
		{"wan", Tally{}, Tally{1<<63 - 1, 0, 1<<63 - 1}},
	}
	if got := Use(w, grants); !slices.Equal(got, want) {
		t.Errorf("Use = %v, want %v", got, want)
	}
}
