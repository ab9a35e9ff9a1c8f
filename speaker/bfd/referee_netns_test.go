//go:build netns

package bfd

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

// A referee is another implementation of BFD, which judges ours.
type referee interface {
	// views returns its sessions, by the address of the peer.
	views(t *testing.T) map[netip.Addr]view
	// retime changes the intervals of a session as it runs.
	retime(t *testing.T, p refereePeer)
	// shutdown takes a session down administratively; revive takes that back.
	shutdown(t *testing.T, p refereePeer)
	revive(t *testing.T, p refereePeer)
}

// A view is how a referee sees a session.
type view struct {
	state            string        // in its words, in lower case
	tx, detection    time.Duration // in use; 0 if it does not say
	my, your         uint32        // discriminators; 0 if it does not say
	diag, remoteDiag string
	theirTx, theirRx time.Duration // what we have told it
	theirMultiplier  uint8
	detailed         bool // whether it says more than state, tx and detection
}

// A refereePeer is a session in its config.
type refereePeer struct {
	addr, local netip.Addr // addr is ours
	multihop    bool
	interval    time.Duration
	multiplier  int
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// frr is FRRouting's bfdd, with the zebra that it needs.
type frr struct {
	in  *nettest.Namespace
	dir string
}

func startFRR(t *testing.T, n *nettest.Namespace, peers ...refereePeer) referee {
	t.Helper()
	zebra, bfdd := nettest.Needs(t, "/usr/lib/frr/zebra", "frr"), nettest.Needs(t, "/usr/lib/frr/bfdd", "frr")
	nettest.Needs(t, "vtysh", "frr")
	f := &frr{n, nettest.Folder(t, "frr")}
	args := func(name string) []string {
		return []string{"-u", "frr", "-g", "frr", "--log", "stdout", "-A", "127.0.0.1", "--vty_socket", f.dir,
			"-z", filepath.Join(f.dir, "zserv.api"), "-i", filepath.Join(f.dir, name+".pid"), "-f", "/dev/null"}
	}
	n.Start(t, zebra, args("zebra")...)
	nettest.Await(t, "zebra's socket", func() bool { return nettest.Listens(filepath.Join(f.dir, "zserv.api")) })
	log := n.Start(t, bfdd, append(args("bfdd"), "--bfdctl", filepath.Join(f.dir, "bfdd.sock"))...)
	nettest.Await(t, "bfdd's socket", func() bool { return nettest.Listens(filepath.Join(f.dir, "bfdd.vty")) })
	// bfdd gives up sessions on a link of which zebra has not told it yet.
	const complaint = "doesn't exist"
	nettest.Await(t, "bfdd to know the link", func() bool {
		before := strings.Count(log.Said.String(), complaint)
		f.add(t, peers)
		time.Sleep(200 * ms) // what it says comes through a pipe
		return strings.Count(log.Said.String(), complaint) == before
	})
	return f
}

// add configures sessions, anew if they are there.
func (f *frr) add(t *testing.T, peers []refereePeer) {
	t.Helper()
	commands := []string{"configure terminal", "bfd"}
	for _, p := range peers {
		commands = append(commands, f.peer(p), "exit", "no "+f.peer(p), f.peer(p))
		commands = append(commands, f.timers(p)...)
		commands = append(commands, "exit")
	}
	f.vtysh(t, commands...)
}

func (f *frr) timers(p refereePeer) []string {
	every := p.interval.Milliseconds()
	return []string{
		fmt.Sprintf("receive-interval %d", every), fmt.Sprintf("transmit-interval %d", every),
		fmt.Sprintf("detect-multiplier %d", p.multiplier),
	}
}

func (f *frr) peer(p refereePeer) string {
	s := fmt.Sprintf("peer %s", p.addr.WithZone(""))
	if p.multihop {
		s += " multihop"
	}
	if p.local.IsValid() {
		s += fmt.Sprintf(" local-address %s", p.local.WithZone(""))
	}
	if p.addr.Zone() != "" {
		s += " interface " + p.addr.Zone()
	}
	return s
}

func (f *frr) vtysh(t *testing.T, commands ...string) string {
	t.Helper()
	args := []string{"--vty_socket", f.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return f.in.Run(t, "vtysh", args...)
}

func (f *frr) configure(t *testing.T, p refereePeer, commands ...string) {
	t.Helper()
	f.vtysh(t, append([]string{"configure terminal", "bfd", f.peer(p)}, commands...)...)
}

func (f *frr) retime(t *testing.T, p refereePeer) {
	t.Helper()
	f.configure(t, p, f.timers(p)...)
}

func (f *frr) shutdown(t *testing.T, p refereePeer) { t.Helper(); f.configure(t, p, "shutdown") }
func (f *frr) revive(t *testing.T, p refereePeer)   { t.Helper(); f.configure(t, p, "no shutdown") }

func (f *frr) views(t *testing.T) map[netip.Addr]view {
	t.Helper()
	out := f.vtysh(t, "show bfd peers json")
	out = out[max(strings.Index(out, "["), 0):]
	var peers []struct {
		Peer           string `json:"peer"`
		Interface      string `json:"interface"`
		ID             uint32 `json:"id"`
		RemoteID       uint32 `json:"remote-id"`
		Status         string `json:"status"`
		Diag           string `json:"diagnostic"`
		RemoteDiag     string `json:"remote-diagnostic"`
		Rx             int64  `json:"receive-interval"`
		Tx             int64  `json:"transmit-interval"`
		RemoteRx       int64  `json:"remote-receive-interval"`
		RemoteTx       int64  `json:"remote-transmit-interval"`
		RemoteMultiple uint8  `json:"remote-detect-multiplier"`
	}
	if err := json.Unmarshal([]byte(out), &peers); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	views := map[netip.Addr]view{}
	for _, p := range peers {
		addr := ip(p.Peer)
		if addr.IsLinkLocalUnicast() && addr.Is6() {
			addr = addr.WithZone(p.Interface)
		}
		theirTx, theirRx := time.Duration(p.RemoteTx)*ms, time.Duration(p.RemoteRx)*ms
		views[addr] = view{
			state: p.Status, my: p.ID, your: p.RemoteID, diag: p.Diag, remoteDiag: p.RemoteDiag,
			tx: max(time.Duration(p.Tx)*ms, theirRx), detection: time.Duration(p.RemoteMultiple) * max(time.Duration(p.Rx)*ms, theirTx),
			theirTx: theirTx, theirRx: theirRx, theirMultiplier: p.RemoteMultiple, detailed: true,
		}
	}
	return views
}

// bird is the BIRD Internet Routing Daemon.
type bird struct {
	in    *nettest.Namespace
	dir   string
	peers []refereePeer
	off   map[netip.Addr]bool
}

func startBIRD(t *testing.T, n *nettest.Namespace, peers ...refereePeer) referee {
	t.Helper()
	path := nettest.Needs(t, "/usr/sbin/bird", "bird2")
	b := &bird{n, nettest.Folder(t, "root"), peers, map[netip.Addr]bool{}}
	b.write(t)
	n.Start(t, path, "-f", "-c", b.file("conf"), "-s", b.file("ctl"), "-P", b.file("pid"))
	nettest.Await(t, "BIRD's socket", func() bool { return nettest.Listens(b.file("ctl")) })
	return b
}

func (b *bird) file(name string) string { return filepath.Join(b.dir, name) }

// write writes the config. BIRD has intervals per link and for all of
// multihop, not per session.
func (b *bird) write(t *testing.T) {
	t.Helper()
	text := "log stderr all;\nrouter id 192.0.2.2;\nprotocol device {}\nprotocol bfd {\n"
	for _, p := range b.peers {
		section, neighbor := `interface "*"`, fmt.Sprintf("neighbor %s", p.addr.WithZone(""))
		if p.addr.Zone() != "" {
			neighbor += fmt.Sprintf(" dev %q", p.addr.Zone())
		}
		if p.local.IsValid() {
			neighbor += fmt.Sprintf(" local %s", p.local.WithZone(""))
		}
		if p.multihop {
			section = "multihop"
			neighbor += " multihop"
		}
		text += fmt.Sprintf(" %s { min rx interval %[2]d ms; min tx interval %[2]d ms; multiplier %[3]d; };\n",
			section, p.interval.Milliseconds(), p.multiplier)
		if !b.off[p.addr] {
			text += " " + neighbor + ";\n"
		}
	}
	write(t, b.file("conf"), text+"}\n")
}

func (b *bird) birdc(t *testing.T, args ...string) string {
	t.Helper()
	return b.in.Run(t, "/usr/sbin/birdc", append([]string{"-s", b.file("ctl")}, args...)...)
}

func (b *bird) retime(t *testing.T, p refereePeer) {
	t.Helper()
	for i := range b.peers {
		if b.peers[i].multihop == p.multihop {
			b.peers[i].interval, b.peers[i].multiplier = p.interval, p.multiplier
		}
	}
	b.write(t)
	b.birdc(t, "configure")
}

// shutdown can but remove the session: BIRD never says AdminDown.
func (b *bird) shutdown(t *testing.T, p refereePeer) {
	t.Helper()
	b.off[p.addr] = true
	b.write(t)
	b.birdc(t, "configure")
}

func (b *bird) revive(t *testing.T, p refereePeer) {
	t.Helper()
	delete(b.off, p.addr)
	b.write(t)
	b.birdc(t, "configure")
}

func (b *bird) views(t *testing.T) map[netip.Addr]view {
	t.Helper()
	views := map[netip.Addr]view{}
	for line := range strings.Lines(b.birdc(t, "show", "bfd", "sessions")) {
		fields := strings.Fields(line) // address, link, state, since, interval, timeout
		if len(fields) < 6 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		if addr.IsLinkLocalUnicast() && addr.Is6() {
			addr = addr.WithZone(fields[1])
		}
		views[addr] = view{state: strings.ToLower(fields[2]), tx: seconds(fields[len(fields)-2]), detection: seconds(fields[len(fields)-1])}
	}
	return views
}

func seconds(s string) time.Duration {
	f, _ := strconv.ParseFloat(s, 64)
	return time.Duration(f*1000+0.5) * ms
}

func logTo(b *nettest.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
