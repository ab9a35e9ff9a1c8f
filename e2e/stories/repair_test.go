package stories

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// A damage is what somebody does to a node's kernel. Argument %s is the address
// that is served.
type damage struct {
	name string
	tier string // where it is done; "" on the host
	args []string
}

var (
	onEither = []damage{
		{"the table is deleted", "", []string{"nft", "delete table inet herald"}},
		{"an address is taken out", "", []string{"nft", "delete element inet herald addrs4 { %s }"}},
		{"the rules are flushed", "", []string{"nft", "flush table inet herald"}},
		{"a chain is added", "", []string{"nft", "add chain inet herald more { type filter hook prerouting priority -300; policy drop; }"}},
	}
	onNFT = []damage{
		{"a server is taken out", "", []string{"nft", "delete element inet herald servers4 { %s . tcp . 80 }"}},
		{"the endpoints are flushed", "", []string{"nft", "flush map inet herald ends4"}},
	}
	onIPVS = []damage{
		{"IPVS is flushed in lb", "lb", []string{"ipvsadm", "-C"}},
		{"IPVS is flushed in front", "front", []string{"ipvsadm", "-C"}},
		{"IPVS is flushed in back", "back", []string{"ipvsadm", "-C"}},
		{"a server has another scheduler", "front", []string{"ipvsadm", "-E", "-t", "%s:80", "-s", "rr"}},
		{"a link is deleted", "", []string{"ip", "link", "del", "herald-front"}},
		{"a link is set down", "", []string{"ip", "link", "set", "herald-back", "down"}},
		{"the route to the address is deleted", "", []string{"ip", "route", "del", "%s"}},
		{"the rules of marks are deleted", "", []string{"ip", "rule", "flush", "priority", "72"}},
		{"the way out of front is deleted", "front", []string{"ip", "route", "del", "default"}},
		{"the end of the tunnels is deleted", "back", []string{"ip", "link", "del", "herald-ipip"}},
		{"front does not forward", "front", []string{"sysctl", "-w", "net.ipv4.ip_forward=0"}},
		{"back is not sloppy", "back", []string{"sysctl", "-w", "net.ipv4.vs.sloppy_tcp=0"}},
	}
)

func TestWhatSomebodyBreaksIsRepairedAndSaid(t *testing.T) {
	l := lab.Start(t, lab.Options{SpeakerFlags: []string{"--audit-interval=1s"}})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	damages := append(onEither[:len(onEither):len(onEither)], onNFT...)
	if owner.DataPath() == "ipvs" {
		damages = append(onEither[:len(onEither):len(onEither)], onIPVS...)
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			before := shape(t, owner)
			heard := owner.Speaker.Said(repaired)
			d.do(t, owner, addr)
			l.Eventually("the kernel is as it was", func() error {
				if now := shape(t, owner); now != before {
					return fmt.Errorf("it holds\n%s\nand held\n%s", now, before)
				}
				return nil
			})
			askAll(t, l.Client, url(addr), pods...)
			l.Eventually("the speaker says once that it had something to repair", func() error {
				if n := owner.Speaker.Said(repaired) - heard; n != 1 {
					return fmt.Errorf("it says so %d times", n)
				}
				return nil
			})
		})
	}
}

// repaired stands in what a speaker says that had to repair something.
const repaired = "changed by somebody else"

func (d damage) do(t *testing.T, n *lab.Node, addr netip.Addr) {
	t.Helper()
	var args []string
	for _, a := range d.args {
		args = append(args, strings.ReplaceAll(a, "%s", addr.String()))
	}
	exec := n.Exec
	if d.tier != "" {
		exec = func(args ...string) (string, error) { return n.InTier(d.tier, args...) }
	}
	if out, err := exec(args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// index is of a link, and another when that was made anew.
var index = regexp.MustCompile(`Ifindex: [0-9]+ `)

// shape is the part of what the kernel has that a repair brings back.
func shape(t *testing.T, n *lab.Node) string {
	t.Helper()
	kernel, err := n.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(index.ReplaceAllString(kernel, ""), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
