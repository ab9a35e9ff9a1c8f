package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// RouteVia leads one address to another host of the segment, whoever announces
// it.
func (h *Host) RouteVia(addr netip.Addr, via *Host) error {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	link, err := via.links.LinkByName("eth0")
	if err != nil {
		return err
	}
	addrs, err := via.links.AddrList(link, family)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.IP.IsGlobalUnicast() {
			return h.route(fmt.Sprintf("%s/%d", addr, addr.BitLen()), a.IP.String())
		}
	}
	return fmt.Errorf("leading %s to %s: it has no address of that family", addr, via.Name)
}

// Uninstall removes everything of Herald's from the node, as an administrator
// would.
func (n *Node) Uninstall() (string, error) {
	return n.Exec(n.lab.cp.herald, "uninstall-node", "--state-dir", n.StateDir(), "--memory-dir", n.MemoryDir())
}

// Reboot leaves of a node whose speaker has ended what outlives a reboot of the
// machine: nothing in its kernel.
func (n *Node) Reboot() {
	n.lab.t.Helper()
	out, err := n.Exec(n.lab.cp.herald, "uninstall-node", "--state-dir", n.StateDir(), "--memory-dir", "")
	if err != nil {
		n.lab.t.Fatalf("emptying the kernel of %s: %v\n%s", n.Name, err, out)
	}
}

// Prepare prepares the node as the init container of a speaker's pod does.
func (n *Node) Prepare() {
	n.lab.t.Helper()
	if out, err := n.Exec(n.lab.cp.herald, "prepare-node", "--state-dir", n.StateDir(), "--node-ips", n.ips()); err != nil {
		n.lab.t.Fatalf("preparing %s: %v\n%s", n.Name, err, out)
	}
}

// ips is what the speaker gets as --node-ips.
func (n *Node) ips() string {
	a4, a6 := lanAddrs(nodeNumber(n.index))
	return a4 + "," + a6
}

// A Watch notes what changes in a node's kernel.
type Watch struct {
	node     *Node
	monitors []monitor
	stats    map[string]int64 // IPVS: connections of each row at the start
}

// A monitor is an `nft monitor` and what it writes.
type monitor struct {
	proc *process
	log  string
	exec func(args ...string) (string, error) // where it listens
}

// endMark is a table that is made to see that a monitor has told everything
// that happened before.
const endMark = "lab-end-of-watch"

// Watch starts to note every change of Herald's nftables, whoever makes it.
// IPVS does not tell of changes: its counters do, which begin again with a new
// row.
func (n *Node) Watch() *Watch {
	n.lab.t.Helper()
	w := &Watch{node: n}
	if err := w.start(); err != nil {
		n.lab.t.Fatalf("watching the kernel of %s: %v", n.Name, err)
	}
	return w
}

func (w *Watch) start() (err error) {
	if err := w.monitor(w.node.Namespace, "host", w.node.Exec); err != nil || w.node.DataPath() != "ipvs" {
		return err
	}
	handle, err := netns.GetFromPath(w.node.Pinned("lb"))
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := w.monitor(&Namespace{Name: "lb", handle: handle}, "lb", w.node.Inside); err != nil {
		return err
	}
	w.stats, err = w.node.connections()
	return err
}

// monitor starts `nft monitor` and waits until the kernel talks to it.
func (w *Watch) monitor(ns *Namespace, name string, exec func(...string) (string, error)) error {
	l := w.node.lab
	log := l.cp.log(fmt.Sprintf("%s-%s-nft-monitor-%s", l.name, w.node.Name, name))
	proc, err := ns.start("nft monitor", log, "nft", "monitor")
	if err != nil {
		return err
	}
	w.monitors = append(w.monitors, monitor{proc: proc, log: log, exec: exec})
	return poll(l.ctx, settleWithin, func() error { return subscribed(proc.cmd.Process.Pid) })
}

// end stops the monitor once it has told everything, and returns that.
func (m monitor) end(ctx context.Context) (string, error) {
	defer m.proc.kill()
	if _, err := m.exec("nft", "add table inet "+endMark+"; delete table inet "+endMark); err != nil {
		return "", err
	}
	var told string
	err := poll(ctx, settleWithin, func() error {
		out, err := os.ReadFile(m.log)
		if told = string(out); err == nil && !strings.Contains(told, "delete table inet "+endMark) {
			err = errors.New("the monitor has not told of the end")
		}
		return err
	})
	return told, err
}

// subscribed says whether a process listens to nftables' multicast group.
func subscribed(pid int) error {
	const netfilter = "12"
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		// sk Eth Pid Groups …
		f := strings.Fields(line)
		if len(f) > 3 && f[1] == netfilter && f[2] == strconv.Itoa(pid) && f[3] != "00000000" {
			return nil
		}
	}
	return errors.New("nft monitor does not listen yet")
}

// connections returns how many connections each IPVS row has seen, destinations
// by their virtual server's address, too.
func (n *Node) connections() (map[string]int64, error) {
	counts := map[string]int64{}
	for _, tier := range Tiers {
		out, err := n.InTier(tier, "ipvsadm", "-Ln", "--stats", "--exact")
		if err != nil {
			return nil, err
		}
		countConnections(tier, out, counts)
	}
	return counts, nil
}

func countConnections(tier, listing string, counts map[string]int64) {
	virtual := ""
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		key := tier + " " + f[0] + " " + f[1]
		if f[0] == "->" {
			key = virtual + " " + f[1]
		} else {
			virtual = key
		}
		if conns, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			counts[key] = conns
		}
	}
}

// ours returns the changes to Herald's own table: what a probe tries in a table
// of its own that it drops again steers nothing.
func ours(monitor string) string {
	var b strings.Builder
	for line := range strings.Lines(monitor) {
		if strings.Contains(line, " inet herald ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Stop ends the watch and returns what has changed; "" for nothing.
func (w *Watch) Stop() string {
	w.node.lab.t.Helper()
	var changes strings.Builder
	for _, m := range w.monitors {
		told, err := m.end(w.node.lab.ctx)
		if err != nil {
			w.node.lab.t.Fatalf("ending the watch of %s: %v", w.node.Name, err)
		}
		changes.WriteString(ours(told))
	}
	if w.stats != nil {
		now, err := w.node.connections()
		if err != nil {
			w.node.lab.t.Fatalf("reading the counters of %s: %v", w.node.Name, err)
		}
		for row, before := range w.stats {
			if now[row] < before {
				fmt.Fprintf(&changes, "%s: %d connections, then %d\n", row, before, now[row])
			}
		}
	}
	return changes.String()
}
