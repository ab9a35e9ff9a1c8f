package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// A proxyless is a lab without kube-proxy, where Herald stands in for it. The
// pods that answer are on the nodes 2 and 3.
type proxyless struct {
	l      *lab.Lab
	pods   []string
	inside []*lab.Host // every node, and a pod on it
}

func newProxyless(t *testing.T) *proxyless {
	l := lab.Start(t, lab.Options{SpeakerFlags: []string{"--service-proxy"}})
	p := &proxyless{l: l, pods: []string{"web-2", "web-3"}}
	for i, app := range []string{"asker", "web", "web"} {
		pod := l.Pod(i+1, fmt.Sprintf("%s-%d", app, i+1), lab.PodSpec{Labels: lab.App(app)})
		p.inside = append(p.inside, l.Node(i+1).Host, pod.Host())
	}
	const ports = "{name: web, port: 80, targetPort: 8080}, {name: dgram, port: 80, protocol: UDP, targetPort: 8080}"
	l.Apply(service{name: "web", kind: "NodePort", ports: ports, more: "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]"}.String())
	for _, a := range p.clusterIPs("web") {
		for _, n := range l.Nodes() {
			waitAnswer(t, l, n.Host, url(a))
		}
	}
	return p
}

func (p *proxyless) clusterIPs(name string) (addrs []netip.Addr) {
	p.l.Eventually("service "+name+" has a ClusterIP", func() error {
		addrs = nil
		for _, ip := range p.l.Service(name).Spec.ClusterIPs {
			a, err := netip.ParseAddr(ip)
			if err != nil {
				return err
			}
			addrs = append(addrs, a)
		}
		return nil
	})
	return addrs
}

// nodePort returns where a node is asked for a Service, by family.
func (p *proxyless) nodePorts(name string, i int) []netip.AddrPort {
	port := uint16(p.l.Service(name).Spec.Ports[0].NodePort)
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("192.168.50.%d", 10+i)), port),
		netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("fd50::%d", 10+i)), port),
	}
}

// both asks over TCP and UDP.
func (p *proxyless) both(t *testing.T, from *lab.Host, at netip.AddrPort) {
	t.Helper()
	askAll(t, from, "http://"+at.String(), p.pods...)
	if body, err := from.UDP(at); err != nil || !strings.HasPrefix(body, "web-") {
		t.Errorf("asking %s from %s over UDP: %q, %v", at, from.Name, body, err)
	}
}

func TestAClusterRunsWithoutKubeProxy(t *testing.T) {
	p := newProxyless(t)
	t.Run("ClusterIPs answer nodes, pods and the endpoints themselves", func(t *testing.T) {
		for _, a := range p.clusterIPs("web") {
			for _, from := range p.inside {
				p.both(t, from, netip.AddrPortFrom(a, 80))
			}
		}
	})
	t.Run("node ports answer everybody at every node", func(t *testing.T) {
		for i := range p.l.Nodes() {
			for _, at := range p.nodePorts("web", i+1) {
				p.both(t, p.l.Client, at)
				for _, from := range p.inside[:4] {
					p.both(t, from, at)
				}
			}
		}
	})
	t.Run("traffic policies Local", p.locals)
	t.Run("the API server's own ClusterIP", p.apiServer)
	t.Run("what is not for a proxy is left alone", p.untouched)
}

func (p *proxyless) locals(t *testing.T) {
	p.l.Apply(service{name: "near", app: "web", kind: "NodePort", more: "internalTrafficPolicy: Local, externalTrafficPolicy: Local"}.String())
	near := url(p.clusterIPs("near")[0])
	for _, from := range p.inside[2:4] {
		waitAnswer(t, p.l, from, near)
		askAll(t, from, near, "web-2")
	}
	for _, from := range p.inside[:2] {
		if body, err := from.GetWithin(near, patience); err == nil {
			t.Errorf("%s has no endpoint on its node, and is answered: %q", from.Name, body)
		}
	}
	with, without := p.nodePorts("near", 2)[0].String(), p.nodePorts("near", 1)[0].String()
	sees(t, p.l.Client, "http://"+with, "192.168.50.100")
	sees(t, p.l.Far, "http://"+with, "198.51.100.7")
	if body, err := p.l.Client.GetWithin("http://"+without, patience); err == nil {
		t.Errorf("a node without endpoints answers: %q", body)
	}
}

// apiServer asks at 10.96.0.1. What leaves the pods' network gets the node's
// address, as CNI plug-ins do it.
func (p *proxyless) apiServer(t *testing.T) {
	const masquerade = "add table ip cni; add chain ip cni leaving { type nat hook postrouting priority 100; }; " +
		"add rule ip cni leaving ip saddr 10.244.0.0/16 oifname eth1 masquerade"
	for i, from := range p.inside {
		if i%2 == 0 {
			if out, err := from.Exec("nft", masquerade); err != nil {
				t.Fatalf("masquerading on %s: %v\n%s", from.Name, err, out)
			}
		}
		session, err := from.Connect(netip.MustParseAddrPort("10.96.0.1:443"))
		if err != nil {
			t.Errorf("connecting %s to the API server: %v", from.Name, err)
			continue
		}
		_ = session.Close()
	}
	if n := p.l.Node(1); n.DataPath() == "ipvs" {
		out, err := n.Inside("ipvsadm", "-Ln", "-t", "10.96.0.1:443")
		for _, want := range []string{"TCP  10.96.0.1:443 rr\n", ":6443               Masq    1 "} {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("ipvsadm does not show %q: %v\n%s", want, err, out)
			}
		}
	}
}

// untouched checks that no kernel hears of Services that have no ClusterIP, and
// of those that ask for another proxy.
func (p *proxyless) untouched(t *testing.T) {
	mine := service{name: "mine", app: "web"}
	p.l.Apply(objects(
		service{name: "named", app: "none", kind: "ExternalName", ports: "{port: 7771}", more: "externalName: example.com"},
		service{name: "headless", app: "web", kind: "ClusterIP", ports: "{port: 7772}", more: `clusterIP: None`},
		service{name: "others", app: "web", kind: "NodePort", ports: "{port: 7773, targetPort: 8080}", meta: "labels: {" + labelProxyName + ": other}"},
	))
	mine.kind, mine.ports = "ClusterIP", "{port: 7774, targetPort: 8080}"
	p.l.Apply(mine.String()) // the last: when it is served, the others have been seen
	waitAnswer(t, p.l, p.inside[0], "http://"+netip.AddrPortFrom(p.clusterIPs("mine")[0], 7774).String())
	for _, n := range p.l.Nodes() {
		kernel, err := n.Kernel()
		if err != nil {
			t.Fatal(err)
		}
		ports := []string{"7771", "7772", "7773", fmt.Sprint(p.l.Service("others").Spec.Ports[0].NodePort)}
		for _, port := range ports {
			if strings.Contains(kernel, port) {
				t.Errorf("%s steers port %s:\n%s", n.Name, port, kernel)
			}
		}
	}
	if err := p.l.NoRows(p.clusterIPs("others")...); err != nil {
		t.Error(err)
	}
	p.l.Apply(service{name: "others", app: "web", kind: "NodePort", ports: "{port: 7773, targetPort: 8080}"}.String())
	waitAnswer(t, p.l, p.inside[1], "http://"+netip.AddrPortFrom(p.clusterIPs("others")[0], 7773).String())
}

const labelProxyName = "service.kubernetes.io/service-proxy-name"
