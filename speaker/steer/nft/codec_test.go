package nft

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestKeysAreReadBack(t *testing.T) {
	tests := []struct{ virtual, target string }{
		{"192.0.2.1:80/tcp", "10.0.0.7:8080"},
		{"[2001:db8::1]:53/udp", "[fd00::7]:5353"},
		{"255.255.255.255:65535/sctp", "0.0.0.1:1"},
	}
	for _, tt := range tests {
		t.Run(tt.virtual, func(t *testing.T) {
			v, real := kerneltest.Virtual(tt.virtual), netip.MustParseAddrPort(tt.target)
			f := familyOf(v.Addr.Addr())
			got, rest, err := f.cutServer(slotKey(v, 7))
			if err != nil || got != v {
				t.Errorf("cutServer() = %v, %v, want %v", got, err, v)
			}
			if slot, err := cutSlot(rest); err != nil || slot != 7 {
				t.Errorf("cutSlot() = %v, %v", slot, err)
			}
			_, rest, _ = f.cutServer(idleKey(v, real))
			if gotReal, rest, err := f.cutTarget(rest); err != nil || gotReal != real || len(rest) > 0 {
				t.Errorf("cutTarget() = %v, %v, %v, want %v", gotReal, rest, err, real)
			}
		})
	}
}

func TestInterval(t *testing.T) {
	tests := []struct{ name, prefix, end string }{
		{"a prefix ends before the next", "10.244.1.0/24", "10.244.2.0"},
		{"one address ends before the next", "10.244.1.255/32", "10.244.2.0"},
		{"an odd length", "10.244.0.0/14", "10.248.0.0"},
		{"IPv6", "fd10:244:1::/64", "fd10:244:1:1::"},
		{"the last prefix has no end", "255.0.0.0/8", ""},
		{"nor has all", "::/0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			elements := interval(netip.MustParsePrefix(tt.prefix))
			if elements[0].Comment != tt.prefix {
				t.Errorf("comment %q, want %q", elements[0].Comment, tt.prefix)
			}
			var end []byte
			if len(elements) > 1 {
				end = elements[1].Key
			}
			if tt.end == "" && end != nil || tt.end != "" && !bytes.Equal(end, netip.MustParseAddr(tt.end).AsSlice()) {
				t.Errorf("interval(%s) ends with %v, want %s", tt.prefix, end, tt.end)
			}
		})
	}
}

func TestSourcesAreReadBack(t *testing.T) {
	tests := []struct{ virtual, clients string }{
		{"192.0.2.1:80/tcp", "10.0.0.0/8"},
		{"192.0.2.1:80/udp", "0.0.0.0/0"},
		{"0.0.0.0:30080/tcp", "255.255.255.255/32"},
		{"[2001:db8::1]:53/sctp", "fc00::/7"},
		{"[::]:30080/udp", "2001:db8::7/128"},
	}
	for _, tt := range tests {
		t.Run(tt.virtual+" "+tt.clients, func(t *testing.T) {
			v, want := kerneltest.Virtual(tt.virtual), netip.MustParsePrefix(tt.clients)
			f, e := familyOf(v.Addr.Addr()), sourceElement(v, want)
			if gotV, got, err := f.cutSource(e.Key, e.KeyEnd); err != nil || gotV != v || got != want {
				t.Errorf("cutSource() = %v, %v, %v", gotV, got, err)
			}
			one := netip.PrefixFrom(want.Addr(), want.Addr().BitLen())
			if _, got, err := f.cutSource(e.Key, nil); err != nil || got != one {
				t.Errorf("cutSource() without an end = %v, %v, want %v", got, err, one)
			}
		})
	}
}

func TestWhatIsNoPrefixIsMalformed(t *testing.T) {
	v, other := kerneltest.Virtual("192.0.2.1:80/tcp"), kerneltest.Virtual("192.0.2.1:81/tcp")
	key := func(v steer.Virtual, addr string) []byte { return appendAddr(serverKey(v), netip.MustParseAddr(addr)) }
	tests := []struct {
		name     string
		key, end []byte
	}{
		{"an interval that is none", key(v, "10.0.0.1"), key(v, "10.0.0.2")},
		{"one that ends before it begins", key(v, "10.0.0.2"), key(v, "10.0.0.1")},
		{"one of several servers", key(v, "10.0.0.0"), key(other, "10.0.0.255")},
		{"one without an address", serverKey(v), serverKey(v)},
		{"one whose end is short", key(v, "10.0.0.0"), serverKey(v)},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, p, err := v4.cutSource(tt.key, tt.end); err == nil {
				t.Errorf("cutSource() = %v", p)
			}
		})
	}
}

// FuzzList reads arbitrary elements, as somebody with nft might have made.
func FuzzList(f *testing.F) {
	v := kerneltest.Virtual("192.0.2.1:80/tcp")
	ten := sourceElement(v, netip.MustParsePrefix("10.0.0.0/8"))
	f.Add(slotKey(v, 0), []byte{}, target(netip.MustParseAddrPort("10.0.0.7:80")), "weight 3", false)
	f.Add(serverKey(v), []byte{}, []byte("\x08\x00\x01\x00\x00\x00\x00\x00\x0b\x00\x02\x00refuse\x00\x00"), "rr snat", false)
	f.Add(idleKey(v, netip.MustParseAddrPort("10.0.0.7:80")), []byte{}, []byte{}, "", true)
	f.Add(ten.Key, ten.KeyEnd, []byte{}, "", false)
	f.Fuzz(func(t *testing.T, key, keyEnd, value []byte, comment string, end bool) {
		l := newListing()
		e := nftables.SetElement{Key: key, KeyEnd: keyEnd, Val: value, Comment: comment, IntervalEnd: end}
		for _, f := range families {
			for _, read := range []func(family, nftables.SetElement) error{
				l.readAddr, l.readServer, l.readPort, l.readEnd, l.readIdle, l.readPods,
				l.readLive, l.readID, l.readLimited, l.readSource} {
				read(f, e) // errors are fine, what was read is looked at below
			}
		}
		l.tidy()
		table := l.table()
		for d, weight := range table.Dests {
			if weight < 0 || weight > 65535 || !d.Real.IsValid() {
				t.Errorf("read %v weight %d", d, weight)
			}
		}
		for v, s := range table.Servers {
			if _, ok := s.Sources.Prefixes(); !ok {
				t.Errorf("read %v from %q", v, s.Sources)
			}
		}
	})
}
