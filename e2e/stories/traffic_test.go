package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

const (
	// pace is how often a client asks while something goes on.
	pace = 5 * time.Millisecond
	// patience is how long a story listens for those who should be silent.
	patience = 300 * time.Millisecond
)

// noFailures checks that a client was always answered.
func noFailures(t testing.TB, traffic *lab.Traffic) {
	t.Helper()
	if traffic.Failed > 0 {
		t.Errorf("%d of %d requests failed: %v", traffic.Failed, traffic.Requests, traffic.Failures)
	}
}

// noneLost is noFailures, but where the machine has made an address move: no speaker
// has ended but some.
func noneLost(t testing.TB, l *lab.Lab, traffic *lab.Traffic, ended ...*lab.Node) {
	t.Helper()
	if traffic.Failed > 0 && moved(t, l, ended...) {
		onlyCut(t, traffic, 2*cutsOfAMove)
		return
	}
	noFailures(t, traffic)
}

func TestAServiceIsAnnouncedOnlyWhileItHasReadyEndpoints(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pod := l.Pod(2, "web", lab.PodSpec{Labels: lab.App("web"), Unready: true})
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	if err := l.Silent(addr); err != nil {
		t.Errorf("no endpoint is ready, but %v", err)
	}
	for range 2 {
		pod.Ready(true)
		// It is announced after its rows are in: whoever gets an ARP reply
		// gets through.
		l.Eventually("the address is announced", func() error {
			_, err := l.Owner(addr)
			return err
		})
		if _, err := l.Client.Get(url(addr)); err != nil {
			t.Errorf("announced, but %v", err)
		}
		pod.Ready(false)
		l.Eventually("the address is withdrawn", func() error { return l.Silent(addr) })
	}
	if got := l.WaitAddress("web"); got != addr {
		t.Errorf("the address went from %s to %s on the way", addr, got)
	}
}

func TestPodsComeAndGoWithoutAFailedRequest(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	askAll(t, l.Client, url(addr), pods...)
	traffic := l.Client.Ask(url(addr), pace)
	extra := l.Pod(1, "extra", lab.PodSpec{Labels: lab.App("web")})
	l.Eventually("the new pod answers", func() error {
		body, err := l.Client.Get(url(addr))
		if err == nil && lab.PodOf(body) != "extra" {
			err = fmt.Errorf("%s answers", lab.PodOf(body))
		}
		return err
	})
	extra.Terminate() // it serves on, but gets no new connections
	l.Eventually("the terminating pod is left in peace", func() error {
		for range 12 {
			if body, err := l.Client.Get(url(addr)); err != nil || lab.PodOf(body) == "extra" {
				return fmt.Errorf("%q, %v", body, err)
			}
		}
		return nil
	})
	askAll(t, l.Client, url(addr), pods...)
	traffic.Stop()
	noneLost(t, l, traffic)
	extra.Delete()
	l.Eventually("nothing is left of it", func() error { return l.NoRows(extra.Addr4) })
}

func TestPortsOfEveryKind(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	both := func(n int) []lab.PodPort { return []lab.PodPort{{Number: 8080}, {Name: "http", Number: n}} }
	l.Pod(1, "one", lab.PodSpec{Labels: lab.App("web"), Ports: both(8081)})
	l.Pod(2, "two", lab.PodSpec{Labels: lab.App("web"), Ports: both(8082)})
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", ports: `
		{name: plain, port: 80, targetPort: 8080}, {name: named, port: 81, targetPort: http},
		{name: same, port: 8080}, {name: dgram, port: 80, protocol: UDP, targetPort: 8080},
		{name: dnamed, port: 53, protocol: UDP, targetPort: 8080}`}.String())
	addr := l.WaitAddress("web")
	for _, port := range []uint16{80, 81, 8080} {
		target := "http://" + netip.AddrPortFrom(addr, port).String()
		waitAnswer(t, l, l.Client, target)
		askAll(t, l.Client, target, "one", "two")
	}
	for _, port := range []uint16{80, 53} {
		for _, from := range []*lab.Host{l.Client, l.Far} {
			body, err := from.UDP(netip.AddrPortFrom(addr, port))
			if pod := lab.PodOf(body); err != nil || pod != "one" && pod != "two" {
				t.Errorf("port %d over UDP from %s: %q, %v", port, from.Name, body, err)
			}
		}
	}
	if body, err := l.Client.Get("http://" + netip.AddrPortFrom(addr, 82).String()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port that no service has: %q, %v; want it refused", body, err)
	}
}

func TestAServiceWithoutSelectorUsesTheEndpointsMadeByHand(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	a := l.Pod(1, "a", lab.PodSpec{})
	b := l.Pod(3, "b", lab.PodSpec{})
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", app: "none"}.String())
	l.Apply(fmt.Sprintf(`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
		metadata: {name: web-by-hand, labels: {kubernetes.io/service-name: web}},
		ports: [{name: web, port: 8080, protocol: TCP}],
		endpoints: [{addresses: [%s], conditions: {ready: true}}, {addresses: [%s]}]}`, a.Addr4, b.Addr4))
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	askAll(t, l.Client, url(addr), "a", "b")
}

func TestTrafficPolicyLocalKeepsTheClientsAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := map[string]*lab.Pod{}
	for i, node := range []string{"n2", "n3"} {
		pods[node] = l.Pod(i+2, "web-"+node, lab.PodSpec{Labels: lab.App("web")})
	}
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", more: "externalTrafficPolicy: Local"}.String())
	addr := l.WaitAddress("web")
	for range 2 {
		// The far host's router may hold on to the old owner longer than the client.
		waitAnswer(t, l, l.Client, url(addr))
		waitAnswer(t, l, l.Far, url(addr))
		owner, err := l.Owner(addr)
		if err != nil || pods[owner.Name] == nil {
			t.Fatalf("owner is %v, %v; want one of those with a pod", owner, err)
		}
		for _, from := range []*lab.Host{l.Client, l.Far} {
			askAll(t, from, url(addr), "web-"+owner.Name)
		}
		for host, want := range map[*lab.Host]string{l.Client: "192.168.50.100", l.Far: "198.51.100.7"} {
			if body, err := host.Get(url(addr)); err != nil || lab.ClientOf(body).String() != want {
				t.Errorf("the pod sees %q, %v; want client %s", body, err, want)
			}
		}
		pods[owner.Name].Delete()
		delete(pods, owner.Name)
		if len(pods) > 0 {
			l.Eventually("the other node takes over", func() error {
				now, err := l.Owner(addr)
				if err == nil && now == owner {
					err = fmt.Errorf("%s still answers", owner.Name)
				}
				return err
			})
		}
	}
	l.Eventually("nobody answers for what nobody can serve", func() error { return l.Silent(addr) })
}

func TestBothFamiliesAreAnnouncedAndSteered(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs, "fd50::f0-fd50::ff"))
	l.Apply(service{name: "web", more: "ipFamilyPolicy: RequireDualStack"}.String())
	l.WaitAddress("web")
	both := lab.Addresses(l.Service("web"))
	if len(both) != 2 || both[0].Is4() == both[1].Is4() {
		t.Fatalf("the service has %v, want one address of each family", both)
	}
	for _, addr := range both {
		waitAnswer(t, l, l.Client, url(addr))
		askAll(t, l.Client, url(addr), pods...)
	}
}
