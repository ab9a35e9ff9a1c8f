package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A FRR is FRRouting on a router: its zebra, bgpd and bfdd.
type FRR struct {
	lab   *Lab
	dir   string
	with  Neighbours
	procs map[string]*process
}

// FRR starts FRRouting on the router, and ends it with the lab.
func (l *Lab) FRR(with Neighbours) *FRR {
	l.t.Helper()
	u, err := user.Lookup("frr")
	if err != nil {
		l.t.Fatalf("looking for the user that the package frr makes: %v", err)
	}
	id, err := strconv.Atoi(u.Uid)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	f := &FRR{lab: l, dir: l.daemonDir("frr", id), with: l.withDefaults(with), procs: map[string]*process{}}
	l.t.Cleanup(func() {
		if l.t.Failed() {
			said, err := f.with.On.Exec("vtysh", "--vty_socket", f.dir, "-c", "show bgp summary", "-c", "show bfd peers", "-c", "show ip route", "-c", "show ipv6 route")
			l.t.Logf("FRR has said:\n%s\n%s\n%v", tail(f.file("bgpd.log"), 2048), said, err)
		}
		f.end()
	})
	f.Start()
	return f
}

// ASN implements [RoutingDaemon].
func (f *FRR) ASN() uint32 { return f.with.ASN }

func (f *FRR) file(name string) string { return filepath.Join(f.dir, name) }

func (f *FRR) config() string {
	var c strings.Builder
	fmt.Fprintf(&c, "router bgp %d\n bgp router-id 192.168.50.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n", f.with.ASN)
	if f.with.Graceful {
		c.WriteString(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n")
	}
	hold := int(f.with.HoldTime / time.Second)
	for _, ends := range f.lab.neighbours(f.with) {
		say := func(format string, args ...any) {
			fmt.Fprintf(&c, " neighbor %s %s\n", ends.Node, fmt.Sprintf(format, args...))
		}
		say("remote-as %d", f.with.NodeASN)
		say("passive")
		say("timers %d %d", hold/3, hold)
		say("capability extended-nexthop")
		if f.with.Password != "" {
			say("password %s", f.with.Password)
		}
		if f.with.TTL {
			say("ttl-security hops 1")
		}
		if f.with.BFD > 0 {
			say("bfd 3 %d %d", f.with.BFD.Milliseconds(), f.with.BFD.Milliseconds())
			say("bfd check-control-plane-failure")
		}
	}
	families := []string{"ipv4", "ipv6"}
	if f.with.No6 {
		families = families[:1]
	}
	for _, family := range families {
		fmt.Fprintf(&c, " address-family %s unicast\n  maximum-paths 16\n  maximum-paths ibgp 16\n", family)
		for _, ends := range f.lab.neighbours(f.with) {
			fmt.Fprintf(&c, "  neighbor %s activate\n", ends.Node)
		}
		c.WriteString(" exit-address-family\n")
	}
	return c.String()
}

// Start implements [RoutingDaemon].
func (f *FRR) Start() {
	f.lab.t.Helper()
	f.lab.writeFile(f.file("bgpd.conf"), f.config())
	f.run("zebra", "/dev/null", "zserv.api")
	if f.with.BFD > 0 {
		f.run("bfdd", "/dev/null", "bfdd.vty")
	}
	f.run("bgpd", f.file("bgpd.conf"), "bgpd.vty")
}

// run starts one of FRR's daemons, and waits until it has made a socket.
func (f *FRR) run(name, config, socket string) {
	f.lab.t.Helper()
	args := []string{"/usr/lib/frr/" + name, "-u", "frr", "-g", "frr", "--log", "stdout", "-A", "127.0.0.1",
		"--vty_socket", f.dir, "-z", f.file("zserv.api"), "-i", f.file(name + ".pid"), "-f", config}
	if name == "bfdd" {
		args = append(args, "--bfdctl", f.file("bfdd.sock"))
	}
	p, err := f.with.On.start(name, f.file(name+".log"), args...)
	if err != nil {
		f.lab.t.Fatalf("%v", err)
	}
	f.procs[name] = p
	f.lab.Eventually(name+" answers", func() error {
		if err := answers(f.file(socket)); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(f.file(name+".log"), 2048))
		}
		return nil
	})
}

func (f *FRR) end() {
	for _, name := range []string{"bgpd", "bfdd", "zebra"} {
		f.procs[name].kill()
		delete(f.procs, name)
	}
}

// Kill implements [RoutingDaemon]. Zebra, when it ends in peace, takes its routes away.
func (f *FRR) Kill() {
	f.lab.t.Helper()
	f.procs["bgpd"].kill()
	if err := f.procs["zebra"].stop(settleWithin); err != nil {
		f.lab.t.Fatalf("%v", err)
	}
	f.end()
}

// Reconfigure implements [RoutingDaemon].
func (f *FRR) Reconfigure(with Neighbours) {
	f.lab.t.Helper()
	f.Kill()
	f.with = f.lab.withDefaults(with)
	f.Start()
}

// ShutBFD takes the BFD sessions with all nodes down on purpose, or up again.
func (f *FRR) ShutBFD(down bool) {
	f.lab.t.Helper()
	word := "shutdown"
	if !down {
		word = "no shutdown"
	}
	args := []string{"vtysh", "--vty_socket", f.dir, "-c", "configure", "-c", "bfd"}
	for _, ends := range f.lab.neighbours(f.with) {
		args = append(args, "-c", "peer "+ends.Node.String(), "-c", word, "-c", "exit")
	}
	if said, err := f.with.On.Exec(args...); err != nil {
		f.lab.t.Fatalf("%v: %s", err, said)
	}
}

// show has FRR carry out a command that answers in JSON.
func (f *FRR) show(into any, command string) error {
	said, err := f.with.On.Exec("vtysh", "--vty_socket", f.dir, "-c", command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(said), into); err != nil {
		return fmt.Errorf("%s: %w in %s", command, err, said)
	}
	return nil
}

// Sessions implements [RoutingDaemon].
func (f *FRR) Sessions() (map[Ends]RouterSession, error) {
	var neighbours map[string]struct {
		State   string `json:"bgpState"`
		BFDInfo struct {
			Status string `json:"status"`
		} `json:"peerBfdInfo"`
		Families map[string]struct {
			Accepted int `json:"acceptedPrefixCounter"`
		} `json:"addressFamilyInfo"`
	}
	if err := f.show(&neighbours, "show bgp neighbors json"); err != nil {
		return nil, err
	}
	all := map[Ends]RouterSession{}
	for name, n := range neighbours {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			continue
		}
		s := RouterSession{Up: n.State == "Established", BFD: strings.ToLower(n.BFDInfo.Status)}
		if s.Up {
			for _, family := range n.Families {
				s.Prefixes += family.Accepted
			}
		}
		all[Ends{f.with.On.Addr(addr.Is4()), addr}] = s
	}
	return all, nil
}
