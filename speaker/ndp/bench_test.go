package ndp

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// many returns n addresses, every other one of a block.
func many(n int) (addrs []string) {
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("2001:db8::%x", 2*i))
	}
	return addrs
}

// BenchmarkHear is what a packet costs, the reply included.
func BenchmarkHear(b *testing.B) {
	for _, claims := range []int{10, 5000} {
		at := station(many(claims)...)
		for name, target := range map[string]string{"answered": "2001:db8::8", "ignored": "2001:db8::9"} {
			b.Run(fmt.Sprintf("%s/claims=%d", name, claims), func(b *testing.B) {
				frame := solicit(them, "2001:db8:9::1", target).wire()
				b.ReportAllocs()
				for b.Loop() {
					if h, err := hear(frame, at); err != nil || (h.Reply != nil) != (name == "answered") {
						b.Fatalf("hear() = %+v, %v", h, err)
					}
				}
			})
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	var addrs []netip.Addr
	for _, a := range many(5000) {
		addrs = append(addrs, ip(a))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bpf.Assemble(filter(addrs)); err != nil {
			b.Fatal(err)
		}
	}
}
