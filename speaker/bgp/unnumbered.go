package bgp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	xipv6 "golang.org/x/net/ipv6"
)

// How long routers may take to answer, and how long to wait for a second one.
const (
	findTimeout = time.Second
	findSecond  = 50 * time.Millisecond
)

// find returns the address of the router at the other end of a link: of
// whoever answers to what is sent to all routers there (RFC 4861 §4.1, and a
// ping for those that do not advertise themselves).
//
// Routers that are to find this node, too, FRR among them, do so by its
// advertisement. It says that this node is no default router.
func find(ctx context.Context, link string) (netip.Addr, error) {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("spec.interface: this node has no link %s", link)
	}
	own, err := addrsOf(*iface)
	if err != nil {
		return netip.Addr{}, err
	}
	local := first(own, func(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() })
	if !local.IsValid() {
		return netip.Addr{}, fmt.Errorf("%s has no link-local address: is it up, and IPv6 enabled on it?", link)
	}
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", local.WithZone(link).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("opening a socket for ICMPv6: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	id, err := ask(conn, link)
	if err != nil {
		return netip.Addr{}, err
	}
	routers, err := answers(conn, id, own)
	switch {
	case err != nil:
		return netip.Addr{}, err
	case len(routers) == 0:
		return netip.Addr{}, fmt.Errorf("no router answers on %s: does it have IPv6 there, and forwards it?", link)
	case len(routers) > 1:
		return netip.Addr{}, fmt.Errorf("several routers answer on %s, %s and %s among them: set spec.address to the one that is meant", link, routers[0], routers[1])
	}
	return routers[0].WithZone(link), nil
}

// ask sends all there is to say and to ask, and returns the ID of the ping.
func ask(conn *icmp.PacketConn, link string) (int, error) {
	id := rand.IntN(1 << 16)
	// RFC 4861 §6.1.1: nodes do not hear what has passed a router.
	if err := conn.IPv6PacketConn().SetMulticastHopLimit(255); err != nil {
		return 0, fmt.Errorf("setting the hop limit: %w", err)
	}
	for _, m := range []icmp.Message{
		{Type: xipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: make([]byte, 12)}}, // lifetime 0
		{Type: xipv6.ICMPTypeRouterSolicitation, Body: &icmp.RawBody{Data: make([]byte, 4)}},
		{Type: xipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: id, Data: []byte("herald")}},
	} {
		packet, err := m.Marshal(nil) // the kernel adds the checksum
		if err != nil {
			return 0, fmt.Errorf("encoding %v: %w", m.Type, err)
		}
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: net.IPv6linklocalallrouters, Zone: link}); err != nil {
			return 0, fmt.Errorf("asking for routers on %s: %w", link, err)
		}
	}
	return id, nil
}

// answers returns who has answered, sorted.
func answers(conn *icmp.PacketConn, id int, own []netip.Addr) ([]netip.Addr, error) {
	var routers []netip.Addr
	buf, end := make([]byte, 1500), time.Now().Add(findTimeout)
	for {
		if err := conn.SetReadDeadline(end); err != nil {
			return nil, fmt.Errorf("bounding the search: %w", err)
		}
		n, from, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			slices.SortFunc(routers, netip.Addr.Compare)
			return routers, nil
		case err != nil:
			return nil, fmt.Errorf("waiting for routers: %w", err)
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if !isAnswer(buf[:n], id) || !addr.IsLinkLocalUnicast() || slices.Contains(own, addr) || slices.Contains(routers, addr) {
			continue
		}
		if len(routers) == 0 {
			end = time.Now().Add(findSecond)
		}
		routers = append(routers, addr)
	}
}

func isAnswer(packet []byte, id int) bool {
	m, err := icmp.ParseMessage(58, packet)
	if err != nil {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return m.Type == xipv6.ICMPTypeRouterAdvertisement || ok && m.Type == xipv6.ICMPTypeEchoReply && echo.ID == id
}
