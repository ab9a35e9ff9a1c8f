package ndp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// Whatever comes in: nothing panics, and the only answer is the right
// advertisement to a solicitation for a claimed address from somebody else.
func FuzzHear(f *testing.F) {
	for _, p := range promises(us, them) {
		f.Add(p.Frame, true)
		f.Add(p.Frame, false)
	}
	f.Add([]byte{}, false)
	vm, err := bpf.NewVM(filter([]netip.Addr{ip("2001:db8::10"), ip("2001:db8::11")}))
	if err != nil {
		f.Fatal(err)
	}
	// Hardly any packet has the right checksum by chance.
	f.Fuzz(func(t *testing.T, frame []byte, seals bool) {
		if end := len(frame); seals && end >= 78 {
			binary.BigEndian.PutUint16(frame[18:], uint16(end-54))
			frame = seal(frame)
		}
		h, err := hear(frame, here)
		asked := h.Verdict == l2.Asked || h.Verdict == l2.Wanted
		if (h.Reply != nil) != asked || err != nil && h.Verdict != l2.Ignored {
			t.Fatalf("%+v, %v", h, err)
		}
		if n, err := vm.Run(frame); h.Verdict != l2.Ignored && (err != nil || n == 0) {
			t.Errorf("the filter holds back what matters: % x", frame)
		}
		if !asked {
			return
		}
		source, target := netip.AddrFrom16([16]byte(frame[22:])), netip.AddrFrom16([16]byte(frame[62:])).String()
		if frame[21] != 255 || frame[54] != 135 || (target != "2001:db8::10" && target != "2001:db8::11") {
			t.Errorf("type %d, hop limit %d, about %s is answered", frame[54], frame[21], target)
		}
		want := defended(us, target)
		if !source.IsUnspecified() {
			want = answered(us, h.MAC, target, source.String())
		}
		if got := text(h.Reply); got != want {
			t.Errorf("says %s, want %s", got, want)
		}
	})
}
