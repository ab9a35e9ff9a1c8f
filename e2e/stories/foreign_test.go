package stories

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// foreignRules are what others may have in a node's kernel. The names are near
// to Herald's on purpose.
const foreignRules = `
add table ip filter
add chain ip filter forward { type filter hook forward priority 0; policy accept; }
add rule ip filter forward counter accept
add table ip herald
add map ip herald m { type ipv4_addr : ipv4_addr; elements = { 192.0.2.1 : 192.0.2.2 }; }
add table inet herald-other
add set inet herald-other s { type inet_service; elements = { 80, 443 }; }
add chain inet herald-other c { type nat hook prerouting priority -90; }
add table ip6 nat
add chain ip6 nat prerouting { type nat hook prerouting priority -100; }
`

func TestWhatIsNotHeraldsStaysAsItIs(t *testing.T) {
	if os.Getenv("REQUIRE_IPVS") != "" && !hasIPVS() {
		t.Error("REQUIRE_IPVS is set, but this kernel has none")
	}
	l := lab.Start(t, lab.Options{Idle: true})
	for _, n := range l.Nodes() {
		plant(t, n)
	}
	before := map[*lab.Node]string{}
	for _, n := range l.Nodes() {
		before[n] = foreign(t, n)
	}
	l.StartHerald()
	for _, n := range l.Nodes() {
		if path := n.DataPath(); (path == "ipvs") != hasIPVS() {
			t.Errorf("%s steers with %s, but the kernel has IPVS: %t", n.Name, path, hasIPVS())
		}
	}
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	askAll(t, l.Client, url(addr), pods...)
	for _, n := range l.Nodes() {
		if now := foreign(t, n); now != before[n] {
			t.Errorf("while Herald serves, %s holds\n%s\nand held\n%s", n.Name, now, before[n])
		}
	}
	l.DeleteService("web")
	waitGone(t, l, addr)
	for _, n := range l.Nodes() {
		n.Stop()
		if out, err := n.Uninstall(); err != nil {
			t.Errorf("uninstalling on %s: %v\n%s", n.Name, err, out)
		}
		if now := foreign(t, n); now != before[n] {
			t.Errorf("after Herald, %s holds\n%s\nand held\n%s", n.Name, now, before[n])
		}
		if now, err := n.Kernel(); err != nil || strings.Contains(now, "herald") {
			t.Errorf("something of Herald stayed on %s: %v\n%s", n.Name, err, now)
		}
	}
}

// plant puts rows of others into the node's kernel.
func plant(t *testing.T, n *lab.Node) {
	t.Helper()
	commands := [][]string{
		{"nft", foreignRules},
		{"ip", "route", "add", "203.0.113.0/24", "via", "192.168.50.1", "table", "77"},
		{"ip", "rule", "add", "fwmark", "0x1/0x1", "lookup", "77"},
		{"ip", "addr", "add", "203.0.113.5/32", "dev", "lo"},
	}
	if hasIPVS() {
		commands = append(commands,
			[]string{"ipvsadm", "-A", "-t", "203.0.113.5:80", "-s", "sh"},
			[]string{"ipvsadm", "-a", "-t", "203.0.113.5:80", "-r", "10.244.1.99:80", "-m", "-w", "7"})
	}
	for _, c := range commands {
		if out, err := n.Exec(c...); err != nil {
			t.Fatalf("planting a foreign row on %s: %v\n%s", n.Name, err, out)
		}
	}
}

// foreign lists everything in the node's kernel that is not Herald's.
func foreign(t *testing.T, n *lab.Node) string {
	t.Helper()
	commands := [][]string{
		{"nft", "-s", "list", "table", "ip", "filter"},
		{"nft", "-s", "list", "table", "ip", "herald"},
		{"nft", "-s", "list", "table", "inet", "herald-other"},
		{"nft", "-s", "list", "table", "ip6", "nat"},
		{"ip", "route", "show", "table", "77"},
		{"ip", "addr", "show", "dev", "lo"},
		{"ip", "addr", "show", "dev", "eth0"},
		{"sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.eth0.rp_filter",
			"net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.all.route_localnet",
			"net.ipv4.conf.all.accept_local", "net.ipv6.conf.all.forwarding"},
	}
	if hasIPVS() {
		commands = append(commands, []string{"ipvsadm", "-Sn"})
	}
	var b strings.Builder
	for _, c := range commands {
		out, err := n.Exec(c...)
		if err != nil {
			t.Fatalf("listing what is on %s: %v", n.Name, err)
		}
		fmt.Fprintf(&b, "# %s\n%s", strings.Join(c, " "), out)
	}
	rules, err := n.Exec("ip", "rule", "show")
	if err != nil || !strings.Contains(rules, "fwmark 0x1/0x1 lookup 77") {
		t.Errorf("the foreign rule on %s: %v\n%s", n.Name, err, rules)
	}
	return b.String()
}

// hasIPVS is whether the kernel is one with IPVS.
func hasIPVS() bool {
	_, err := os.Stat("/proc/net/ip_vs")
	return err == nil
}
