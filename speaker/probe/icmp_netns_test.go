//go:build netns

package probe

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestAHostAnswersUntilItsCableIsPulled(t *testing.T) {
	nettest.Require(t)
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	nettest.Cable(t,
		nettest.End{In: a, Link: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
		nettest.End{In: b, Link: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
	ping := func(addr string, within time.Duration) (ok bool) {
		if err := a.Do(func() (err error) {
			ok, err = ICMP{}.Ping(context.Background(), netip.MustParseAddr(addr), within)
			return err
		}); err != nil {
			t.Logf("pinging %s: %v", addr, err)
		}
		return ok
	}
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		if !ping(addr, nettest.Long) {
			t.Errorf("%s does not answer", addr)
		}
	}
	if ping("192.0.2.3", 100*time.Millisecond) {
		t.Error("an address that nobody has answers")
	}
	b.Down(t, "eth0")
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		if ping(addr, 100*time.Millisecond) {
			t.Errorf("%s answers with its cable pulled", addr)
		}
	}
}
