package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// A Bird is a BIRD that runs on a router.
type Bird struct {
	host   *Host
	socket string
	proc   *process
}

// Bird starts BIRD on the router with a configuration, and ends it with the lab.
func (l *Lab) Bird(config string) *Bird {
	l.t.Helper()
	dir := filepath.Join(l.cp.run, l.name+"-bird")
	b := &Bird{host: l.Router, socket: filepath.Join(dir, "ctl")}
	conf := filepath.Join(dir, "bird.conf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatalf("%v", err)
	}
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		l.t.Fatalf("%v", err)
	}
	var err error
	if b.proc, err = l.Router.start("bird", filepath.Join(dir, "log"), "bird", "-f", "-c", conf, "-s", b.socket); err != nil {
		l.t.Fatalf("%v", err)
	}
	l.t.Cleanup(b.proc.kill)
	l.Eventually("BIRD answers", func() error {
		_, err := b.Ask("show status")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, tail(filepath.Join(dir, "log"), 2048))
		}
		return err
	})
	return b
}

// Ask has BIRD carry out a command, and returns what it says.
func (b *Bird) Ask(command string) (string, error) {
	return b.host.Exec(append([]string{"birdc", "-r", "-s", b.socket}, strings.Fields(command)...)...)
}

// Hops returns the next hops that the host's kernel has for an address by itself,
// sorted.
func (h *Host) Hops(addr netip.Addr) ([]netip.Addr, error) {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	dst := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	routes, err := h.links.RouteListFiltered(family, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("listing the routes to %s: %w", addr, err)
	}
	var hops []netip.Addr
	add := func(ip net.IP) {
		if a, ok := netip.AddrFromSlice(ip); ok {
			hops = append(hops, a.Unmap())
		}
	}
	for _, r := range routes {
		add(r.Gw)
		for _, p := range r.MultiPath {
			add(p.Gw)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops), nil
}

// Addr returns the node's address on the segment of a family.
func (n *Node) Addr(four bool) netip.Addr {
	a4, a6 := lanAddrs(nodeNumber(n.index))
	if four {
		return netip.MustParseAddr(a4)
	}
	return netip.MustParseAddr(a6)
}

// Object returns an object of Herald's own cluster-wide kinds, as JSON.
func (l *Lab) Object(resource, name string) (string, error) {
	o, err := l.cp.API.dynamic.Resource(v1alpha1.GroupVersion.WithResource(resource)).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	text, err := o.MarshalJSON()
	return string(text), err
}
