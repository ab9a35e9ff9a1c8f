//go:build netns

package ipvs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestATrialSaysWhatThereIsAndWhatNot(t *testing.T) {
	nettest.RequireIPVS(t)
	got, err := Try(context.Background(), []string{"rr", "nobody", "mh"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Schedulers["rr"] != nil || got.Schedulers["mh"] != nil || !errors.Is(got.Schedulers["nobody"], unix.ENOENT) {
		t.Errorf("schedulers %v", got.Schedulers)
	}
	if len(got.Tunnels) != 2 || got.Tunnels["IPv4"] != nil || got.Tunnels["IPv6"] != nil {
		t.Errorf("tunnels %v", got.Tunnels)
	}
}

func TestWhatHeraldHasMadeIsNotForeign(t *testing.T) {
	nettest.RequireIPVS(t)
	node := nettest.New(t, "node")
	k := newKernel(t, node)
	if err := k.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	found, err := FindForeign(node.Link)
	if err != nil || found.Taken != nil || found.Shared != nil {
		t.Errorf("FindForeign() = %+v, %v beside nothing but Herald", found, err)
	}
	node.Run(t, "ip", "-6", "rule", "add", "fwmark", "0x40/0x40", "lookup", "7280", "priority", "72")
	node.Run(t, "ip", "rule", "add", "from", "10.0.0.0/8", "lookup", "7280", "priority", "72")
	found, err = FindForeign(node.Link)
	if err != nil || found.Taken != nil || len(found.Shared) != 2 ||
		!strings.Contains(found.Shared[0], "rule 72 of IPv4 has the priority") || !strings.Contains(found.Shared[1], "rule 72 of IPv6 looks at mark 0x40/0x40") {
		t.Errorf("FindForeign() = %+v, %v beside two rules of others", found, err)
	}
}
