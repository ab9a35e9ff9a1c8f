package lab

import (
	"errors"
	"fmt"
	"strings"
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

// Address gives the host one more address on the segment, without asking
// whether anybody has it.
func (h *Host) Address(prefix string) error { return h.address("eth0", prefix) }

// Unaddress takes an address from the host.
func (h *Host) Unaddress(prefix string) error {
	_, err := h.Exec("ip", "addr", "del", prefix, "dev", "eth0")
	return err
}
