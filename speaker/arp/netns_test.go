//go:build netns

package arp

import (
	"errors"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/l2/l2test"
)

func TestMain(m *testing.M) {
	nettest.Main(m, map[string]nettest.Role{"speaker": language.Speaker})
}

func BenchmarkFlood(b *testing.B) { language.BenchFlood(b) }

func TestKernel(t *testing.T) { l2test.RunKernel(t, language) }

// Others' implementations: iputils' arping asks, probes as DHCP clients do
// (-D), and the client's kernel resolves and takes notice of a greeting.
func TestStrangersUnderstand(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	p.Sync(t, "eth0 10")
	us := l2test.MACOf(t, p.Node, "eth0")
	shown := strings.ToUpper(us.String())
	tests := []struct {
		name  string
		args  []string // -w is how long to ask, each second, unless it is answered
		taken bool     // exit status 0, or 1 with -D
	}{
		{"arping hears a claimed address", []string{"-c", "1", "-w", "20", "-I", "eth0", "192.0.2.10"}, true},
		{"arping hears no other address", []string{"-c", "1", "-w", "1", "-I", "eth0", "192.0.2.12"}, false},
		{"arping -D finds a claimed address taken", []string{"-D", "-c", "1", "-w", "20", "-I", "eth0", "192.0.2.10"}, true},
		{"arping -D finds another free", []string{"-D", "-c", "1", "-w", "1", "-I", "eth0", "192.0.2.12"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out []byte
			err := p.Client.Do(func() (err error) {
				out, err = exec.Command("arping", tt.args...).CombinedOutput()
				return err
			})
			var status *exec.ExitError
			if err != nil && !errors.As(err, &status) {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.ToUpper(string(out)), shown); got != tt.taken {
				t.Errorf("taken: %t, want %t\n%s", got, tt.taken, out)
			}
		})
	}

	index := p.Client.Index(t, "eth0")
	stale := &netlink.Neigh{LinkIndex: index, IP: net.ParseIP("192.0.2.11"), State: netlink.NUD_REACHABLE, HardwareAddr: net.HardwareAddr(them[:])}
	if err := p.Client.Link.NeighSet(stale); err != nil {
		t.Fatal(err)
	}
	p.Sync(t, "eth0 10 11")
	l2test.WaitFor(t, "the greeting to correct the client's neighbour table", func() bool {
		neighs, err := p.Client.Link.NeighList(index, netlink.FAMILY_V4)
		return err == nil && slices.ContainsFunc(neighs, func(n netlink.Neigh) bool {
			return n.IP.Equal(stale.IP) && l2.MAC(n.HardwareAddr) == us
		})
	})
}
