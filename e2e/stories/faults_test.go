package stories

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

var errElsewhere = errors.New("the address is at another node")

// served starts a lab where the client is served by a pod on every node.
func served(t *testing.T) (*lab.Lab, netip.Addr, []string) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	askAll(t, l.Client, url(addr), pods...)
	return l, addr, pods
}

func TestASpeakerKilledAndRestartedLosesNoPacketAndTouchesNoRow(t *testing.T) {
	l, addr, _ := served(t)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	long, err := l.Client.Connect(netip.AddrPortFrom(addr, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	pod, err := long.Ask()
	if err != nil {
		t.Fatal(err)
	}
	before, err := owner.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	watch := owner.Watch()
	traffic := l.Client.Ask(url(addr), pace)
	// Others are quick to take over.
	known := owner.DataPath() == "ipvs"
	for range 3 {
		owner.Kill()
		owner.Prepare() // as the new pod's init container does
		owner.StartSpeaker()
		owner.Speaker.WaitReady()
		if again, err := long.Ask(); known && (err != nil || again != pod) {
			t.Errorf("the long-lived connection: %q, %v; want %q", again, err, pod)
		}
	}
	l.Eventually("the owner is the one from before", func() error {
		if now, err := l.Owner(addr); err != nil || now != owner {
			return errors.Join(err, errElsewhere)
		}
		return nil
	})
	traffic.Stop()
	handedOver(t, owner, traffic, 3*(1+cutsOfAMove)) // away from who is dead, and back
	if changes := watch.Stop(); changes != "" {
		t.Errorf("the restarts changed the kernel:\n%s", changes)
	}
	if after, err := owner.Kernel(); err != nil || after != before {
		t.Errorf("the kernel of %s holds, %v\n%s\nand held\n%s", owner.Name, err, after, before)
	}
}

// A planned restart moves the address away and back. For a moment both nodes
// answer, and what the client believes may change more than once. Each time a
// connection that is open just then is cut, for the other node does not know
// it. New ones always succeed.
func TestASpeakerRestartedInPeaceHandsOverWithoutAGap(t *testing.T) {
	l, addr, pods := served(t)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	traffic := l.Client.Ask(url(addr), pace)
	owner.Stop()
	l.Eventually("another node answers", func() error {
		now, err := l.Owner(addr)
		if err == nil && now == owner {
			err = errors.New("the node without a speaker answers")
		}
		return err
	})
	owner.StartSpeaker()
	owner.Speaker.WaitReady()
	l.Eventually("the address is back, and at one node only", func() error {
		if now, err := l.Owner(addr); err != nil || now != owner {
			return errors.Join(err, errElsewhere)
		}
		return oneAnswer(l, addr)
	})
	traffic.Stop()
	askAll(t, l.Client, url(addr), pods...)
	onlyCut(t, traffic, 2*cutsOfAMove)
}

// cutsOfAMove is how many connections of a client that has one at a time may be cut
// when an address moves between two living nodes: both answer for a moment, and what
// the client believes may change, and change back.
const cutsOfAMove = 2

// handedOver checks that a client was always answered while an address moved between
// living nodes. With IPVS each chooses the same pod for a connection; nftables knows
// only those that began at its node, and cuts the few that are open just then.
func handedOver(t *testing.T, by *lab.Node, traffic *lab.Traffic, cutAtMost int) {
	t.Helper()
	if by.DataPath() == "ipvs" {
		noFailures(t, traffic)
	} else {
		onlyCut(t, traffic, cutAtMost)
	}
}

// onlyCut checks that a client was always answered, but for a few connections
// that were open when the address moved.
func onlyCut(t testing.TB, traffic *lab.Traffic, atMost int) {
	t.Helper()
	if traffic.Cut != traffic.Failed || traffic.Cut > atMost {
		t.Errorf("%d of %d requests failed, %d were cut: %v", traffic.Failed, traffic.Requests, traffic.Cut, traffic.Failures)
	}
	t.Logf("%d requests, %d cut by the moves, longest time without an answer %s", traffic.Requests, traffic.Cut, traffic.Longest)
}

func TestWhenASpeakerDiesAnotherNodeServes(t *testing.T) {
	l, addr, pods := served(t)
	for range 2 {
		owner, err := l.Owner(addr)
		if err != nil {
			t.Fatal(err)
		}
		owner.Kill()
		died := time.Now()
		l.Eventually("another node answers", func() error {
			now, err := l.Owner(addr)
			if err == nil && now == owner {
				err = fmt.Errorf("%s answers", now.Name)
			}
			return err
		})
		t.Logf("%s died; another node answered after %s", owner.Name, time.Since(died).Round(time.Millisecond))
		// Its node answers: the pods there are as well as ever.
		for _, from := range []*lab.Host{l.Client, l.Far} {
			waitAnswer(t, l, from, url(addr))
			askAll(t, from, url(addr), pods...)
		}
		if err := oneAnswer(l, addr); err != nil {
			t.Error(err)
		}
	}
}

func TestAFrozenSpeakerThatComesBackDoesNotAnswerTwice(t *testing.T) {
	l, addr, _ := served(t)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	owner.Freeze()
	l.Eventually("another node answers", func() error {
		now, err := l.Owner(addr)
		if err == nil && now == owner {
			err = fmt.Errorf("%s answers", now.Name)
		}
		return err
	})
	owner.Thaw()
	l.Eventually("one node answers, and only one", func() error { return oneAnswer(l, addr) })
	waitAnswer(t, l, l.Client, url(addr))
}

// oneAnswer says whether one MAC address, and only one, answers for addr. Where
// nobody has answered in time it asks again.
func oneAnswer(l *lab.Lab, addr netip.Addr) error {
	answers, err := l.Client.WhoHas(patience, addr)
	for i := 0; i < 10 && err == nil && len(answers[addr]) == 0; i++ {
		answers, err = l.Client.WhoHas(patience, addr)
	}
	if err == nil && len(answers[addr]) != 1 {
		err = fmt.Errorf("%d nodes answer for %s: %v", len(answers[addr]), addr, answers[addr])
	}
	return err
}

func TestTheControllerMayDieAtAnyMoment(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &walk{t: t, l: l, rnd: rand.New(rand.NewPCG(seed, 0)), want: map[string]netip.Addr{}}
	for range 25 {
		w.step()
	}
	if !l.Controller.Alive() {
		l.Controller.Start()
	}
	w.check()
	var all []netip.Addr
	for name := range w.want {
		all = append(all, w.want[name])
		l.DeleteService(name)
	}
	if len(all) > 0 {
		waitGone(t, l, all...)
	}
}

// A walk creates and deletes Services and kills the controller, at random.
type walk struct {
	t    *testing.T
	l    *lab.Lab
	rnd  *rand.Rand
	made int
	want map[string]netip.Addr // Services there are; the address they were seen with, if they were
}

func (w *walk) step() {
	switch n := w.rnd.IntN(10); {
	case n < 4 && len(w.want) < 12:
		w.made++
		name := fmt.Sprintf("web-%d", w.made)
		w.l.Apply(service{name: name, app: "web"}.String())
		w.want[name] = netip.Addr{}
	case n < 6:
		for name := range w.want { // any will do
			w.l.DeleteService(name)
			delete(w.want, name)
			break
		}
	case n < 7:
		for name := range w.want {
			w.l.Edit(name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
			w.l.Edit(name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
			w.want[name] = netip.Addr{}
			break
		}
	case w.l.Controller.Alive():
		w.pause()
		w.l.Controller.Kill()
	default:
		w.l.Controller.Start()
	}
	w.see()
}

// pause lets the controller get on for a random while.
func (w *walk) pause() {
	<-time.After(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
}

// see notes the addresses that Services have: none may change.
func (w *walk) see() {
	for name, before := range w.want {
		addrs := lab.Addresses(w.l.Service(name))
		if len(addrs) == 0 {
			if before.IsValid() {
				w.t.Errorf("%s has lost %s", name, before)
			}
			continue
		}
		if before.IsValid() && addrs[0] != before {
			w.t.Errorf("%s went from %s to %s", name, before, addrs[0])
		}
		w.want[name] = addrs[0]
	}
}

// check waits until every Service is served at an address of its own, and
// nothing else is.
func (w *walk) check() {
	w.t.Helper()
	holder := map[netip.Addr]string{}
	for name := range w.want {
		addr := w.l.WaitAddress(name)
		if other, taken := holder[addr]; taken {
			w.t.Errorf("%s and %s both have %s", name, other, addr)
		}
		holder[addr] = name
		waitAnswer(w.t, w.l, w.l.Client, url(addr))
	}
	w.see()
	var free []netip.Addr
	first, _, _ := strings.Cut(addrs, "-")
	for a := netip.MustParseAddr(first); len(free)+len(holder) < 16; a = a.Next() {
		if holder[a] == "" {
			free = append(free, a)
		}
	}
	waitGone(w.t, w.l, free...)
}
