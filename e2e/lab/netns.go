package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// home is the network namespace that this process was started in.
var home = sync.OnceValues(netns.Get)

// A Namespace is a network namespace. Name is its name for `ip netns exec`.
type Namespace struct {
	Name   string
	handle netns.NsHandle
	links  *netlink.Handle
}

// hostSysctls make a host fit for short tests: no waiting for duplicate
// address detection, and replies may take another way than requests. A route to
// a node that a test has made is not to be redirected for minutes, by a packet
// that came before the node knew what to do with it: routers ignore that too.
var hostSysctls = map[string]string{
	"net.ipv4.conf.all.accept_redirects":     "0",
	"net.ipv4.conf.default.accept_redirects": "0",
	"net.ipv6.conf.all.accept_redirects":     "0",
	"net.ipv6.conf.default.accept_redirects": "0",
	"net.ipv6.conf.all.accept_dad":           "0",
	"net.ipv6.conf.default.accept_dad":       "0",
	"net.ipv4.conf.all.rp_filter":            "0",
	"net.ipv4.conf.default.rp_filter":        "0",
}

// newNamespace makes a namespace whose loopback is up.
func newNamespace(name string) (*Namespace, error) {
	handle, err := createNamed(name)
	if err != nil {
		return nil, fmt.Errorf("making namespace %s: %w", name, err)
	}
	ns := &Namespace{Name: name, handle: handle}
	if err := ns.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing namespace %s: %w", name, err), ns.close())
	}
	return ns, nil
}

func (ns *Namespace) prepare() (err error) {
	// Only the route family: a handle for all of them fails on kernels
	// without XFRM.
	if ns.links, err = netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if err := ns.sysctls(hostSysctls); err != nil {
		return err
	}
	return ns.up("lo")
}

// createNamed makes the namespace on a thread that is thrown away if it cannot
// find home again.
func createNamed(name string) (netns.NsHandle, error) {
	back, err := home()
	if err != nil {
		return netns.None(), err
	}
	handle, made := netns.None(), make(chan error)
	go func() {
		runtime.LockOSThread()
		h, err := netns.NewNamed(name)
		handle = h
		if errBack := netns.Set(back); errBack == nil {
			runtime.UnlockOSThread()
		}
		made <- err
	}()
	err = <-made
	return handle, err
}

// Do runs f on a thread inside the namespace. Sockets that f opens and
// processes that f starts belong to the namespace for good; goroutines that it
// starts do not.
func (ns *Namespace) Do(f func() error) error { return within(ns.handle, f) }

func within(handle netns.NsHandle, f func() error) error {
	back, err := home()
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(handle); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("entering a namespace: %w", err)
			return
		}
		err := f()
		if netns.Set(back) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// sysctls sets kernel parameters of the namespace.
func (ns *Namespace) sysctls(values map[string]string) error {
	return ns.Do(func() error {
		var errs []error
		for key, value := range values {
			path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				errs = append(errs, fmt.Errorf("setting %s: %w", key, err))
			}
		}
		return errors.Join(errs...)
	})
}

func (ns *Namespace) up(name string) error {
	link, err := ns.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	return ns.links.LinkSetUp(link)
}

func (ns *Namespace) down(name string) error {
	link, err := ns.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	return ns.links.LinkSetDown(link)
}

// address gives the link addresses, at once usable.
func (ns *Namespace) address(name string, prefixes ...string) error {
	link, err := ns.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := ns.links.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("adding %s to %s in %s: %w", p, name, ns.Name, err)
		}
	}
	return nil
}

// route leads prefix ("default" for all of via's family) to via, and no more to where it led before.
func (ns *Namespace) route(prefix, via string) error {
	gw, err := netip.ParseAddr(via)
	if err != nil {
		return err
	}
	r := &netlink.Route{Gw: net.IP(gw.AsSlice())}
	if prefix != "default" {
		if _, r.Dst, err = net.ParseCIDR(prefix); err != nil {
			return err
		}
	}
	if err := ns.links.RouteReplace(r); err != nil {
		return fmt.Errorf("leading %s via %s in %s: %w", prefix, via, ns.Name, err)
	}
	return nil
}

// bridge makes a bridge. Multicast snooping is off: it eats neighbour
// solicitations as long as nobody asks who listens.
func (ns *Namespace) bridge(name string) error {
	off := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := ns.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
		return fmt.Errorf("making bridge %s in %s: %w", name, ns.Name, err)
	}
	return ns.up(name)
}

// A plug is one end of a cable.
type plug struct {
	ns     *Namespace
	link   string
	mac    string // "" for a random one
	bridge string // "" for none
}

// cable joins two namespaces by a veth pair that is up at both ends.
func cable(a, b plug) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.link
	attrs.HardwareAddr, _ = net.ParseMAC(a.mac)
	peerMAC, _ := net.ParseMAC(b.mac)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.link, PeerHardwareAddr: peerMAC, PeerNamespace: netlink.NsFd(b.ns.handle)}
	if err := a.ns.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("joining %s and %s: %w", a.ns.Name, b.ns.Name, err)
	}
	return errors.Join(a.connect(), b.connect())
}

func (p plug) connect() error {
	link, err := p.ns.links.LinkByName(p.link)
	if err != nil {
		return fmt.Errorf("finding link %s in %s: %w", p.link, p.ns.Name, err)
	}
	if p.bridge != "" {
		br, err := p.ns.links.LinkByName(p.bridge)
		if err != nil {
			return fmt.Errorf("finding bridge %s in %s: %w", p.bridge, p.ns.Name, err)
		}
		if err := p.ns.links.LinkSetMaster(link, br); err != nil {
			return fmt.Errorf("putting %s on %s: %w", p.link, p.bridge, err)
		}
	}
	return p.ns.links.LinkSetUp(link)
}

// close lets go of the namespace: the kernel takes it down with the last
// process and socket in it.
func (ns *Namespace) close() error {
	if ns.links != nil {
		ns.links.Close()
	}
	err := netns.DeleteNamed(ns.Name)
	if err != nil {
		err = fmt.Errorf("deleting namespace %s: %w", ns.Name, err)
	}
	return errors.Join(err, ns.handle.Close())
}
