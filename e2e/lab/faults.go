package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Guest adds a host to the segment, whose addresses end in number.
func (l *Lab) Guest(name string, number int) *Host {
	l.t.Helper()
	h, err := l.net.host(name, number)
	if err != nil {
		l.t.Fatalf("adding %s: %v", name, err)
	}
	return h
}

// A Machine is a host by which the network knows it.
type Machine interface{ machine() *Host }

func (h *Host) machine() *Host { return h }

// Block makes the switch pass no frame any more from some hosts to others. The
// other way needs a Block of its own.
func (l *Lab) Block(from, to []Machine) {
	l.t.Helper()
	out, err := execIn(l.net.sw.handle, []string{"nft",
		"add table bridge story; " +
			"add chain bridge story pass { type filter hook forward priority 0; }; " +
			"add rule bridge story pass iifname " + l.net.ports(from) + " oifname " + l.net.ports(to) + " drop"})
	if err != nil {
		l.t.Fatalf("blocking frames: %v: %s", err, out)
	}
}

// Unblock undoes every Block.
func (l *Lab) Unblock() {
	l.t.Helper()
	if out, err := execIn(l.net.sw.handle, []string{"nft", "delete table bridge story"}); err != nil {
		l.t.Fatalf("passing frames again: %v: %s", err, out)
	}
}

// ports returns the switch's ports of hosts, as an nft set.
func (n *network) ports(hosts []Machine) string {
	var names []string
	for _, h := range hosts {
		names = append(names, strings.TrimPrefix(h.machine().Namespace.Name, n.prefix))
	}
	return "{ " + strings.Join(names, ", ") + " }"
}

// CutAPI keeps the nodes from reaching the API server: their second interfaces
// lose their carrier.
func (l *Lab) CutAPI() {
	l.t.Helper()
	l.management("cutting", l.net.hub.down)
}

// RestoreAPI undoes CutAPI.
func (l *Lab) RestoreAPI() {
	l.t.Helper()
	l.management("restoring", l.net.hub.up)
}

func (l *Lab) management(doing string, do func(port string) error) {
	l.t.Helper()
	var errs []error
	for _, n := range l.nodes {
		errs = append(errs, do(fmt.Sprintf(hubPort, n.Name)))
	}
	if err := errors.Join(errs...); err != nil {
		l.t.Fatalf("%s the way to the API server: %v", doing, err)
	}
}

// ShiftClock puts the clock of all nodes forward, or back, as whoever sets it does;
// that of the API server stays. It takes a guest: the machine's clock is not ours.
func (l *Lab) ShiftClock(by time.Duration) {
	l.t.Helper()
	if !InGuest() {
		l.t.Fatalf("the clock of this machine is not ours to set")
	}
	to := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
	if err := unix.Settimeofday(&to); err != nil {
		l.t.Fatalf("setting the clock: %v", err)
	}
}

// Renewed returns when the speaker of a node renewed its Lease last, by its clock.
func (n *Node) Renewed() (time.Time, error) {
	lease, err := n.lab.cp.API.CoordinationV1().Leases(heraldNamespace).Get(n.lab.ctx, "herald-speaker-"+n.Name, metav1.GetOptions{})
	if err != nil || lease.Spec.RenewTime == nil {
		return time.Time{}, errors.Join(err, fmt.Errorf("reading when %s renewed its Lease", n.Name))
	}
	return lease.Spec.RenewTime.Time, nil
}

// Address gives the host more addresses on the segment, without a look at whether
// anybody has them.
func (h *Host) Address(t T, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if err := h.address("eth0", netip.PrefixFrom(a, a.BitLen()).String()); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

// Unaddress takes addresses from the host.
func (h *Host) Unaddress(t T, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if _, err := h.Exec("ip", "addr", "del", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0"); err != nil {
			t.Fatalf("taking %s from %s: %v", a, h.Name, err)
		}
	}
}

// Greet says, to all on the segment, that an address is at the host: by an ARP
// announcement, or by a solicitation that comes from there.
func (h *Host) Greet(addr netip.Addr) error {
	etherType, frame := uint16(unix.ETH_P_ARP), arpRequest
	if addr.Is6() {
		etherType, frame = unix.ETH_P_IPV6, solicitation
	}
	sock, err := h.packetSocket(etherType)
	if err != nil {
		return fmt.Errorf("greeting %s from %s: %w", addr, h.Name, err)
	}
	_, err = sock.Write(frame(h.mac, addr, addr))
	return errors.Join(err, sock.Close())
}
