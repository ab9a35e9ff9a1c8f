package arp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// Whatever comes in: nothing panics, and the only answer is the right reply to
// a request for a claimed address from somebody else.
func FuzzHear(f *testing.F) {
	for _, p := range promises(us, them) {
		f.Add(p.Frame)
	}
	f.Add([]byte{})
	vm, err := bpf.NewVM(filter([]netip.Addr{ip("192.0.2.10"), ip("192.0.2.11")}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := hear(frame, here)
		if (h.Reply != nil) != (h.Verdict == l2.Asked) || err != nil && h.Verdict != l2.Ignored {
			t.Fatalf("%+v, %v", h, err)
		}
		if n, err := vm.Run(frame); h.Verdict != l2.Ignored && (err != nil || n == 0) {
			t.Errorf("the filter holds back what matters: % x", frame)
		}
		if h.Verdict != l2.Asked {
			return
		}
		dotted := func(at int) string {
			return fmt.Sprintf("%d.%d.%d.%d", frame[at], frame[at+1], frame[at+2], frame[at+3])
		}
		asker, sender, target := l2.MAC(frame[22:28]), dotted(28), dotted(38)
		if op := binary.BigEndian.Uint16(frame[20:]); op != 1 || (target != "192.0.2.10" && target != "192.0.2.11") {
			t.Errorf("operation %d about %s is answered", op, target)
		}
		if got, want := text(h.Reply), text(wire(asker, us, 2, us, target, asker, sender)); got != want {
			t.Errorf("says %s, want %s", got, want)
		}
	})
}
