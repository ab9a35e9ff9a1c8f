//go:build netns

package l2

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
)

// patience is how long the kernel may take.
const patience = 10 * time.Second

func TestLinks(t *testing.T) {
	t.Parallel()
	nettest.Require(t)
	node, client := nettest.New(t, "node"), nettest.New(t, "client")
	nettest.Cable(t,
		nettest.End{In: node, Link: "eth0", Addrs: []string{"192.0.2.2/24"}},
		nettest.End{In: client, Link: "eth0", Addrs: []string{"192.0.2.1/24"}})
	nettest.Cable(t, nettest.End{In: node, Link: "port", Addrs: []string{"10.2.0.1/16"}}, nettest.End{In: client, Link: "eth1"})
	node.Bridge(t, "br0", "port")
	node.Addr(t, "br0", "10.1.0.1/16", "2001:db8::1/64")
	node.Addr(t, "lo", "10.5.0.1/32")
	for name, addrs := range map[string][]string{
		"pod": nil, "herald0": {"10.3.0.1/16"}, "two": {"10.4.0.1/16", "10.4.0.9/32"}, "down": {"10.6.0.1/16"}, "kube-ipvs0": {"10.7.0.1/32"},
	} {
		nettest.Cable(t, nettest.End{In: node, Link: name, Addrs: addrs}, nettest.End{In: client, Link: name})
	}
	node.Down(t, "down")
	silent, err := node.Link.LinkByName("kube-ipvs0")
	if err = errors.Join(err, node.Link.LinkSetARPOff(silent)); err != nil {
		t.Fatal(err)
	}

	wanted := []snapshot.Link{
		{Name: "br0", Prefixes: prefixes("10.1.0.1/16", "2001:db8::1/64")},
		{Name: "eth0", Prefixes: prefixes("192.0.2.2/24")},
		{Name: "two", Prefixes: prefixes("10.4.0.1/16", "10.4.0.9/32")},
	}
	byValue := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	var got []snapshot.Link
	waitFor(t, "the bridge to come up", func() bool {
		if got, err = Links(node.Link); err != nil {
			t.Fatal(err)
		}
		return len(got) >= len(wanted)
	})
	for i := range wanted {
		link, err := node.Link.LinkByName(wanted[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		wanted[i].MAC = [6]byte(link.Attrs().HardwareAddr)
	}
	if diff := cmp.Diff(wanted, got, byValue); diff != "" {
		t.Errorf("Links() (-want +got):\n%s", diff)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestWatchRings(t *testing.T) {
	t.Parallel()
	nettest.Require(t)
	node, other := nettest.New(t, "node"), nettest.New(t, "other")
	rings := make(chan bool, 1000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch(ctx, node.Handle, func() { rings <- true }) }()
	<-rings // it has begun
	changes := []struct {
		name string
		do   func()
	}{
		{"a link comes", func() { nettest.Cable(t, nettest.End{In: node, Link: "eth0"}, nettest.End{In: other, Link: "eth0"}) }},
		{"an address comes", func() { node.Addr(t, "eth0", "192.0.2.1/24") }},
		{"a link goes down", func() { node.Down(t, "eth0") }},
	}
	for _, c := range changes {
		for len(rings) > 0 {
			<-rings
		}
		c.do()
		select {
		case <-rings:
		case <-time.After(patience):
			t.Errorf("%s, and nobody rings", c.name)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("watch() = %v", err)
	}
}

// waitFor polls what gives no sign of its own.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s in vain", what)
		}
	}
}
