package stories

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// What routers are told is seen by whoever asks, and so is what is wrong with it.
func TestPeopleSeeWhatRoutersAreTold(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Bird(lab.Neighbours{})
	l.Apply(routedPool)
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	var names []string
	for _, n := range l.Nodes() {
		names = append(names, n.Name)
	}
	all, web := strings.Join(names, ", "), l.Namespace+"/web"
	announced := func(status, message string) func() error {
		return func() error {
			if c := l.ConditionOf("web", "herald-lb.io/Announced"); string(c.Status) != status || !strings.Contains(c.Message, message) {
				return fmt.Errorf("it is %+v", c)
			}
			return nil
		}
	}
	l.Eventually("it says that there is no router", announced("False", "there is no BGPPeer"))

	peer := bgpPeer("router", l.Router.Addr(true), "")
	heraldSays(t, l, peer, 0, []string{"opens    BGPPeer router: sessions of " + all, fmt.Sprintf("tells    BGPPeer router: %s/32", addr)}, "plan", "-f", "-")
	l.Apply(peer)
	l.Eventually("it is announced", announced("True", addr.String()+" by BGP"))
	explained := func(want string) func() error {
		return func() error {
			if out, code := l.Herald("", "explain", "service", web); code != 0 || !strings.Contains(out, want) {
				return fmt.Errorf("exit code %d, said\n%s", code, out)
			}
			return nil
		}
	}
	l.Eventually("all tell it", explained(fmt.Sprintf("told       %s to router by %s as %s/32", addr, all, addr)))
	heraldSays(t, l, "", 0, []string{"established", fmt.Sprint(lab.RouterASN)}, "status")
	other := bgpPeer("router", l.Router.Addr(true), ", holdTime: 30s")
	heraldSays(t, l, other, 0, []string{"no address would change", "resets   BGPPeer router: sessions, which are closed and opened anew, of " + all}, "plan", "-f", "-")
	heraldSays(t, l, peer, 0, []string{"ends     BGPPeer router: sessions of " + all, fmt.Sprintf("forgets  BGPPeer router: %s/32", addr)}, "plan", "--delete", "-f", "-")

	// The router is another than the one that is expected.
	wrong := fmt.Sprintf("the router says it is AS %d, and spec.peerASN is 65099", lab.RouterASN)
	l.Apply(strings.Replace(peer, fmt.Sprintf("peerASN: %d", lab.RouterASN), "peerASN: 65099", 1))
	l.Eventually("the peer says so", func() error {
		said, err := l.Object("bgppeers", "router")
		if err == nil && (!strings.Contains(said, `"established":"0/3"`) || !strings.Contains(said, `"reason":"NotEstablished"`) || !strings.Contains(said, all+": "+wrong)) {
			err = errors.New(said)
		}
		return err
	})
	l.Eventually("the Service says so", announced("False", "no session with a router that it is to be told to is established"))
	l.Eventually("it is explained", explained(fmt.Sprintf("not told   %s to router by %s as %s/32: the session is not established: %s", addr, all, addr, wrong)))
	heraldSays(t, l, "", 0, []string{"BGPPeer router", "NotEstablished", wrong}, "status")
	l.Eventually("an Event tells of it", func() error {
		out, err := l.Kubectl("get", "events", "--namespace", "default")
		if err == nil && (!strings.Contains(out, "bgppeer/router") || !strings.Contains(out, "NotEstablished")) {
			err = errors.New(out)
		}
		return err
	})
}
