package l2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/speaker"
)

// An Observation is that a host has said that an address is his.
type Observation struct {
	At  time.Time
	MAC MAC
}

// Observe asks for an address again and again, on the link of this host whose
// subnet holds it, and tells what is answered until ctx ends. It takes the right
// to open packet sockets.
func Observe(ctx context.Context, p Protocol, addr netip.Addr, every time.Duration, tell func(Observation)) error {
	link, from, err := linkTo(addr)
	if err != nil {
		return err
	}
	follows := newClaims(p, speaker.Announcements{Claims: []speaker.Claim{{Addr: addr, Link: link.Name}}}, &claims{})
	conn, err := newKernel(p, nil).Listen(link, p.Filter([]netip.Addr{addr}))
	if err != nil {
		return fmt.Errorf("opening a packet socket on %s: %w", link.Name, err)
	}
	on := &port{proto: p, link: link, conn: conn, count: &counters{}}
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // which ends the reading
	g.Go(func() error {
		buf := make([]byte, FrameSize)
		for {
			n, _, err := conn.ReadFrom(buf)
			switch {
			case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
				return nil
			case err != nil:
				return fmt.Errorf("observing %s on %s: %w", addr, link.Name, err)
			}
			h, err := p.Hear(buf[:n], Station{Link: link.Name, MAC: link.MAC, claims: follows})
			if err == nil && h.Verdict == Disputed {
				tell(Observation{time.Now(), h.MAC})
			}
		}
	})
	g.Go(func() error {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			ask, err := p.Question(addr, from, link.MAC)
			if err == nil {
				err = on.send(ask)
			}
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("asking for %s on %s: %w", addr, link.Name, err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// linkTo returns the link of this host whose subnet holds addr, and the address
// that it has there.
func linkTo(addr netip.Addr) (Link, netip.Addr, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return Link{}, netip.Addr{}, fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	usable, err := Links(h)
	if err != nil {
		return Link{}, netip.Addr{}, err
	}
	all, err := newKernel(Protocol{}, nil).Links()
	if err != nil {
		return Link{}, netip.Addr{}, err
	}
	for _, l := range usable {
		for _, p := range l.Prefixes {
			i := slices.IndexFunc(all, func(one Link) bool { return one.Name == l.Name })
			if p.Contains(addr) && i >= 0 {
				return all[i], p.Addr(), nil
			}
		}
	}
	return Link{}, netip.Addr{}, fmt.Errorf("no link of this host is in the subnet of %s", addr)
}
