package stories

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// sees checks by which address the pods see a client.
func sees(t testing.TB, from *lab.Host, url string, want ...string) {
	t.Helper()
	for range 6 {
		body, err := from.Get(url)
		if err != nil || !slices.Contains(want, lab.ClientOf(body).String()) {
			t.Errorf("asking %s from %s: %q, %v; want the client seen as one of %v", url, from.Name, body, err, want)
		}
	}
}

// The pods see who asks although policy Cluster lets every pod answer: with
// IPVS. nftables can only hide the client.
func TestPodsSeeTheClientWithPolicyCluster(t *testing.T) {
	l, addr, pods := served(t)
	for _, from := range []*lab.Host{l.Client, l.Far} {
		askAll(t, from, url(addr), pods...)
	}
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	if owner.DataPath() == "ipvs" {
		sees(t, l.Client, url(addr), "192.168.50.100")
		sees(t, l.Far, url(addr), "198.51.100.7")
		return
	}
	// An address of the announcing node: on the segment, or of its bridge.
	number := strings.TrimPrefix(owner.Name, "n")
	sees(t, l.Far, url(addr), "192.168.50.1"+number, "10.244."+number+".1")
}

// One download goes on, to the byte, through the planned stop of the node that
// announces, through the death of the next, and back.
func TestALongDownloadSurvivesTheMovesOfItsAddress(t *testing.T) {
	if !lab.InGuest() {
		t.Skip("connections outlive a move of their address with IPVS only")
	}
	l, addr, _ := served(t)
	target := netip.AddrPortFrom(addr, 80).String()
	var downloads []*lab.Download
	for _, from := range []*lab.Host{l.Client, l.Far, l.Client, l.Far} {
		d, err := from.Download(target)
		if err != nil {
			t.Fatal(err)
		}
		downloads = append(downloads, d)
	}
	var stopped []*lab.Node
	for i := range 3 {
		owner, err := l.Owner(addr)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			owner.Stop() // says so first
		} else {
			owner.Kill()
		}
		stopped = append(stopped, owner)
		l.Eventually("another node answers", func() error {
			now, err := l.Owner(addr)
			if err == nil && now == owner {
				err = errElsewhere
			}
			return err
		})
		if i > 0 { // two of three nodes are left at any time
			stopped[i-1].StartSpeaker()
			stopped[i-1].Speaker.WaitReady()
		}
	}
	for _, d := range downloads {
		d.Stop()
		if d.Err != nil {
			t.Errorf("a download ended: %v", d.Err)
		}
		if d.Bytes == 0 {
			t.Error("a download has brought nothing")
		}
		t.Logf("%d bytes, longest time without one %s", d.Bytes, d.Longest.Round(time.Millisecond))
	}
}

func TestSourceRangesLetInWhomTheyName(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", more: "loadBalancerSourceRanges: [198.51.100.0/24]"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Far, url(addr))
	askAll(t, l.Far, url(addr), pods...)
	if body, err := l.Client.GetWithin(url(addr), 500*time.Millisecond); err == nil {
		t.Errorf("a client that is not named is answered: %q", body)
	}
	l.Apply(service{name: "web", more: "loadBalancerSourceRanges: [192.168.50.0/24]"}.String())
	waitAnswer(t, l, l.Client, url(addr))
	l.Eventually("who is not named any more is shut out", func() error {
		if body, err := l.Far.GetWithin(url(addr), 500*time.Millisecond); err == nil {
			return fmt.Errorf("answered: %q", body)
		}
		return nil
	})
	l.Apply(service{name: "web"}.String())
	waitAnswer(t, l, l.Far, url(addr))
	askAll(t, l.Client, url(addr), pods...)
}

func TestAClientStaysWithItsPod(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", more: "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}"}.String())
	addr := l.WaitAddress("web")
	for _, from := range []*lab.Host{l.Client, l.Far} {
		first := lab.PodOf(waitAnswer(t, l, from, url(addr)))
		for range 12 {
			if body, err := from.Get(url(addr)); err != nil || lab.PodOf(body) != first {
				t.Errorf("%s is answered by %q, %v; before it was %s", from.Name, body, err, first)
			}
		}
	}
}

// What drains serves the connections that it has, also when the speakers are
// restarted meanwhile, and gets no new ones.
func TestADrainingPodKeepsItsConnections(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	leaving := l.Pod(1, "leaving", lab.PodSpec{Labels: lab.App("web")})
	l.Pod(2, "staying", lab.PodSpec{Labels: lab.App("web")})
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	var kept *lab.Session
	l.Eventually("a connection to the pod that will leave", func() error {
		s, err := l.Client.Connect(netip.AddrPortFrom(addr, 80))
		if err != nil {
			return err
		}
		body, err := s.Ask()
		if err == nil && lab.PodOf(body) != "leaving" {
			_ = s.Close()
			return fmt.Errorf("answered by %q", body)
		}
		kept = s
		return err
	})
	defer kept.Close()
	leaving.Terminate()
	onlyStaying := func() error {
		for range 12 {
			if body, err := l.Client.Get(url(addr)); err != nil || lab.PodOf(body) != "staying" {
				return fmt.Errorf("%q, %v", body, err)
			}
		}
		return nil
	}
	l.Eventually("only the other pod gets new connections", onlyStaying)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes() {
		n.Kill()
	}
	for _, n := range l.Nodes() {
		n.StartSpeaker()
	}
	for _, n := range l.Nodes() {
		n.Speaker.WaitReady()
	}
	// Who was the first to start may have had the address for a while, and nftables
	// knows a connection only where it began.
	l.Eventually("the client holds the owner from before", func() error {
		if now, err := l.Owner(addr); err != nil || now != owner {
			return errors.Join(err, errElsewhere)
		}
		if _, err := l.Client.Get(url(addr)); err != nil { // it may have nobody by now
			return err
		}
		return held(l, addr, owner)
	})
	if err := onlyStaying(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if body, err := kept.Ask(); err != nil || lab.PodOf(body) != "leaving" {
		t.Errorf("the connection to the pod that drains: %q, %v", body, err)
	}
	leaving.Delete()
}

func TestTheSchedulerThatAServiceAsksForIsUsed(t *testing.T) {
	if !lab.InGuest() {
		t.Skip("nftables has no schedulers to be shown")
	}
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", meta: `annotations: {herald-lb.io/scheduler: "sh,sh-port"}`}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	shows := func(want string) func() error {
		return func() error {
			out, err := l.Node(2).Inside("ipvsadm", "-Ln", "-t", netip.AddrPortFrom(addr, 80).String())
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("no %q in:\n%s", want, out)
			}
			return err
		}
	}
	l.Eventually("ipvsadm shows sh", shows("TCP  "+netip.AddrPortFrom(addr, 80).String()+" sh (sh-port)"))
	l.Apply(service{name: "web", meta: `annotations: {herald-lb.io/scheduler: lc}`}.String())
	l.Eventually("ipvsadm shows lc", shows(" lc\n"))
}
