package stories

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// A Service with a pod on a node that takes no tunnels gets SNAT for all its pods;
// the others keep the client's address. Nodes may change their mind while clients
// ask.
func TestANodeWithoutTunnelsIsReachedWithSNAT(t *testing.T) {
	if !lab.InGuest() {
		t.Skip("only IPVS has tunnels")
	}
	l, addr, pods := served(t)
	l.Pod(1, "far-1", lab.PodSpec{Labels: lab.App("far")})
	l.Pod(2, "far-2", lab.PodSpec{Labels: lab.App("far")})
	l.Apply(service{name: "far"}.String())
	far := l.WaitAddress("far")
	waitAnswer(t, l, l.Far, url(far))
	sees(t, l.Far, url(addr), "198.51.100.7")
	hidden := func(addr netip.Addr, want bool) func() error {
		return func() error {
			for range 6 {
				body, err := l.Far.Get(url(addr))
				if is := lab.ClientOf(body).String() != "198.51.100.7"; err != nil || is != want {
					return fmt.Errorf("%q, %v", body, err)
				}
			}
			return nil
		}
	}
	traffic := []*lab.Traffic{ // patient: a SYN that is lost is sent again after 1 s, 2 s and 4 s
		l.Client.AskWithin(url(addr), pace, 10*time.Second), l.Far.AskWithin(url(addr), pace, 10*time.Second), l.Client.AskWithin(url(far), pace, 10*time.Second),
	}
	turn(l, false, 3)
	l.Eventually("a pod cannot be reached by tunnel, and the client is hidden", hidden(addr, true))
	sees(t, l.Far, url(far), "198.51.100.7")
	if n := l.Node(3); n.Speaker.Said(`msg="steering without" node=n3 lack="tunnels: `) != 1 {
		t.Error("the speaker of n3 does not say that it has no tunnels")
	}
	turn(l, false, 1, 2)
	l.Eventually("no pod can be reached by tunnel", hidden(far, true))
	for _, from := range []*lab.Host{l.Client, l.Far} {
		askAll(t, from, url(addr), pods...)
	}
	turn(l, true, 1, 2, 3)
	l.Eventually("all take tunnels again, and the client is seen", hidden(addr, false))
	for _, tr := range traffic {
		tr.Stop()
		if tr.Cut != tr.Failed { // a connection that is open just then is cut
			t.Errorf("%d of %d requests failed, %d were cut: %v", tr.Failed, tr.Requests, tr.Cut, tr.Failures)
		}
		t.Logf("%d requests, %d cut, longest time without an answer %s", tr.Requests, tr.Cut, tr.Longest.Round(time.Millisecond))
	}
}

// turn restarts the speakers of nodes with tunnels or without.
func turn(l *lab.Lab, tunnels bool, nodes ...int) {
	for _, i := range nodes {
		l.Node(i).Speaker.Flags(fmt.Sprintf("--tunnels=%t", tunnels))
		l.Node(i).Kill()
		l.Node(i).StartSpeaker()
	}
	for _, i := range nodes {
		l.Node(i).Speaker.WaitReady()
	}
}
