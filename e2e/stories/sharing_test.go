package stories

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

// secure is where addr is asked on port 443.
func secure(addr netip.Addr) string { return "http://" + netip.AddrPortFrom(addr, 443).String() }

// ownedBy says whether node i answers for addr.
func ownedBy(l *lab.Lab, addr netip.Addr, i int) func() error {
	return func() error {
		owner, err := l.Owner(addr)
		if err == nil && owner != l.Node(i) {
			err = fmt.Errorf("%s answers", owner.Name)
		}
		return err
	}
}

func TestServicesThatShareAnAddressAreServedTogether(t *testing.T) {
	const tlsPort = "{name: tls, port: 443, targetPort: 8080}"
	key := annotated("share", "office")
	l := lab.Start(t, lab.Options{})
	l.Pod(1, "plain-1", lab.PodSpec{Labels: lab.App("plain")})
	l.Pod(3, "plain-3", lab.PodSpec{Labels: lab.App("plain")})
	two := l.Pod(2, "tls-2", lab.PodSpec{Labels: lab.App("tls")})
	l.Apply(pool("lan", addrs))
	l.Apply(objects(
		service{name: "a-plain", app: "plain", meta: key},
		service{name: "b-tls", app: "tls", ports: tlsPort, more: "externalTrafficPolicy: Local", meta: key}))
	addr := l.WaitAddress("a-plain")
	waitAddrs(l, "b-tls", addr.String())

	t.Run("the node of the one with traffic policy Local answers for both", func(t *testing.T) {
		waitAnswer(t, l, l.Client, secure(addr))
		l.Eventually("the client knows who answers", known(l, addr))
		for _, from := range []*lab.Host{l.Client, l.Far} {
			waitAnswer(t, l, from, url(addr))
			waitAnswer(t, l, from, secure(addr))
			askAll(t, from, url(addr), "plain-1", "plain-3")
			askAll(t, from, secure(addr), "tls-2")
		}
		if err := ownedBy(l, addr, 2)(); err != nil {
			t.Error(err)
		}
		if body, err := l.Client.Get(secure(addr)); err != nil || lab.ClientOf(body).String() != "192.168.50.100" {
			t.Errorf("the pod of the Local service sees %q, %v; want the client's own address", body, err)
		}
	})
	t.Run("and follows its pod", func(t *testing.T) {
		l.Pod(3, "tls-3", lab.PodSpec{Labels: lab.App("tls")})
		two.Delete()
		l.Eventually("node 3 answers", ownedBy(l, addr, 3))
		waitAnswer(t, l, l.Client, secure(addr))
		askAll(t, l.Client, secure(addr), "tls-3")
		askAll(t, l.Client, url(addr), "plain-1", "plain-3")
	})
	t.Run("a port that is taken means an address of its own", func(t *testing.T) {
		l.Apply(service{name: "c-clash", app: "plain", meta: key}.String())
		if own := l.WaitAddress("c-clash"); own == addr {
			t.Errorf("port 80 of %s is that of two services", addr)
		} else {
			waitAnswer(t, l, l.Client, url(own))
		}
		l.DeleteService("c-clash")
	})
	t.Run("who leaves the key leaves the address to the older", func(t *testing.T) {
		annotate(l, "a-plain", "share", "")
		own := waitOther(l, "b-tls", addr)
		waitAnswer(t, l, l.Client, secure(own))
		waitAnswer(t, l, l.Client, url(addr))
		l.Eventually("the client knows who answers", known(l, addr))
		askAll(t, l.Client, secure(own), "tls-3")
		l.Eventually("port 443 is gone from the address", func() error {
			if body, err := l.Client.Get(secure(addr)); err == nil {
				return fmt.Errorf("%q answers", body)
			}
			return nil
		})
		askAll(t, l.Client, url(addr), "plain-1", "plain-3")
		waitAddrs(l, "a-plain", addr.String())
		l.DeleteService("a-plain")
		l.DeleteService("b-tls")
		waitGone(t, l, addr, own)
	})
}

func TestTwoProtocolsOnOnePortShareAnAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28"))
	tcp, udp := asking("dns-tcp", "share", "dns"), asking("dns-udp", "share", "dns")
	tcp.ports, udp.ports = "{name: dns, port: 53}", "{name: dns, port: 53, protocol: UDP}"
	l.Apply(objects(tcp, udp))
	addr := l.WaitAddress("dns-tcp")
	waitAddrs(l, "dns-udp", addr.String())
	waitFree(l, "lan", 15)
}

func TestAnAddressIsSharedAmongNamespacesThatBothAgree(t *testing.T) {
	const addr = "192.0.2.5"
	l := lab.Start(t, lab.Options{NoNodes: true})
	// The host is the older one: of the same second, the first by name is.
	other := l.NewNamespace("other", nil)
	host := other + "/host"
	l.Apply(pool("lan", "192.0.2.0/28"))
	l.Apply(asking("host", "share", "office", "addresses", addr).in(other).String())
	waitAddrs(l, host, addr)

	guest := asking("guest", "share", "office", "addresses", addr)
	guest.ports = "{name: tls, port: 443}"
	l.Apply(guest.String())
	waitVerdict(l, "guest", refusal("ShareRefused", addr, "share-with of "+host, l.Namespace))
	annotate(l, host, "share-with", l.Namespace)
	waitVerdict(l, "guest", refusal("ShareRefused", "share-with of "+l.Namespace+"/guest", other))
	annotate(l, "guest", "share-with", other)
	waitAddrs(l, "guest", addr)
	waitVerdict(l, "guest", assigned())

	// The host changes its mind.
	annotate(l, host, "share-with", "")
	l.WaitNoAddress("guest")
	waitVerdict(l, "guest", refusal("ShareRefused", addr))
	annotate(l, "guest", "addresses", "")
	if now := l.WaitAddress("guest"); now.String() == addr {
		t.Errorf("the guest has %s, which it may not share", now)
	}
	if err := stays(l, host, addr); err != nil {
		t.Error(err)
	}
}

func TestAShareBrokenByAnEditMovesTheYounger(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*lab.Lab)
	}{
		{"the older takes another key", func(l *lab.Lab) { annotate(l, "a-old", "share", "other") }},
		{"the younger takes another key", func(l *lab.Lab) { annotate(l, "b-young", "share", "other") }},
		{"the younger leaves the key", func(l *lab.Lab) { annotate(l, "b-young", "share", "") }},
		{"the older takes the port of the younger", func(l *lab.Lab) { setPort(l, "a-old", 443) }},
		{"the younger takes the port of the older", func(l *lab.Lab) { setPort(l, "b-young", 80) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lab.Start(t, lab.Options{NoNodes: true})
			l.Apply(pool("lan", "192.0.2.0/28"))
			young := asking("b-young", "share", "office")
			young.ports = "{name: tls, port: 443}"
			// One after the other: of the same second, the first by name is the older.
			l.Apply(objects(asking("a-old", "share", "office"), young))
			addr := l.WaitAddress("a-old")
			waitAddrs(l, "b-young", addr.String())
			tt.edit(l)
			waitOther(l, "b-young", addr)
			if err := stays(l, "a-old", addr.String()); err != nil {
				t.Error(err)
			}
			waitVerdict(l, "b-young", assigned())
		})
	}
}

func setPort(l *lab.Lab, name string, port int32) {
	l.Edit(name, func(s *corev1.Service) { s.Spec.Ports[0].Port = port })
}

func TestManySharersOfOneAddress(t *testing.T) {
	const sharers = 30
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28"))
	for i := range sharers {
		s := asking(fmt.Sprintf("web-%d", i), "share", "office")
		s.ports = fmt.Sprintf("{name: web, port: %d}", 8000+i)
		l.Apply(s.String())
	}
	addr := l.WaitAddress("web-0")
	for i := range sharers {
		waitAddrs(l, fmt.Sprintf("web-%d", i), addr.String())
	}
	waitSeen(l)
	// A restart finds all of them, and changes nothing.
	l.Controller.Kill()
	before := l.StatusWrites()
	l.Controller.Start()
	waitSeen(l)
	if now := l.StatusWrites(); now.Done != before.Done+1 { // one for what waitSeen made
		t.Errorf("the controller that started has written %d statuses, want none", now.Done-before.Done-1)
	}
	for i := range sharers {
		if err := hasAddrs(l.Service(fmt.Sprintf("web-%d", i)), addr.String()); err != nil {
			t.Error(err)
		}
	}
}
