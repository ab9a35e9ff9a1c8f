package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A RouteWatch notes what changes in the routes of a host's kernel.
type RouteWatch struct {
	end  chan struct{}
	done chan struct{}

	mu      sync.Mutex
	changes []RouteChange
	err     error // why something may be missing
}

// A RouteChange is one, as netlink tells it.
type RouteChange struct {
	At     time.Time
	Prefix netip.Prefix
	Gone   bool
	Hops   []netip.Addr // of IPv6 only those that come or go
}

// WatchRoutes notes every change of the host's routes until Stop.
func (h *Host) WatchRoutes() (*RouteWatch, error) {
	w := &RouteWatch{end: make(chan struct{}), done: make(chan struct{})}
	updates := make(chan netlink.RouteUpdate, 1<<14)
	err := netlink.RouteSubscribeWithOptions(updates, w.end, netlink.RouteSubscribeOptions{
		Namespace: &h.handle, ReceiveBufferSize: 16 << 20, ReceiveBufferForceSize: true, ErrorCallback: w.fail,
	})
	if err != nil {
		return nil, fmt.Errorf("watching the routes of %s: %w", h.Name, err)
	}
	go func() {
		defer close(w.done)
		for u := range updates {
			w.note(u, time.Now())
		}
	}()
	return w, nil
}

func (w *RouteWatch) note(u netlink.RouteUpdate, at time.Time) {
	if u.Dst == nil {
		return
	}
	c := RouteChange{At: at, Prefix: prefixOf(u.Dst), Gone: u.Type == unix.RTM_DELROUTE, Hops: hopsOf(u.Route)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
}

func (w *RouteWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.end: // it is us who have closed the socket
	default:
		w.err = err
	}
}

// Changes returns what has changed of the way to an address by itself.
func (w *RouteWatch) Changes(addr netip.Addr) []RouteChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.changes), func(c RouteChange) bool {
		return c.Prefix != netip.PrefixFrom(addr, addr.BitLen())
	})
}

// Count returns how many prefixes in a range have come, and have not gone.
func (w *RouteWatch) Count(within netip.Prefix) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[netip.Prefix]bool{}
	for _, c := range w.changes {
		if within.Contains(c.Prefix.Addr()) {
			there[c.Prefix] = !c.Gone
		}
	}
	n := 0
	for _, is := range there {
		if is {
			n++
		}
	}
	return n
}

// Stop ends the watch, and returns why something may be missing.
func (w *RouteWatch) Stop() error {
	close(w.end)
	<-w.done
	return w.err
}

func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

// hopsOf returns the next hops of a route, sorted.
func hopsOf(r netlink.Route) []netip.Addr {
	var hops []netip.Addr
	add := func(gw net.IP, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok { // IPv4 by an IPv6 next hop (RFC 8950)
			gw = v.Addr
		}
		if a, ok := netip.AddrFromSlice(gw); ok {
			hops = append(hops, a.Unmap())
		}
	}
	add(r.Gw, r.Via)
	for _, p := range r.MultiPath {
		add(p.Gw, p.Via)
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}
