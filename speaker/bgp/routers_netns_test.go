//go:build netns

package bgp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// A peering is a session as the router has it in its config.
type peering struct {
	local, asn uint32 // of the router, of the node
	neighbor   string // the node; "" for unnumbered
	source     string // of the router, "" for any
	password   string
	port       int // 0 for 179
	multihop   int
	ttl        bool
	graceful   bool
	active     bool   // it dials, too
	hold       string // "" for 9
	families   []string
	more       string // lines for the neighbour
	global     string // lines beside it
}

// A judge is another implementation of BGP.
type judge interface {
	// routes returns what it knows by BGP.
	routes(t testing.TB) map[netip.Prefix]heard
	// messages returns how many it had of the neighbour, and how often the
	// session came up.
	updates(t testing.TB) (updates, established int)
	// why returns what it says of the last end of the session.
	why(t testing.TB) string
	// again has it ask for all routes once more.
	again(t testing.TB)
	kill()
	restart(t testing.TB)
}

// heard is how a judge sees a route.
type heard struct {
	hop, path, communities, large string
	localPref, med                int64 // -1 for none
	stale                         bool
}

// judges are all that a promise is held against.
var judges = []struct {
	name  string
	start func(testing.TB, site, peering) judge
}{
	{"FRR", func(t testing.TB, in site, p peering) judge { return startFRR(t, in, p) }},
	{"BIRD", func(t testing.TB, in site, p peering) judge { return startBIRD(t, in, p) }},
}

// frr is FRRouting's zebra and bgpd.
type frr struct {
	in   site
	dir  string
	peer peering
	bgpd *nettest.Daemon
}

func startFRR(t testing.TB, in site, p peering) *frr {
	t.Helper()
	zebra := nettest.Needs(t, "/usr/lib/frr/zebra", "frr")
	nettest.Needs(t, "/usr/lib/frr/bgpd", "frr")
	nettest.Needs(t, "vtysh", "frr")
	f := &frr{in: in, dir: nettest.Folder(t, "frr"), peer: p}
	write(t, f.file("bgpd.conf"), f.config())
	in.Namespace.Start(t, zebra, f.args("zebra", "/dev/null")...)
	nettest.Await(t, "zebra's socket", func() bool { return nettest.Listens(f.file("zserv.api")) })
	f.restart(t)
	return f
}

func (f *frr) neighbor() string {
	if f.peer.neighbor == "" {
		return "eth0"
	}
	return f.peer.neighbor
}

func (f *frr) config() string {
	p, n := f.peer, "\n neighbor "+f.neighbor()
	c := fmt.Sprintf("router bgp %d\n bgp router-id 192.0.2.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp graceful-restart preserve-fw-state%s", p.local, p.global)
	if p.neighbor == "" {
		c += n + fmt.Sprintf(" interface remote-as %d", p.asn)
	} else {
		c += n + fmt.Sprintf(" remote-as %d", p.asn)
	}
	if p.neighbor != "" && !p.active {
		c += n + " passive"
	}
	if p.hold == "" {
		p.hold = "3 9"
	}
	c += n + " timers " + p.hold
	if p.password != "" {
		c += n + " password " + p.password
	}
	if p.multihop > 0 {
		c += n + fmt.Sprintf(" ebgp-multihop %d", p.multihop)
	}
	if p.ttl {
		c += n + " ttl-security hops 1"
	}
	if p.source != "" {
		c += n + " update-source " + p.source
	}
	if strings.HasPrefix(p.neighbor, "fe80") {
		c += n + " interface eth0"
	}
	if !strings.Contains(p.neighbor, ".") {
		c += n + " capability extended-nexthop"
	}
	c += p.more
	for _, family := range p.families {
		c += "\n address-family " + family + " unicast\n " + n + " activate\n exit-address-family"
	}
	return c + "\n"
}

func (f *frr) file(name string) string { return filepath.Join(f.dir, name) }

func (f *frr) args(name, config string) []string {
	return []string{"-u", "frr", "-g", "frr", "--log", "stdout", "-A", "127.0.0.1", "--vty_socket", f.dir,
		"-z", f.file("zserv.api"), "-i", f.file(name + ".pid"), "-f", config}
}

func (f *frr) restart(t testing.TB) {
	t.Helper()
	f.kill()
	args := f.args("bgpd", f.file("bgpd.conf"))
	if f.peer.port != 0 {
		args = append(args, "-p", strconv.Itoa(f.peer.port))
	}
	f.bgpd = f.in.Namespace.Start(t, "/usr/lib/frr/bgpd", args...)
	nettest.Await(t, "bgpd's socket", func() bool { return nettest.Listens(f.file("bgpd.vty")) })
}

func (f *frr) kill() {
	if f.bgpd != nil {
		f.bgpd.Kill()
	}
}

func (f *frr) vtysh(t testing.TB, commands ...string) string {
	t.Helper()
	args := []string{"--vty_socket", f.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return f.in.Run(t, "vtysh", args...)
}

// show has commands answered, by one process as each takes its time, into values.
func (f *frr) show(t testing.TB, commands []string, into func(i int) any) {
	t.Helper()
	if len(commands) == 0 {
		return
	}
	out := f.vtysh(t, commands...)
	d := json.NewDecoder(strings.NewReader(out))
	for i := range commands {
		if err := d.Decode(into(i)); err != nil {
			t.Fatalf("%s: %v in\n%s", commands[i], err, out)
		}
	}
}

func (f *frr) routes(t testing.TB) map[netip.Prefix]heard {
	t.Helper()
	var tables [2]struct{ Routes map[string]json.RawMessage }
	f.show(t, []string{"show bgp ipv4 unicast json", "show bgp ipv6 unicast json"}, func(i int) any { return &tables[i] })
	var prefixes, commands []string
	for i, family := range []string{"ipv4", "ipv6"} {
		for p := range tables[i].Routes {
			prefixes, commands = append(prefixes, p), append(commands, "show bgp "+family+" unicast "+p+" json")
		}
	}
	routes := make([]frrRoute, len(prefixes))
	f.show(t, commands, func(i int) any { return &routes[i] })
	all := map[netip.Prefix]heard{}
	for i, p := range prefixes {
		if h, ok := routes[i].heard(); ok {
			all[prefix(p)] = h
		}
	}
	return all
}

// A frrRoute is what FRR shows of one.
type frrRoute struct {
	Paths []struct {
		Aspath         struct{ String string }
		Metric, LocPrf *int64
		Stale          bool
		Community      struct{ String string }
		LargeCommunity struct{ String string }
		Nexthops       []struct{ IP string }
		Peer           struct{ PeerID string }
	}
}

func (r frrRoute) heard() (heard, bool) {
	if len(r.Paths) == 0 || len(r.Paths[0].Nexthops) == 0 {
		return heard{}, false
	}
	path := r.Paths[0]
	h := heard{
		hop: path.Nexthops[0].IP, path: path.Aspath.String, large: path.LargeCommunity.String, localPref: -1, med: -1, stale: path.Stale,
		communities: strings.NewReplacer("graceful-shutdown", "65535:0", "no-export", "65535:65281").Replace(path.Community.String),
	}
	if path.Metric != nil {
		h.med = *path.Metric
	}
	if path.LocPrf != nil {
		h.localPref = *path.LocPrf
	}
	return h, true
}

type frrNeighbor struct {
	Established int `json:"connectionsEstablished"`
	Stats       struct {
		Updates int `json:"updatesRecv"`
	} `json:"messageStats"`
	Reset string `json:"lastNotificationReason"`
	Due   string `json:"lastResetDueTo"`
	Words string `json:"lastShutdownDescription"`
}

func (f *frr) session(t testing.TB) frrNeighbor {
	t.Helper()
	all := map[string]frrNeighbor{}
	f.show(t, []string{"show bgp neighbors " + f.neighbor() + " json"}, func(int) any { return &all })
	return all[f.neighbor()]
}

func (f *frr) updates(t testing.TB) (int, int) {
	n := f.session(t)
	return n.Stats.Updates, n.Established
}

func (f *frr) why(t testing.TB) string {
	n := f.session(t)
	return n.Reset + " " + n.Due + " " + n.Words
}

func (f *frr) again(t testing.TB) { f.vtysh(t, "clear bgp * soft in") }

// bird is the BIRD Internet Routing Daemon.
type bird struct {
	in    site
	dir   string
	peer  peering
	d     *nettest.Daemon
	since int // of the session, when last looked at: milliseconds of the day
}

func startBIRD(t testing.TB, in site, p peering) *bird {
	t.Helper()
	nettest.Needs(t, "/usr/sbin/bird", "bird2")
	b := &bird{in: in, dir: nettest.Folder(t, "root"), peer: p}
	write(t, b.file("conf"), b.config())
	b.restart(t)
	return b
}

func (b *bird) config() string {
	p := b.peer
	c := "log stderr all;\nrouter id 192.0.2.1;\nprotocol device { scan time 1; }\nprotocol direct { ipv4; ipv6; }\n" +
		"protocol kernel { ipv4 { export where source = RTS_BGP; }; }\nprotocol kernel { ipv6 { export where source = RTS_BGP; }; }\n" + p.global
	local := fmt.Sprintf("local %s as %d", p.source, p.local)
	if p.port != 0 {
		local = fmt.Sprintf("local %s port %d as %d", p.source, p.port, p.local)
	}
	c += "\nprotocol bgp n {\n " + local + ";\n"
	switch {
	case p.neighbor == "":
		c += fmt.Sprintf(" neighbor range fe80::/10 as %d;\n interface \"eth0\";\n dynamic name \"dyn\";\n", p.asn)
	case strings.HasPrefix(p.neighbor, "fe80"):
		c += fmt.Sprintf(" neighbor %s%%'eth0' as %d;\n", p.neighbor, p.asn)
	default:
		c += fmt.Sprintf(" neighbor %s as %d;\n", p.neighbor, p.asn)
	}
	if p.hold == "" {
		p.hold = "3 9"
	}
	keep, hold, _ := strings.Cut(p.hold, " ")
	if !p.active {
		c += " passive on;\n"
	}
	c += fmt.Sprintf(" error wait time 1, 2;\n error forget time 2;\n hold time %s;\n", hold)
	if keep != "0" {
		c += " keepalive time " + keep + ";\n"
	}
	if p.password != "" {
		c += fmt.Sprintf(" password %q;\n", p.password)
	}
	if p.multihop > 0 {
		c += fmt.Sprintf(" multihop %d;\n", p.multihop)
	}
	if p.ttl {
		c += " ttl security on;\n"
	}
	if p.graceful {
		c += " graceful restart on;\n"
	}
	export := "none"
	if p.global != "" {
		export = "where source = RTS_STATIC"
	}
	c += p.more
	for _, family := range p.families {
		c += fmt.Sprintf(" %s { import all; export %s; %s};\n", family, export, map[string]string{"ipv4": "extended next hop on; "}[family])
	}
	return c + "}\n"
}

func (b *bird) file(name string) string { return filepath.Join(b.dir, name) }

func (b *bird) restart(t testing.TB) {
	t.Helper()
	b.kill()
	b.d = b.in.Namespace.Start(t, "/usr/sbin/bird", "-f", "-c", b.file("conf"), "-s", b.file("ctl"), "-P", b.file("pid"))
	nettest.Await(t, "BIRD's socket", func() bool { return nettest.Listens(b.file("ctl")) })
}

func (b *bird) kill() {
	if b.d != nil {
		b.d.Kill()
	}
}

func (b *bird) birdc(t testing.TB, args ...string) string {
	t.Helper()
	return b.in.Run(t, "/usr/sbin/birdc", append([]string{"-s", b.file("ctl")}, args...)...)
}

var birdRoute = regexp.MustCompile(`^([0-9a-f.:]+/\d+) `)

func (b *bird) routes(t testing.TB) map[netip.Prefix]heard {
	t.Helper()
	all := map[netip.Prefix]heard{}
	// BIRD marks only long-lived ones.
	stale := strings.Contains(b.birdc(t, "show", "protocols", "all", "n"), "Neighbor graceful restart active")
	var at netip.Prefix
	for line := range strings.Lines(b.birdc(t, "show", "route", "all", "where", "source", "=", "RTS_BGP")) {
		if m := birdRoute.FindStringSubmatch(line); m != nil {
			at = prefix(m[1])
			all[at] = heard{localPref: -1, med: -1, stale: stale}
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		h, ok := all[at]
		if !ok {
			continue
		}
		number := func() int64 { n, _ := strconv.ParseInt(value, 10, 64); return n }
		switch key {
		case "BGP.next_hop":
			h.hop = strings.TrimPrefix(value, ":: ") // and then the link-local one
		case "BGP.as_path":
			h.path = value
		case "BGP.med":
			h.med = number()
		case "BGP.local_pref":
			h.localPref = number()
		case "BGP.community":
			h.communities = strings.NewReplacer("(", "", ")", "", ",", ":").Replace(value)
		case "BGP.large_community":
			h.large = strings.NewReplacer(", ", ":", "(", "", ")", "").Replace(value)
		}
		all[at] = h
	}
	return all
}

var (
	birdUpdates = regexp.MustCompile(`Import updates: +(\d+)`)
	birdSince   = regexp.MustCompile(`(?m)^(?:n|dyn\d*) +BGP +--- +\S+ +(\S+) +Established`)
)

func (b *bird) updates(t testing.TB) (updates, established int) {
	// It computes since when from two clocks anew each time, and says too late a time
	// if it is held up between them: the earliest of three is right, give or take some.
	var out string
	for range 3 {
		out = b.birdc(t, "show", "protocols", "all", "n")
		if m := birdSince.FindStringSubmatch(out); m != nil {
			since, _ := time.Parse("15:04:05.000", m[1])
			if at := int(since.Sub(since.Truncate(24*time.Hour)) / ms); established == 0 || at < established {
				established = at
			}
		}
	}
	for _, m := range birdUpdates.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(m[1])
		updates += n
	}
	if d := established - b.since; -50 < d && d < 50 {
		return updates, b.since
	}
	b.since = established
	return updates, established
}

func (b *bird) why(t testing.TB) string {
	out := b.birdc(t, "show", "protocols", "all", "n")
	lines := slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return !strings.Contains(l, "Last error") && !strings.Contains(l, "BGP  ") })
	return strings.Join(lines, " ") + b.d.Said.String()
}

func (b *bird) again(t testing.TB) { b.birdc(t, "reload", "in", "n") }

// birds returns routers, each on a cable of its own, and a session with each.
func birds(t testing.TB, n int) (routers []*bird, sessions []speaker.Session) {
	t.Helper()
	for i := range n {
		in := cable(t, node(t), []string{fmt.Sprintf("192.0.%d.10/24", 10+i), fmt.Sprintf("2001:db8:%d::10/64", 10+i)},
			[]string{fmt.Sprintf("192.0.%d.1/24", 10+i), fmt.Sprintf("2001:db8:%d::1/64", 10+i)})
		p := ebgp()
		p.neighbor = fmt.Sprintf("192.0.%d.10", 10+i)
		routers = append(routers, startBIRD(t, in, p))
		sessions = append(sessions, base(fmt.Sprint("r", i), fmt.Sprintf("192.0.%d.1", 10+i)))
	}
	return routers, sessions
}
