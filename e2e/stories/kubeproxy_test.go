package stories

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// A course is what a story does: Herald steers with one of its paths, and
// kube-proxy runs in one mode after the other.
type course struct {
	steer string
	modes []string
}

// courses are those of this kernel. With IPVS, where a start of kube-proxy takes
// long, what the other kernel shows is left to it.
func courses() []course {
	if hasIPVS() {
		return []course{
			{"ipvs", []string{"iptables", "ipvs", "ipvs", "nftables"}},
			{"nft", []string{"nftables", "ipvs"}},
		}
	}
	return []course{{"nft", []string{"iptables", "iptables", "nftables", "nftables", "iptables"}}}
}

func TestKubeProxyMayStopStartAndChangeItsModeBesideHerald(t *testing.T) {
	if os.Getenv("REQUIRE_IPVS") != "" && !hasIPVS() {
		t.Error("REQUIRE_IPVS is set, but this kernel has none")
	}
	for _, c := range courses() {
		t.Run("steering with "+c.steer, func(t *testing.T) {
			b := newBeside(t, c.steer)
			b.heraldServes(t)
			check := untouched(t, b.l)
			long, stop := b.connect(t), b.ask(t)
			last := "none"
			for _, mode := range c.modes {
				t.Run(last+", then "+mode, func(t *testing.T) {
					b.follow(t, last, mode)
					long.lasts(t, b.l)
					b.heraldServes(t)
					b.kubeProxyServes(t)
				})
				last = mode
			}
			stop()
			check()
		})
	}
}

// A beside is a lab with what Herald and kube-proxy both serve, and those who
// ask for it. The pods that answer are on the nodes 2 and 3.
type beside struct {
	l          *lab.Lab
	pods       []string
	askers     []asker
	web, local netip.Addr // traffic policy Cluster and Local
	web6       netip.Addr
}

// An asker is a host and what it asks for.
type asker struct {
	name  string
	host  *lab.Host
	addrs []netip.Addr
}

func newBeside(t *testing.T, steer string) *beside {
	l := lab.Start(t, lab.Options{Steer: steer})
	b := &beside{l: l, pods: []string{"web-2", "web-3"}}
	var pods []*lab.Pod
	for i, app := range []string{"asker", "web", "web"} {
		pods = append(pods, l.Pod(i+1, fmt.Sprintf("%s-%d", app, i+1), lab.PodSpec{Labels: lab.App(app)}))
	}
	b.apply(t)
	b.askers = []asker{
		{"the client", l.Client, []netip.Addr{b.web, b.local, b.web6}},
		{"the far host", l.Far, []netip.Addr{b.web, b.local}},
	}
	for i, n := range l.Nodes() {
		asked := []netip.Addr{b.web, b.local}
		if i == 0 {
			asked = asked[:1] // a node without a pod of it does not serve Local
		}
		b.askers = append(b.askers, asker{n.Name, n.Host, asked}, asker{pods[i].Name, pods[i].Host(), asked})
	}
	for _, addr := range b.askers[0].addrs {
		waitAnswer(t, l, l.Client, url(addr))
	}
	return b
}

// apply makes the Services and waits for their addresses.
func (b *beside) apply(t *testing.T) {
	t.Helper()
	b.l.Apply(pool("lan", addrs, "fd50::f0-fd50::ff"))
	const ports = "{name: web, port: 80, targetPort: 8080}, {name: dgram, port: 80, protocol: UDP, targetPort: 8080}"
	b.l.Apply(objects(service{name: "web", ports: ports, more: "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]"},
		service{name: "local", app: "web", ports: ports, more: "externalTrafficPolicy: Local"}))
	b.local = b.l.WaitAddress("local")
	b.l.WaitAddress("web")
	for _, a := range lab.Addresses(b.l.Service("web")) {
		if a.Is4() {
			b.web = a
		} else {
			b.web6 = a
		}
	}
}

// follow ends kube-proxy on one node after the other and starts it again in
// the next mode.
func (b *beside) follow(t *testing.T, last, mode string) {
	t.Helper()
	for _, n := range b.l.Nodes() {
		if last != "none" {
			n.StopKubeProxy()
		}
		n.StartKubeProxy(mode)
		if got, err := n.Get("http://127.0.0.1:10249/proxyMode"); err != nil || got != mode {
			t.Errorf("kube-proxy of %s is in mode %q, %v; want %s", n.Name, got, err, mode)
		}
	}
	if last == "ipvs" && mode == "nftables" {
		if rows, err := b.l.Node(1).Exec("ipvsadm", "-Sn"); err != nil || rows != "" {
			t.Errorf("this kube-proxy does not flush IPVS when it starts, and proves little: %v\n%s", err, rows)
		}
	}
}

// sessions are connections that are to last, by who has them to what.
type sessions map[string]*lab.Session

// connect opens one from everybody to everything.
func (b *beside) connect(t *testing.T) sessions {
	t.Helper()
	long := sessions{}
	for _, a := range b.askers {
		for _, addr := range a.addrs {
			session, err := a.host.Connect(netip.AddrPortFrom(addr, 80))
			if err != nil {
				t.Fatalf("connecting %s to %s: %v", a.name, addr, err)
			}
			t.Cleanup(func() { session.Close() })
			long[a.name+" to "+addr.String()] = session
		}
	}
	long.answer(t)
	return long
}

// answer checks that each still has somebody at its other end.
func (s sessions) answer(t *testing.T) {
	t.Helper()
	for what, session := range s {
		if _, err := session.Ask(); err != nil {
			t.Errorf("the long-lived connection of %s: %v", what, err)
		}
	}
}

// lasts is answer, but where the machine has made an address move.
func (s sessions) lasts(t *testing.T, l *lab.Lab, ended ...*lab.Node) {
	t.Helper()
	if !moved(t, l, ended...) {
		s.answer(t)
	}
}

// moved is whether connections may have been cut for another reason than what is
// tried, which ends some speakers: with nftables they are when an address moves.
func moved(t testing.TB, l *lab.Lab, ended ...*lab.Node) bool {
	t.Helper()
	missed := false
	for _, n := range l.Nodes() {
		for _, of := range l.Nodes() {
			living := n.DataPath() == "nft" && !slices.Contains(ended, n) && !slices.Contains(ended, of)
			missed = missed || living && n.Speaker.Said(fmt.Sprintf("a speaker does not answer any more\" node=%s of=%s", n.Name, of.Name)) > 0
		}
	}
	if missed {
		t.Log("an address has moved: the machine has stood still for so long that a speaker was missed")
	}
	return missed
}

// ask lets everybody ask for everything until stop is called, which says who
// was not answered.
func (b *beside) ask(t *testing.T) (stop func()) {
	t.Helper()
	// In User-Mode Linux a program that starts is in everybody's way.
	pause, limit := 50*time.Millisecond, 3*time.Second
	if lab.InGuest() {
		pause, limit = time.Second, 15*time.Second
	}
	traffic := map[string]*lab.Traffic{}
	for _, a := range b.askers {
		for _, addr := range a.addrs {
			traffic[a.name+" to "+addr.String()] = a.host.AskWithin(url(addr), pause, limit)
		}
	}
	return func() {
		t.Helper()
		requests, cut := 0, 0
		if moved(t, b.l) {
			cut = 2 * cutsOfAMove
		}
		for who, tr := range traffic {
			tr.Stop()
			requests += tr.Requests
			if tr.Failed > cut {
				t.Errorf("%s: %d of %d requests failed: %v", who, tr.Failed, tr.Requests, tr.Failures)
			}
		}
		t.Logf("%d requests", requests)
	}
}

// heraldServes checks that everybody reaches what Herald announces, and that
// Local keeps the address of those outside.
func (b *beside) heraldServes(t *testing.T) {
	t.Helper()
	for _, a := range b.askers {
		for _, addr := range a.addrs {
			if body, err := a.host.UDP(netip.AddrPortFrom(addr, 80)); err != nil || !slices.Contains(b.pods, lab.PodOf(body)) {
				t.Errorf("%s asks %s over UDP: %q, %v", a.name, addr, body, err)
			}
			if addr != b.local {
				askAll(t, a.host, url(addr), b.pods...)
			} else if body, err := a.host.Get(url(addr)); err != nil || !slices.Contains(b.pods, lab.PodOf(body)) {
				t.Errorf("%s asks %s over TCP: %q, %v", a.name, addr, body, err)
			}
		}
	}
	for host, want := range map[*lab.Host]string{b.l.Client: "192.168.50.100", b.l.Far: "198.51.100.7"} {
		if body, err := host.Get(url(b.local)); err != nil || lab.ClientOf(body).String() != want {
			t.Errorf("the pod sees %q, %v; want client %s", body, err, want)
		}
	}
}

// kubeProxyServes checks that cluster addresses and node ports work, which are
// kube-proxy's.
func (b *beside) kubeProxyServes(t *testing.T) {
	t.Helper()
	web := b.l.Service("web")
	for _, ip := range web.Spec.ClusterIPs {
		// Of the pods only the one that has no endpoint beside it: a reply must
		// not take the bridge past kube-proxy.
		for _, a := range b.askers[2:6] {
			if a.name != "web-2" {
				askAll(t, a.host, url(netip.MustParseAddr(ip)), b.pods...)
			}
		}
	}
	for i := range b.l.Nodes() {
		node := netip.AddrFrom4([4]byte{192, 168, 50, byte(11 + i)})
		at := netip.AddrPortFrom(node, uint16(web.Spec.Ports[0].NodePort))
		for _, from := range []*lab.Host{b.l.Client, b.l.Far} {
			askAll(t, from, "http://"+at.String(), b.pods...)
		}
	}
	// Of Local only where a pod is, and with the client's address.
	at := netip.AddrPortFrom(netip.MustParseAddr("192.168.50.12"), uint16(b.l.Service("local").Spec.Ports[0].NodePort))
	if body, err := b.l.Far.Get("http://" + at.String()); err != nil || body != "web-2 198.51.100.7" {
		t.Errorf("the far host asks node port %s: %q, %v", at, body, err)
	}
}

// untouched notes what Herald has in the kernels. The function that it returns
// checks that nobody has changed any of it since, not even for a moment.
func untouched(t *testing.T, l *lab.Lab) (check func()) {
	t.Helper()
	before, watches := map[*lab.Node]string{}, map[*lab.Node]*lab.Watch{}
	for _, n := range l.Nodes() {
		kernel, err := n.Kernel()
		if err != nil {
			t.Fatal(err)
		}
		before[n], watches[n] = kernel, n.Watch()
	}
	return func() {
		t.Helper()
		for _, n := range l.Nodes() {
			if changes := watches[n].Stop(); changes != "" {
				t.Errorf("the kernel of %s was changed:\n%s", n.Name, changes)
			}
			if now, err := n.Kernel(); err != nil || now != before[n] {
				t.Errorf("the kernel of %s holds, %v\n%s\nand held\n%s", n.Name, err, now, before[n])
			}
			if n.Speaker.Said("changed by somebody else") > 0 {
				t.Errorf("the speaker of %s had to repair its rows", n.Name)
			}
		}
	}
}

// Herald assigns and announces, kube-proxy steers.
func TestKubeProxySteersWhereThePoolSaysSo(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(poolSpec("lan", `addresses: ["`+addrs+`"], steer: ServiceProxy`))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	modes := []string{"iptables", "nftables"}
	if hasIPVS() {
		modes = []string{"ipvs"} // the others are left to the other kernel
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			for _, n := range l.Nodes() {
				if n.KubeProxy != nil {
					n.StopKubeProxy()
				}
				n.StartKubeProxy(mode)
			}
			waitAnswer(t, l, l.Client, url(addr))
			for _, from := range []*lab.Host{l.Client, l.Far} {
				askAll(t, from, url(addr), pods...)
			}
			// In its mode ipvs kube-proxy binds the address on every node, and
			// every node answers: --ipvs-strict-arp is for that.
			want := map[string]int{"ipvs": len(l.Nodes())}[mode]
			l.Eventually("so many nodes answer", func() error {
				answers, err := l.Client.WhoHas(patience, addr)
				if n := len(answers[addr]); err == nil && n != max(want, 1) {
					err = fmt.Errorf("%d nodes answer for %s, want %d", n, addr, max(want, 1))
				}
				return err
			})
		})
	}
	if err := l.NoRows(addr); err != nil {
		t.Errorf("kube-proxy steers, but %v", err)
	}
}
