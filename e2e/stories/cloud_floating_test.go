package stories

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// A fabric leads what is sent to the cloud's floating IPs to the machines that they are
// routed to: it is the cloud's network, in which no machine answers for an address.
type fabric struct {
	mu sync.Mutex
	at map[netip.Addr]string // nodes
}

func newFabric(t testing.TB, l *lab.Lab, v *vendor) *fabric {
	t.Helper()
	f := &fabric{at: map[netip.Addr]string{}}
	names := map[int64]string{}
	for _, s := range v.Servers() {
		names[s.ID] = s.Name
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, ip := range v.FloatingIPs() {
				addr, _, _ := strings.Cut(ip.IP, "/")
				a := netip.MustParseAddr(addr)
				if a.Is6() {
					a = a.Next() // the first of its network
				}
				node := ""
				if ip.Server != nil {
					node = names[*ip.Server]
				}
				if err := f.lead(l, a, node); err != nil {
					t.Errorf("leading %s to %s: %v", a, node, err)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

func (f *fabric) lead(l *lab.Lab, a netip.Addr, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at[a] == node || node == "" {
		return nil
	}
	i := slices.IndexFunc(l.Nodes(), func(n *lab.Node) bool { return n.Name == node })
	err := l.Router.RouteVia(a, l.Nodes()[i].Host)
	if err == nil {
		f.at[a] = node
	}
	return err
}

// node is the one that an address is routed to, "" for none.
func (f *fabric) node(a netip.Addr) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[a]
}

// other waits until an address is routed to another node than some.
func (f *fabric) other(l *lab.Lab, a netip.Addr, than ...string) (node string) {
	l.Within(40*time.Second, fmt.Sprintf("%s is routed to another node than %v", a, than), func() error {
		if node = f.node(a); node == "" || slices.Contains(than, node) {
			return fmt.Errorf("it is routed to %q", node)
		}
		return nil
	})
	return node
}

func named(l *lab.Lab, name string) *lab.Node {
	i := slices.IndexFunc(l.Nodes(), func(n *lab.Node) bool { return n.Name == name })
	return l.Nodes()[i]
}

// routedTo waits until a Service says that its addresses are routed to a node.
func routedTo(l *lab.Lab, service, node string) {
	l.Eventually(fmt.Sprintf("%s says that it is routed to %s", service, node), func() error { return saysRouted(l, service, node) })
}

func saysRouted(l *lab.Lab, service, node string) error {
	c := l.ConditionOf(service, "herald-lb.io/Routed")
	if c.Status != "True" || !strings.Contains(c.Message, "is routed to node "+node) {
		return fmt.Errorf("it says %s %s: %s", c.Status, c.Reason, c.Message)
	}
	return nil
}

// assigns is how often the cloud was asked to route a floating IP.
func (v *vendor) assigns() (n int) {
	for _, e := range v.Writes() {
		if strings.HasSuffix(e.Path, "/actions/assign") {
			n++
		}
	}
	return n
}

// A Service with a floating IP is served by the node that the cloud routes it to. When
// that dies, the plugin has the cloud route it to another, by one call, and what clients
// send goes on to be answered there; when it is back, it goes back, and nobody notices.
func TestAFloatingIPMovesWhenItsNodeDies(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	v := newVendor(t, l)
	f := newFabric(t, l, v)
	plugin := l.Cloud(v.config + "classOnly: true\n")
	plugin.Start()
	onePodEach(l, "web")
	l.Apply(service{name: "web", more: "loadBalancerClass: herald-lb.io/hetzner, ipFamilyPolicy: PreferDualStack",
		meta: "annotations: {herald-lb.io/serve-with: floating-ip}"}.String())

	addr := l.WaitAddress("web")
	in := l.Service("web").Status.LoadBalancer.Ingress
	if len(in) != 2 || *in[0].IPMode != corev1.LoadBalancerIPModeProxy || len(v.FloatingIPs()) != 2 || len(v.LoadBalancers()) != 0 {
		t.Errorf("its status is %v, and there are %v", in, v.FloatingIPs())
	}
	six := netip.MustParseAddr(in[1].IP)
	for _, a := range []netip.Addr{addr, six} {
		f.other(l, a)
		waitAnswer(t, l, l.Far, url(a))
	}
	if err := l.Silent(addr); err != nil {
		t.Errorf("it is announced: %v", err)
	}
	first := f.node(addr)
	l.Eventually("it says where its addresses are routed", func() error {
		if c := l.ConditionOf("web", "herald-lb.io/Routed"); c.Status != "True" || !strings.Contains(c.Message, addr.String()+" is routed to node "+first) {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})

	var second string
	t.Run("its node dies", func(t *testing.T) {
		traffic, before := l.Far.AskWithin(url(addr), 20*time.Millisecond, 500*time.Millisecond), v.assigns()
		dead := named(l, first)
		both := f.node(six) == first
		dead.Kill()
		dead.Unplug()
		second = f.other(l, addr, first)
		waitAnswer(t, l, l.Far, url(addr))
		traffic.Stop()
		t.Logf("nobody was answered for %s", traffic.Longest)
		if traffic.Longest > 15*time.Second {
			t.Errorf("nobody was answered for %s", traffic.Longest)
		}
		want := 1
		if both {
			f.other(l, six, first)
			want = 2
		}
		if n := v.assigns() - before; n != want {
			t.Errorf("it took %d calls to move %d addresses", n, want)
		}
		l.Eventually("it is said", func() error { return happened(l, "web", "AddressMoved") })
		routedTo(l, "web", second)
	})
	t.Run("it is back", func(t *testing.T) {
		back := named(l, first)
		back.Replug()
		back.StartSpeaker()
		traffic := l.Far.Ask(url(addr), 20*time.Millisecond)
		f.other(l, addr, second)
		waitAnswer(t, l, l.Far, url(addr))
		traffic.Stop()
		if f.node(addr) != first {
			t.Errorf("it is at %s", f.node(addr))
		}
		handedOver(t, back, traffic, 1)
		routedTo(l, "web", first)
	})
	t.Run("moved by hand, it is moved back", func(t *testing.T) {
		servers, ips := v.Servers(), v.FloatingIPs()
		i := slices.IndexFunc(ips, func(ip schema.FloatingIP) bool { return ip.IP == addr.String() })
		j := slices.IndexFunc(servers, func(s schema.Server) bool { return s.Name == second })
		before := v.assigns()
		v.MoveFloatingIP(ips[i].ID, servers[j].ID)
		l.Eventually("the cloud is asked to route it once more", func() error {
			if v.assigns() == before {
				return fmt.Errorf("it was asked %d times", before)
			}
			return nil
		})
		f.other(l, addr, second)
	})
	t.Run("deleted", func(t *testing.T) {
		gone := whenGone(t, l, "web")
		l.DeleteService("web")
		forgotten(t, gone)
		if all := v.FloatingIPs(); len(all) != 0 || v.MonthlyRate(hetzner.FloatingIP) != 0 {
			t.Errorf("the Service is gone, and there are %v", all)
		}
		l.Eventually("no node steers it", func() error { return l.NoRows(addr, six) })
	})
	t.Run("the token is nowhere", func(t *testing.T) { noToken(t, l, plugin) })
}
