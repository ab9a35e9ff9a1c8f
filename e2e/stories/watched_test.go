package stories

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// tolerated is for how long two nodes may answer when an address moves from one
// that lives: the new owner begins to answer when he greets, and the old one ends
// when he has heard that. Both are processes that have to be woken first, on
// machines that do other things as well.
const tolerated = 50 * time.Millisecond

// A watched lab has Services that a client asks for all the time.
type watched struct {
	*lab.Lab
	t     *testing.T
	addrs []netip.Addr
	seen  *lab.Observer   // of the client
	all   []*lab.Observer // with that one
	begun time.Time       // the last part of the story
	part  string
	final map[netip.Addr]*lab.Node // the owners that are to stay, once are has seen them
}

// few is for how many Services every node has an address of each family.
const few = 3

// watching starts a lab with dual-stack Services, and waits until each has an owner.
func watching(t *testing.T, services int, o lab.Options) *watched {
	t.Helper()
	if lab.InGuest() {
		t.Skip("User-Mode Linux is too slow for what is missed after 300 ms, and its switch cannot be parted")
	}
	w := &watched{Lab: lab.Start(t, o), t: t}
	onePodEach(w.Lab, "web")
	four, six := "192.168.50.205-192.168.50.254", "fd50::f5-fd50::ff"
	if services > few {
		four, six = "192.168.50.110-192.168.50.254", "fd50::1:0/112"
	}
	w.Apply(pool("lan", four, six))
	for i := range services {
		s := dual(fmt.Sprintf("web-%d", i), "RequireDualStack")
		s.app = "web"
		w.Apply(s.String())
	}
	for i := range services {
		name := fmt.Sprintf("web-%d", i)
		w.WaitAddress(name)
		w.addrs = append(w.addrs, lab.Addresses(w.Service(name))...)
	}
	if len(w.addrs) != 2*services {
		t.Fatalf("%d services have %v", services, w.addrs)
	}
	w.seen = w.observe(w.Client)
	w.begin("beginning")
	w.owned()
	return w
}

// observe has one more host ask for all addresses.
func (w *watched) observe(h *lab.Host) *lab.Observer {
	w.t.Helper()
	seen, err := h.Observe(w.addrs...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = seen.Stop() })
	w.all = append(w.all, seen)
	return seen
}

// owners returns who answers for each address now, as an observer sees it. What was
// heard before this part of the story began does not count.
func (w *watched) owners(seen *lab.Observer) (map[netip.Addr]*lab.Node, error) {
	owners := map[netip.Addr]*lab.Node{}
	for _, addr := range w.addrs {
		mac, err := seen.Record(addr).Since(w.begun).Owner()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		if owners[addr] = w.byMAC(mac); owners[addr] == nil {
			return nil, fmt.Errorf("%s: %s answers, which is none of the nodes", addr, mac)
		}
	}
	return owners, nil
}

func (w *watched) byMAC(mac lab.MAC) *lab.Node {
	for _, n := range w.Nodes() {
		if lab.MAC(n.MAC()) == mac {
			return n
		}
	}
	return nil
}

// owned waits until every address has one owner, and returns them.
func (w *watched) owned() (owners map[netip.Addr]*lab.Node) {
	w.t.Helper()
	w.Eventually("every address has one owner", func() (err error) {
		owners, err = w.owners(w.seen)
		return err
	})
	return owners
}

// left waits until nobody is answered by a node, but all by some.
func (w *watched) left(node *lab.Node) {
	w.t.Helper()
	w.Eventually("other nodes answer for what "+node.Name+" had", func() error {
		owners, err := w.owners(w.seen)
		for addr, n := range owners {
			if n == node {
				return fmt.Errorf("%s answers for %s", node.Name, addr)
			}
		}
		return err
	})
}

// are waits until the owners are as they were, and are to stay.
func (w *watched) are(before map[netip.Addr]*lab.Node) {
	w.t.Helper()
	w.final = before
	w.Eventually("everything is where it was", func() error {
		owners, err := w.owners(w.seen)
		for addr, n := range owners {
			if n != before[addr] {
				return fmt.Errorf("%s is at %s, and was at %s", addr, n.Name, before[addr].Name)
			}
		}
		return err
	})
}

// begin begins a part of the story, and tells of the last.
func (w *watched) begin(part string) {
	w.t.Helper()
	w.tell()
	w.part, w.begun = part, time.Now()
}

// tell logs for how long the client was not answered, and what moved.
func (w *watched) tell() {
	w.t.Helper()
	if w.part == "" {
		return
	}
	moved, longest, overlap := 0, time.Duration(0), time.Duration(0)
	for _, addr := range w.addrs {
		all := w.seen.Record(addr)
		r := all.Since(w.begun)
		longest = max(longest, r.Longest())
		if slices.ContainsFunc(all.Changes(), func(c lab.Change) bool { return c.At.After(w.begun) }) {
			moved++
		}
		for _, d := range r.Doubles(0) {
			overlap = max(overlap, d.For)
		}
	}
	ms := time.Millisecond
	w.t.Logf("%s, %s: %d of %d addresses moved, %s without an answer at the longest, two answered for %s at the longest",
		w.part, time.Since(w.begun).Round(10*ms), moved, len(w.addrs), longest.Round(ms), overlap.Round(ms))
}

// standstill is for how long the machine may keep everybody from running in a story
// that is to prove something: what is missed after 300 ms is missed then, too.
const standstill = 200 * time.Millisecond

// calm is how long nothing is done in the end, so that what is wrong shows.
const calm = 500 * time.Millisecond

// end looks at everything that was seen since a time: each address had one owner,
// and has one. Where the machine has stood still only the latter counts.
func (w *watched) end(since time.Time) {
	w.t.Helper()
	<-time.After(calm)
	if w.starved() {
		w.Eventually("each address has its owner", func() error {
			owners, err := w.owners(w.seen)
			for addr, n := range w.final {
				if err == nil && owners[addr] != n {
					err = fmt.Errorf("%s is not at %s", addr, n.Name)
				}
			}
			return err
		})
	}
	owners := w.owned() // what was said last may not have been read yet
	if err := w.seen.Stop(); err != nil {
		w.t.Errorf("observing: %v", err)
	}
	w.tell()
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		for _, d := range w.seen.Record(addr).Since(since).Doubles(tolerated + w.late()) {
			w.t.Errorf("%s: %s", addr, w.named(d))
		}
	}
	for addr, n := range w.final {
		if owners[addr] != n {
			w.t.Errorf("%s was back at %s and did not stay there", addr, n.Name)
		}
	}
}

// starved is whether the machine has stood still, so that what was seen on the way
// proves nothing.
func (w *watched) starved() bool {
	late := w.late()
	if late > standstill {
		w.t.Logf("the machine has stood still for %s", late.Round(time.Millisecond))
	}
	return late > standstill
}

// late is for how long the machine let somebody wait at the worst: so long, too, a
// speaker may have waited.
func (w *watched) late() (late time.Duration) {
	for _, seen := range w.all {
		late = max(late, seen.Late())
	}
	return late
}

// missed is for how long a host may have no answer where somebody lives all the
// time who has the address: a few questions are lost on a busy machine.
const missed = 100 * time.Millisecond

// unbroken looks whether the client was answered all the time, since the last part
// of the story began.
//
// What has never moved shows how long the machine let everybody wait.
func (w *watched) unbroken() {
	w.t.Helper()
	if w.starved() {
		return
	}
	longest, usual := map[netip.Addr]time.Duration{}, time.Duration(0)
	for _, addr := range w.addrs {
		all := w.seen.Record(addr)
		longest[addr] = all.Since(w.begun).Longest()
		if len(all.Changes()) == 0 {
			usual = max(usual, longest[addr])
		}
	}
	for addr, silent := range longest {
		if silent > usual+missed+w.late() {
			w.t.Errorf("%s: nobody answered for %s while an owner was there", addr, silent.Round(time.Millisecond))
		}
	}
}

// twoAfter is how long after a time two nodes answered for some address still.
func (w *watched) twoAfter(t time.Time) (last time.Duration) {
	for _, addr := range w.addrs {
		for _, d := range w.seen.Record(addr).Doubles(0) {
			last = max(last, d.From.Add(d.For).Sub(t))
		}
	}
	return last
}

// named names the nodes where a text has their hardware addresses.
func (w *watched) named(text fmt.Stringer) string {
	var pairs []string
	for _, n := range w.Nodes() {
		pairs = append(pairs, n.MAC().String(), n.Name)
	}
	return strings.NewReplacer(pairs...).Replace(text.String())
}

// of returns the addresses that a node has.
func of(node *lab.Node, owners map[netip.Addr]*lab.Node) (addrs []netip.Addr) {
	for _, addr := range slices.SortedFunc(maps.Keys(owners), netip.Addr.Compare) {
		if owners[addr] == node {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// others returns all nodes but one.
func (w *watched) others(than *lab.Node) (others []lab.Machine) {
	for _, n := range w.Nodes() {
		if n != than {
			others = append(others, n)
		}
	}
	return others
}

// within is nil if all addresses, as an observer sees it, are held by these nodes.
func (w *watched) within(seen *lab.Observer, nodes ...*lab.Node) error {
	owners, err := w.owners(seen)
	for addr, n := range owners {
		if !slices.Contains(nodes, n) {
			return fmt.Errorf("%s is at %s", addr, n.Name)
		}
	}
	return err
}

// meet has the client's kernel look for addresses, and believe somebody. Whether
// there is a pod that can be reached does not matter.
func (w *watched) meet(urls ...string) {
	for _, u := range urls {
		_, _ = w.Client.GetWithin(u, 200*time.Millisecond)
	}
}

// held is nil once the client's kernel holds a node for an address.
func held(l *lab.Lab, addr netip.Addr, node *lab.Node) error {
	is, err := believes(l, addr)
	if err == nil && is != node {
		err = fmt.Errorf("the client holds %s for %s, want %s", is.Name, addr, node.Name)
	}
	return err
}
