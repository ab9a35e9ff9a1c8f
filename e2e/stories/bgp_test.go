package stories

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// routerConfig is a router that knows no node, but takes sessions from all of them,
// and spreads what it sends.
const routerConfig = `
log stderr all;
router id 192.168.50.1;
protocol device {}
protocol kernel kernel4 { merge paths yes; ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel kernel6 { merge paths yes; ipv6 { import none; export where source = RTS_BGP; }; }
protocol bgp node {
	local as 65001;
	neighbor range 192.168.50.0/24 as 65000;
	dynamic name "node";
	hold time 9;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; extended next hop; };
}
`

// routedPool is a pool that routers are told, and that is in no subnet.
const routedPool = `
apiVersion: herald-lb.io/v1alpha1
kind: AddressPool
metadata: {name: routed}
spec:
  addresses: [203.0.113.0/28, "2001:db8:113::/124"]
  announce: {bgp: [{}]}
`

func bgpPeer(name, spec string) string {
	return fmt.Sprintf("apiVersion: herald-lb.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// hops is nil once the router's kernel sends what is for addr to these nodes.
func hops(l *lab.Lab, addr netip.Addr, nodes ...*lab.Node) error {
	got, err := l.Router.Hops(addr)
	if err != nil {
		return err
	}
	var want []netip.Addr
	for _, n := range nodes {
		want = append(want, n.Addr(addr.Is4()))
	}
	slices.SortFunc(want, netip.Addr.Compare)
	if !slices.Equal(got, want) {
		return fmt.Errorf("it is routed to %v, want %v", got, want)
	}
	return nil
}

func TestRoutersSpreadWhatTheyAreToldOverAllNodes(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	bird := l.Bird(routerConfig)
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", "myASN: 65000, peerASN: 65001, address: 192.168.50.1"))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	all := l.Nodes()
	l.Eventually("all nodes have told it", func() error { return hops(l, addr, all...) })
	waitAnswer(t, l, l.Far, url(addr))
	askAll(t, l.Far, url(addr), pods...)
	l.Eventually("the peer says so", func() error {
		c, err := l.Object("bgppeers", "router")
		if err != nil {
			return err
		}
		if !strings.Contains(c, `"established":"3/3"`) || !strings.Contains(c, `"reason":"Established"`) {
			return fmt.Errorf("it says %s", c)
		}
		return nil
	})

	// A speaker that is killed has no connection any more.
	all[0].Kill()
	l.Eventually("the others have it", func() error { return hops(l, addr, all[1], all[2]) })
	all[0].StartSpeaker()
	l.Eventually("all have it again", func() error { return hops(l, addr, all...) })

	// One that stops, and a node that is drained, are relieved first.
	traffic := l.Far.Ask(url(addr), 5*time.Millisecond)
	all[1].Stop()
	traffic.Stop()
	if all[0].DataPath() == "ipvs" {
		noFailures(t, traffic)
	} else {
		onlyCut(t, traffic, 2)
	}
	l.Eventually("the others have it", func() error { return hops(l, addr, all[0], all[2]) })
	all[1].StartSpeaker()
	l.Eventually("all have it again", func() error { return hops(l, addr, all...) })

	// What has no endpoint any more is withdrawn, and a Service that is gone.
	l.DeleteService("web")
	l.Eventually("it is withdrawn", func() error { return hops(l, addr) })
	if said, err := bird.Ask("show protocols"); err != nil || strings.Count(said, "Established") != 3 {
		t.Errorf("sessions that have nothing to tell are closed: %v\n%s", err, said)
	}
}
