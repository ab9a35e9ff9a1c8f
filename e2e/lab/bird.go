package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Bird is the BIRD Internet Routing Daemon on the lab's router.
type Bird struct {
	lab  *Lab
	dir  string
	with Neighbours
	proc *process
}

// Bird starts BIRD on the router, and ends it with the lab.
func (l *Lab) Bird(with Neighbours) *Bird {
	l.t.Helper()
	b := &Bird{lab: l, dir: l.daemonDir("bird-"+l.withDefaults(with).On.Namespace.Name, 0), with: l.withDefaults(with)}
	l.t.Cleanup(func() {
		b.proc.kill()
		if l.t.Failed() {
			l.t.Logf("BIRD has said:\n%s", tail(b.file("log"), 8192))
		}
	})
	b.Start()
	return b
}

// ASN implements [RoutingDaemon].
func (b *Bird) ASN() uint32 { return b.with.ASN }

func (b *Bird) file(name string) string { return filepath.Join(b.dir, name) }

func (b *Bird) config() string {
	var c strings.Builder
	fmt.Fprintf(&c, `log stderr all;
debug protocols { states };
router id %s;
protocol device {}
protocol kernel kernel4 { merge paths yes; ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel kernel6 { merge paths yes; ipv6 { import none; export where source = RTS_BGP; }; }
`, b.with.On.Addr(true))
	if b.with.BFD > 0 {
		fmt.Fprintf(&c, "protocol bfd { interface \"*\" { interval %[1]d ms; multiplier 3; }; multihop { interval %[1]d ms; multiplier 3; }; }\n", b.with.BFD.Milliseconds())
	}
	if b.with.Unnumbered {
		fmt.Fprintf(&c, "protocol bgp any {\n local as %d;\n neighbor range fe80::/10 as %d;\n interface \"eth0\";\n dynamic name \"n\";\n", b.with.ASN, b.with.NodeASN)
		c.WriteString(" ipv4 { import all; export none; extended next hop on; };\n ipv6 { import all; export none; };\n}\n")
		return c.String()
	}
	for i, ends := range b.lab.neighbours(b.with) {
		fmt.Fprintf(&c, "protocol bgp n%d {\n local %s as %d;\n neighbor %s as %d;\n passive on;\n hold time %d;\n error wait time 1, 2;\n error forget time 2;\n",
			i+1, ends.Router, b.with.ASN, ends.Node, b.with.NodeASN, int(b.with.HoldTime/time.Second))
		if b.with.Password != "" {
			fmt.Fprintf(&c, " password %q;\n", b.with.Password)
		}
		if b.with.Multihop {
			c.WriteString(" multihop 5;\n")
		} else {
			c.WriteString(" direct;\n") // it takes internal neighbours for distant ones
		}
		if b.with.TTL {
			c.WriteString(" ttl security on;\n")
		}
		if b.with.BFD > 0 {
			fmt.Fprintf(&c, " bfd %s;\n", map[bool]string{false: "on", true: "graceful"}[b.with.Graceful])
		}
		if b.with.Graceful {
			c.WriteString(" graceful restart on;\n")
		}
		c.WriteString(" ipv4 { import all; export none; extended next hop on; };\n")
		if !b.with.No6 {
			c.WriteString(" ipv6 { import all; export none; };\n")
		}
		c.WriteString("}\n")
	}
	return c.String()
}

// Start implements [RoutingDaemon].
func (b *Bird) Start() {
	b.lab.t.Helper()
	b.lab.writeFile(b.file("conf"), b.config())
	var err error
	if b.proc, err = b.with.On.start("bird", b.file("log"), "bird", "-f", "-c", b.file("conf"), "-s", b.file("ctl"), "-P", b.file("pid")); err != nil {
		b.lab.t.Fatalf("%v", err)
	}
	b.lab.Eventually("BIRD answers", func() error {
		_, err := b.Ask("show status")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, tail(b.file("log"), 2048))
		}
		return err
	})
}

// Kill implements [RoutingDaemon].
func (b *Bird) Kill() {
	b.lab.t.Helper()
	b.proc.kill()
	for _, family := range []string{"-4", "-6"} {
		if said, err := b.with.On.Exec("ip", family, "route", "flush", "proto", "bird"); err != nil {
			b.lab.t.Fatalf("%v: %s", err, said)
		}
	}
}

// Reconfigure implements [RoutingDaemon].
func (b *Bird) Reconfigure(with Neighbours) {
	b.lab.t.Helper()
	b.Kill()
	b.with = b.lab.withDefaults(with)
	b.Start()
}

// Ask has BIRD carry out a command, and returns what it says.
func (b *Bird) Ask(command string) (string, error) {
	return b.with.On.Exec(append([]string{"birdc", "-r", "-s", b.file("ctl")}, strings.Fields(command)...)...)
}

var birdImported = regexp.MustCompile(`Routes: +(\d+) imported`)

// Sessions implements [RoutingDaemon].
func (b *Bird) Sessions() (map[Ends]RouterSession, error) {
	all := map[Ends]RouterSession{}
	for i, ends := range b.lab.neighbours(b.with) {
		said, err := b.Ask(fmt.Sprintf("show protocols all n%d", i+1))
		if err != nil {
			return nil, err
		}
		s := RouterSession{Up: strings.Contains(said, "BGP state:          Established")}
		for _, m := range birdImported.FindAllStringSubmatch(said, -1) {
			n, _ := strconv.Atoi(m[1])
			s.Prefixes += n
		}
		all[ends] = s
	}
	if b.with.BFD == 0 {
		return all, nil
	}
	said, err := b.Ask("show bfd sessions")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(said) {
		if f := strings.Fields(line); len(f) > 2 {
			if addr, err := netip.ParseAddr(f[0]); err == nil {
				ends := Ends{b.with.On.Addr(addr.Is4()), addr}
				s := all[ends]
				s.BFD = strings.ToLower(f[2])
				all[ends] = s
			}
		}
	}
	return all, nil
}
