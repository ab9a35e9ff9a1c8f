package probe

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

var (
	self4, virtual4 = netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.240")
	self6, virtual6 = netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("2001:db8::240")
)

// A kernel accepts what its headers and checksums say; what is read back here is
// what a node would.
func TestARequestIsAPacket(t *testing.T) {
	packet, err := family4.request(self4, virtual4, 7, 9)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ipv4.ParseHeader(packet)
	if err != nil || !h.Src.Equal(self4.AsSlice()) || !h.Dst.Equal(virtual4.AsSlice()) || h.Protocol != 1 || h.TotalLen != len(packet) || h.TTL != 64 {
		t.Errorf("header %v, %v", h, err)
	}
	if sum := checksum(packet[:header4]); sum != 0 {
		t.Errorf("the header adds up to %#x with its checksum", sum)
	}
	m, err := icmp.ParseMessage(1, packet[header4:])
	if err != nil || m.Type != ipv4.ICMPTypeEcho || m.Body.(*icmp.Echo).ID != 7 || m.Body.(*icmp.Echo).Seq != 9 {
		t.Errorf("message %v, %v", m, err)
	}
}

// reply returns the packet that answers a request.
func reply(t testing.TB, f family, from, to netip.Addr, id, seq uint16) []byte {
	t.Helper()
	back := f
	back.echo = f.reply
	packet, err := back.request(from, to, id, seq)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestAnAnswerIsWhatWasAskedFor(t *testing.T) {
	options := reply(t, family4, virtual4, self4, 7, 9)
	options = append(append(options[:header4:header4], 1, 1, 1, 0), options[header4:]...)
	options[0] = 4<<4 | 6
	tests := []struct {
		name   string
		f      family
		from   netip.Addr
		packet []byte
		want   bool
	}{
		{"IPv4", family4, virtual4, reply(t, family4, virtual4, self4, 7, 9), true},
		{"IPv6", family6, virtual6, reply(t, family6, virtual6, self6, 7, 9), true},
		{"a header with options", family4, virtual4, options, true},
		{"another's", family4, virtual4, reply(t, family4, virtual4, self4, 8, 9), false},
		{"from another address", family4, virtual4, reply(t, family4, self4, self4, 7, 9), false},
		{"from another address of IPv6", family6, virtual6, reply(t, family6, self6, self6, 7, 9), false},
		{"a request", family4, virtual4, request(t, family4, virtual4, self4), false},
		{"a header longer than the packet", family4, virtual4, append([]byte{0x4f}, options[1:header4+4]...), false},
		{"a header shorter than one", family4, virtual4, append([]byte{0x41}, options[1:]...), false},
		{"nothing", family6, virtual6, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seq, ok := tt.f.answer(tt.packet, tt.from, 7)
			if ok != tt.want || ok && seq != 9 {
				t.Errorf("answer() = %d, %v, want %v", seq, ok, tt.want)
			}
		})
	}
}

func request(t testing.TB, f family, from, to netip.Addr) []byte {
	t.Helper()
	packet, err := f.request(from, to, 7, 9)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// The filter has to pass what answer takes, and may pass more.
func TestTheFilterPassesAnswers(t *testing.T) {
	for _, f := range []family{family4, family6} {
		from, to := virtual4, self4
		if f.proto == family6.proto {
			from, to = virtual6, self6
		}
		for _, tt := range []struct {
			name   string
			packet []byte
			want   bool
		}{
			{"an answer", reply(t, f, from, to, 7, 9), true},
			{"another's", reply(t, f, from, to, 8, 9), false},
			{"a request", request(t, f, from, to), false},
			{"a short one", reply(t, f, from, to, 7, 9)[:header4], false},
		} {
			vm, err := bpf.NewVM(f.program(7))
			if err != nil {
				t.Fatal(err)
			}
			n, err := vm.Run(tt.packet)
			if err != nil || n > 0 != tt.want {
				t.Errorf("%s: the filter of %s passes %d bytes, %v", tt.name, f.network, n, err)
			}
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(reply(f, family4, virtual4, self4, 7, 9), false)
	f.Add(reply(f, family6, virtual6, self6, 7, 9), true)
	f.Add([]byte{0x4f, 0}, false)
	f.Fuzz(func(t *testing.T, packet []byte, six bool) {
		fam, from := family4, virtual4
		if six {
			fam, from = family6, virtual6
		}
		if _, ok := fam.answer(packet, from, 7); ok && len(packet) < header4+8 {
			t.Errorf("%d bytes are an answer", len(packet))
		}
	})
}
