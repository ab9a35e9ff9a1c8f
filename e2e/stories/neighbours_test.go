package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// dualStack starts a Service with a pod on every node and one address of each
// family, and waits until the client is answered at the one of IPv6.
func dualStack(t *testing.T, l *lab.Lab, more string) (six netip.Addr, pods []string) {
	t.Helper()
	pods = onePodEach(l, "web")
	l.Apply(pool("lan", addrs, "fd50::f0-fd50::ff"))
	l.Apply(service{name: "web", more: "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]" + more}.String())
	l.WaitAddress("web")
	for _, a := range lab.Addresses(l.Service("web")) {
		if a.Is6() {
			six = a
		}
	}
	if !six.IsValid() {
		t.Fatalf("the service has %v, want one address of each family", lab.Addresses(l.Service("web")))
	}
	waitAnswer(t, l, l.Client, url(six))
	return six, pods
}

// believes is whom the client's kernel holds for an address.
func believes(l *lab.Lab, addr netip.Addr) (*lab.Node, error) {
	out, err := l.Client.Exec("ip", map[bool]string{false: "-4", true: "-6"}[addr.Is6()], "neigh", "show", "to", addr.String(), "dev", "eth0")
	if err != nil {
		return nil, err
	}
	for _, n := range l.Nodes() {
		if strings.Contains(out, n.MAC().String()) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the client holds nobody for %s: %q", addr, out)
}

// known is nil once the client's kernel holds the node that answers. It does not
// believe another before it has held one for a second (arp(7), locktime).
func known(l *lab.Lab, addr netip.Addr) func() error {
	return func() error {
		owner, err := l.Owner(addr)
		if err != nil {
			return err
		}
		if held, err := believes(l, addr); err != nil || held != owner {
			return fmt.Errorf("%s answers for %s, the client holds %v, %v", owner.Name, addr, held, err)
		}
		return nil
	}
}

func heldByAnother(l *lab.Lab, addr netip.Addr, than *lab.Node) error {
	now, err := believes(l, addr)
	if err == nil && now == than {
		err = fmt.Errorf("the client still holds %s for %s", now.Name, addr)
	}
	return err
}

func TestAnIPv6AddressIsFoundOnTheSegmentAndHeldByOneNode(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	addr, pods := dualStack(t, l, "")
	askAll(t, l.Client, url(addr), pods...)
	askAll(t, l.Far, url(addr), pods...) // whose router asks in turn
	if err := oneAnswer(l, addr); err != nil {
		t.Error(err)
	}
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := believes(l, addr); err != nil || held != owner {
		t.Errorf("%s answers, but the client holds %v for it, %v", owner.Name, held, err)
	}
	for _, n := range l.Nodes() {
		if out, err := n.Exec("ip", "-6", "addr"); err != nil || strings.Contains(out, addr.String()) {
			t.Errorf("%s is bound on %s: %v", addr, n.Name, err)
		}
	}

	// No kernel answers in the speakers' stead.
	for _, n := range l.Nodes() {
		n.Kill()
	}
	if err := l.Silent(addr); err != nil {
		t.Errorf("all speakers are dead, but %v", err)
	}
	for _, n := range l.Nodes() {
		n.StartSpeaker()
	}
	waitAnswer(t, l, l.Client, url(addr))
	l.DeleteService("web")
	waitGone(t, l, addr)
}

// The client asks nobody anew: its kernel is told.
func TestTheNeighbourCacheFollowsAnIPv6AddressWhoseSpeakerIsKilled(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	addr, _ := dualStack(t, l, "")
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	traffic := l.Client.Ask(url(addr), pace)
	owner.Kill()
	died := time.Now()
	l.Eventually("the client's kernel holds another node for it", func() error { return heldByAnother(l, addr, owner) })
	t.Logf("%s died; the client's kernel followed after %s", owner.Name, time.Since(died).Round(time.Millisecond))
	if err := oneAnswer(l, addr); err != nil {
		t.Error(err)
	}
	traffic.Stop()
	onlyCut(t, traffic, 2) // the rows of the node stand, and steer on
	owner.StartSpeaker()
	l.Eventually("one node answers, and only one", func() error { return oneAnswer(l, addr) })
}

func TestANodeThatLosesItsPlugLosesItsIPv6Addresses(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	addr, _ := dualStack(t, l, "")
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	traffic := l.Client.AskWithin(url(addr), pace, patience)
	owner.Unplug()
	l.Eventually("the client's kernel holds another node for it", func() error { return heldByAnother(l, addr, owner) })
	waitAnswer(t, l, l.Client, url(addr))
	traffic.Stop()
	t.Logf("%d of %d requests failed, %v without an answer at the longest", traffic.Failed, traffic.Requests, traffic.Longest)
}

// As with IPv4, connections that are open when the address moves are cut.
func TestAnIPv6AddressIsHandedOverWithoutAGap(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	addr, _ := dualStack(t, l, "")
	traffic := l.Client.Ask(url(addr), pace)
	for range 2 {
		owner, err := l.Owner(addr)
		if err != nil {
			t.Fatal(err)
		}
		owner.Stop()
		if now, err := l.Owner(addr); err != nil || now == owner {
			t.Errorf("%s has stopped, now %v answers, %v", owner.Name, now, err)
		}
		if err := heldByAnother(l, addr, owner); err != nil {
			t.Errorf("%s has stopped, but %v", owner.Name, err)
		}
		owner.StartSpeaker()
		l.Eventually("one node answers, and only one", func() error { return oneAnswer(l, addr) })
	}
	traffic.Stop()
	onlyCut(t, traffic, 4*cutsOfAMove) // twice away, and back
}
