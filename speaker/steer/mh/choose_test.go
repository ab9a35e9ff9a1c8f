package mh

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/herald-lb/herald/config"
)

const (
	port     = config.SchedulerPort
	fallback = config.SchedulerFallback
)

// golden are choices for 40 flows of one client, from port 40000 on, one letter
// each: 'a' for the destination that was added first, '-' for none. The kernel
// is held to them as well, see kernel_netns_test.go.
var golden = []struct {
	name, client string
	flags        config.SchedulerFlags
	dests        []Dest
	want         string
}{
	{"without the port a client has one destination", "192.0.2.10", 0, pods(1, 1, 1), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
	{"with the port each flow has its own", "192.0.2.10", port, pods(1, 1, 1), "bbcbcbbacabaccbacacacabacacacbcabbcabcbc"},
	{"weights", "192.0.2.10", port, pods(1, 2, 5), "bbcbcbbbccbaccbacccacabccacccbcabcccccbc"},
	{"weights that have to be cut", "192.0.2.10", port, pods(3, 1000, 400, 65535), "dbdddddddddaddddddddddddddddddddddddddbd"},
	{"IPv6", "2001:db8::10", port, pods6(1, 1, 1), "acbcaaacccbaacccbbabbacabaaacabcaaaccbba"},
	{"IPv6 with weights", "2001:db8::10", port, pods6(4, 1, 2), "acbcaaacccbaacccbaabaacaaaaacaacaaaacaba"},
	{"a slot of one that drains leads nowhere", "192.0.2.10", port, drained(pods(1, 2, 5), 2), "bb-b-bbb--ba--ba---a-ab--a---b-ab-----b-"},
	{"with fallback it leads elsewhere", "192.0.2.10", port | fallback, drained(pods(1, 2, 5), 2), "bbababbbbbbabababbbabababababbbabbabbbba"},
	{"IPv6 with fallback", "2001:db8::10", port | fallback, drained(pods6(1, 1, 1, 1), 0, 3), "bcbbbbbccbbcbcccbbcbbccbbbbbccbcccbccbbc"},
	{"all drain", "192.0.2.10", port | fallback, drained(pods(1, 2), 0, 1), "----------------------------------------"},
	{"one was added with weight 0", "192.0.2.10", port, pods(1, 0, 1), "accacccacaaacccacacacaaacacacacacccacccc"},
}

func pods6(weights ...int) []Dest {
	dests := pods(weights...)
	for i := range dests {
		b := netip.MustParseAddr("fd10:244:1:2::").As16()
		b[15] = byte(1 + i)
		dests[i].Addr = netip.AddrPortFrom(netip.AddrFrom16(b), 8080)
	}
	return dests
}

// drained sets the weight of some destinations to 0.
func drained(dests []Dest, some ...int) []Dest {
	for _, i := range some {
		dests[i].Weight, dests[i].Last = 0, dests[i].Weight
	}
	return dests
}

// letters are what choose returns for 40 flows of client.
func letters(client string, choose func(netip.AddrPort) (int, bool)) string {
	var b strings.Builder
	for i := range 40 {
		dest, ok := choose(netip.AddrPortFrom(netip.MustParseAddr(client), uint16(40000+i)))
		if !ok {
			b.WriteByte('-')
			continue
		}
		b.WriteByte(byte('a' + dest))
	}
	return b.String()
}

func TestChoices(t *testing.T) {
	for _, tt := range golden {
		t.Run(tt.name, func(t *testing.T) {
			table := build(t, tt.dests)
			got := letters(tt.client, func(c netip.AddrPort) (int, bool) { return table.Choose(c, tt.flags) })
			if got != tt.want {
				t.Errorf("Choose() = %s\nwant       %s", got, tt.want)
			}
		})
	}
}

func TestNobodyIsChosen(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("[2001:db8::1]:40000")
	full := pods(1, 1)
	full[0].Overloaded, full[1].Overloaded = true, true
	tests := []struct {
		name   string
		dests  []Dest
		client netip.AddrPort
	}{
		{"there is no destination", nil, v4},
		{"all were added with weight 0", pods(0, 0), v4},
		{"all are overloaded", full, v4},
		{"the client is of the other family", pods(1), v6},
		{"the client is of the other family, for IPv6", pods6(1), v4},
		{"there is no client", pods(1), netip.AddrPort{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if dest, ok := build(t, tt.dests).Choose(tt.client, port|fallback); ok {
				t.Errorf("Choose() = %d", dest)
			}
		})
	}
}

func TestAClientOfASocketForBothFamiliesIsIPv4(t *testing.T) {
	table, mapped := build(t, pods(1, 1, 1)), netip.MustParseAddrPort("[::ffff:192.0.2.1]:40000")
	got, ok := table.Choose(mapped, port)
	want, _ := table.Choose(netip.MustParseAddrPort("192.0.2.1:40000"), port)
	if !ok || got != want {
		t.Errorf("Choose() = %d, %v, want %d", got, ok, want)
	}
}

// Who drains or is overloaded loses its own new flows, nobody else any: with
// fallback they go to others, without it nowhere.
func TestWhoTakesNoneLosesItsOwnFlowsOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 50 {
		dests := append(pods(1, 1), randomPods(r)...)
		before, out := build(t, dests), r.IntN(len(dests))
		if r.IntN(2) == 0 {
			drained(dests, out)
		} else {
			dests[out].Overloaded = true
		}
		after := build(t, dests)
		for range 200 {
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())}), uint16(r.Uint32()))
			was, _ := before.Choose(client, port)
			owner, _ := after.Owner(client, port)
			without, some := after.Choose(client, port)
			with, other := after.Choose(client, port|fallback)
			switch {
			case owner != was:
				t.Fatalf("%s: the owner was %d, is %d", client, was, owner)
			case was == out && (some || !other || with == out):
				t.Fatalf("%s: %d, %v and with fallback %d, %v though %d takes none", client, without, some, with, other, out)
			case was != out && (without != was || with != was):
				t.Fatalf("%s: %d and with fallback %d, was %d", client, without, with, was)
			}
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	table := build(b, pods(1, 1, 1))
	client := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	var p uint16
	for b.Loop() {
		p++
		table.Choose(netip.AddrPortFrom(client, p), port)
	}
}

// All but one of 1,000 drain, so that a flow looks at many slots.
func BenchmarkChooseByFallback(b *testing.B) {
	dests := pods(make([]int, 1000)...)
	for i := range dests {
		dests[i].Last = 1
	}
	dests[0].Weight = 1
	table := build(b, dests)
	client := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	var p uint16
	for b.Loop() {
		p++
		table.Choose(netip.AddrPortFrom(client, p), port|fallback)
	}
}
