package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// The clock of one node is an hour ahead of all others, and an hour behind. Who
// writes when by which clock matters to nobody.
func TestTheClockOfOneNodeJumpsByAnHourAndNothingMoves(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	off := owners[w.addrs[0]]
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		w.begin(fmt.Sprintf("the clock of %s is %s ahead", off.Name, ahead))
		if err := off.Speaker.PutClock(ahead); err != nil {
			t.Fatal(err)
		}
		w.Eventually("its Lease says so", func() error {
			at, err := off.Renewed()
			if err == nil && (time.Until(at)-ahead).Abs() > time.Minute {
				err = fmt.Errorf("it was renewed in %s", time.Until(at))
			}
			return err
		})
		<-time.After(4 * time.Second) // more than a Lease lasts
		w.are(owners)
		if w.starved() {
			continue
		}
		for _, addr := range w.addrs {
			r := w.seen.Record(addr).Since(w.begun)
			if moved, strays := r.Changes(), r.Strays(); len(moved)+len(strays) > 0 {
				t.Errorf("%s has moved: %v, %v", addr, moved, strays)
			}
		}
	}
	// Who fails is missed as ever, by him and by others.
	for _, n := range append(w.others(off), off) {
		node := n.(*lab.Node)
		w.begin(node.Name + " is killed")
		node.Kill()
		w.left(node)
		node.StartSpeaker()
		w.are(owners)
	}
	w.Eventually("it is said who announces what", func() error {
		c := w.ConditionOf("web-0", "herald-lb.io/Announced")
		for _, addr := range w.addrs[:2] {
			if want := fmt.Sprintf("%s by %s on", addr, owners[addr].Name); c.Status != "True" || !strings.Contains(c.Message, want) {
				return fmt.Errorf("%s: %s; want %s", c.Status, c.Message, want)
			}
		}
		return nil
	})
	w.end(time.Time{})
}

// The clock of the nodes is put forward by an hour, and back by nearly two, while
// that of the API server stays. Herald measures by clocks that nobody sets, and
// compares no two: nothing moves, and who fails is missed as ever.
//
// A guest has one clock for all its nodes.
func TestAClockThatJumpsByAnHourMovesNothing(t *testing.T) {
	if !lab.InGuest() {
		t.Skip("the clock of this machine is not ours to set; the guest's is")
	}
	c := &clocked{Lab: lab.Start(t, lab.Options{}), t: t}
	onePodEach(c.Lab, "web")
	c.Apply(pool("lan", "192.168.50.205-192.168.50.254", "fd50::f5-fd50::ff"))
	for i := range few {
		s := dual(fmt.Sprintf("web-%d", i), "RequireDualStack")
		s.app = "web"
		c.Apply(s.String())
		c.WaitAddress(s.name)
		c.addrs = append(c.addrs, lab.Addresses(c.Service(s.name))...)
	}
	c.Eventually("every address has one owner", func() (err error) {
		c.before, err = c.owners()
		return err
	})
	c.rest("at rest")
	shifted := time.Duration(0)
	t.Cleanup(func() { c.ShiftClock(-shifted) })
	for _, by := range []time.Duration{time.Hour, -119 * time.Minute} {
		c.ShiftClock(by)
		shifted += by
		c.renewing()
		c.rest(fmt.Sprintf("put by %s", by))
		owner := c.before[c.addrs[0]]
		owner.Kill()
		c.Eventually("others answer for what "+owner.Name+" had", func() error {
			now, err := c.owners()
			for addr, n := range now {
				if n == owner {
					return fmt.Errorf("%s answers for %s", n.Name, addr)
				}
			}
			return err
		})
		owner.StartSpeaker()
		c.Eventually("everything is where it was", c.same)
	}
}

// A clocked lab has nodes whose clock is set.
type clocked struct {
	*lab.Lab
	t      *testing.T
	addrs  []netip.Addr
	before map[netip.Addr]*lab.Node // the owners
}

// owners returns who answers for each address, if one does alone.
func (c *clocked) owners() (map[netip.Addr]*lab.Node, error) {
	answers, err := c.Client.WhoHas(500*time.Millisecond, c.addrs...)
	if err != nil {
		return nil, err
	}
	owners := map[netip.Addr]*lab.Node{}
	for _, addr := range c.addrs {
		for _, mac := range answers[addr] {
			for _, n := range c.Nodes() {
				switch had := owners[addr]; {
				case n.MAC().String() != mac.String():
				case had != nil && had != n:
					return nil, fmt.Errorf("%s: both %s and %s answer", addr, had.Name, n.Name)
				default:
					owners[addr] = n
				}
			}
		}
		if owners[addr] == nil {
			return nil, fmt.Errorf("%s: no node answers", addr)
		}
	}
	return owners, nil
}

// same is nil if every address is with its owner of before, and him alone.
func (c *clocked) same() error {
	now, err := c.owners()
	for addr, n := range now {
		if n != c.before[addr] {
			return fmt.Errorf("%s is at %s, and was at %s", addr, n.Name, c.before[addr].Name)
		}
	}
	return err
}

// rest lets more time go by than a Lease lasts, and looks whether anything has come
// of it: a speaker missed another, or took an address. The guest has one processor,
// and what is missed after 300 ms may be missed for that: where it has stood still
// only who answers in the end counts.
func (c *clocked) rest(part string) {
	c.t.Helper()
	c.Eventually("everything is where it was", c.same)
	since, missed := c.since(), c.missed()
	late := time.Duration(0)
	for began, last := time.Now(), time.Now(); time.Since(began) < 8*time.Second; {
		<-time.After(10 * time.Millisecond)
		late, last = max(late, time.Since(last)), time.Now()
	}
	missed = c.missed() - missed
	c.Eventually("everything is where it was", c.same)
	now := c.since()
	c.t.Logf("%s: speakers missed others %d times; nothing was taken: %t; the guest stood still for %s at the longest",
		part, missed, since == now, late.Round(time.Millisecond))
	if late < standstill/2 && (missed > 0 || since != now) {
		c.t.Errorf("%s: something has moved:\n%s\nand before:\n%s", part, now, since)
	}
}

// since is which node took which address when, by what speakers say.
func (c *clocked) since() string {
	c.t.Helper()
	text, err := c.Kubectl("get", "speakerstatuses", "--output", `jsonpath={range .items[*]}{.metadata.name} {.status.addresses}{"\n"}{end}`)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// missed is how often speakers have missed others.
func (c *clocked) missed() (n int) {
	for _, node := range c.Nodes() {
		n += node.Speaker.Said("a speaker does not answer any more")
	}
	return n
}

// renewing waits until all speakers have renewed their Leases, by the clock as it is
// now: it is theirs that was set.
func (c *clocked) renewing() {
	c.t.Helper()
	c.Eventually("all Leases are renewed by the clock as it is now", func() error {
		for _, n := range c.Nodes() {
			at, err := n.Renewed()
			if err != nil {
				return err
			}
			if off := time.Since(at); off.Abs() > time.Minute {
				return fmt.Errorf("%s renewed its Lease %s ago", n.Name, off)
			}
		}
		return nil
	})
}
