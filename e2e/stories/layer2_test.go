package stories

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// The kernel's tables of the node stand, so its speaker is all that is missed.
func TestAddressesOfAKilledSpeakerMoveAndComeBackWithoutTwoOwners(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	w.begin("killed")
	owner := owners[w.addrs[0]]
	owner.Kill()
	w.left(owner)
	w.begin("started again")
	owner.StartSpeaker()
	w.are(owners)
	w.end(time.Time{})
	w.unbroken()
}

// What a frozen speaker knows is old when it goes on: questions have piled up in
// its sockets, and it still holds itself for the owner.
func TestAFrozenSpeakerAnswersNothingWithOldKnowledge(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	w.begin("frozen")
	owner.Freeze()
	frozen := time.Now()
	w.left(owner)
	<-time.After(2*time.Second - time.Since(frozen))
	w.begin("thawed")
	owner.Thaw()
	w.are(owners)
	w.end(time.Time{})
	w.unbroken()
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		for _, stray := range w.seen.Record(addr).Strays() {
			t.Errorf("%s: %s, while another did", addr, w.named(stray))
		}
	}
}

func TestAddressesMoveWhenACableIsCutAndComeBackWithIt(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	w.begin("cut")
	owner.Unplug()
	w.left(owner)
	w.begin("plugged in")
	owner.Replug()
	w.are(owners)
	w.end(time.Time{})
	w.unbroken()
}

func TestAFlappingLinkSettlesWithOneOwner(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	w.begin("flapping")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 25 {
		owner.Unplug()
		<-tick.C
		owner.Replug()
		<-tick.C
	}
	if !w.starved() {
		for _, addr := range of(owner, owners) {
			// Away, back after the first time, away again.
			if moved := w.seen.Record(addr).Changes(); len(moved) > 3 {
				t.Errorf("%s has moved %d times: %v", addr, len(moved), moved)
			}
		}
	}
	w.begin("quiet")
	w.are(owners)
	w.end(time.Time{})
}

func TestAllSpeakersRestartedAtOnceLeaveOneOwner(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	w.begin("restarted")
	for _, n := range w.Nodes() {
		n.Kill()
	}
	for _, n := range w.Nodes() {
		n.StartSpeaker()
	}
	w.are(owners)
	w.end(time.Time{})
}

// oneAgain is how long two nodes may go on to answer that hear each other again:
// each asks for one address after the other whether anybody else has it.
const oneAgain = 2 * time.Second

// The speakers of two nodes are parted, but nobody else is from either: who has an
// address is asked before it is taken.
func TestNothingMovesWhenOnlyTwoSpeakersArePartedByIP(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	w.begin("parted")
	a, b := w.Node(1), w.Node(2)
	ignoreIP(t, a, 12)
	ignoreIP(t, b, 11)
	<-time.After(4 * time.Second)
	for _, n := range []*lab.Node{a, b} {
		if n.Speaker.Said("a speaker does not answer any more") == 0 {
			t.Errorf("%s has not missed the other: this proves nothing", n.Name)
		}
		if _, err := n.Exec("nft", "delete table inet story"); err != nil {
			t.Fatal(err)
		}
	}
	w.begin("healed")
	<-time.After(time.Second)
	w.end(time.Time{})
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		r := w.seen.Record(addr)
		if moved, strays := r.Changes(), r.Strays(); len(moved)+len(strays) > 0 {
			t.Errorf("%s, which %s had, has moved: %v, %v", addr, owners[addr].Name, moved, strays)
		}
	}
}

// ignoreIP makes a node deaf to what the node sends whose addresses end in number,
// but for ARP and Neighbor Discovery.
func ignoreIP(t *testing.T, n *lab.Node, number int) {
	t.Helper()
	_, err := n.Exec("nft", fmt.Sprintf("add table inet story; "+
		"add chain inet story in { type filter hook input priority 0; }; "+
		"add rule inet story in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; "+
		"add rule inet story in ip saddr 192.168.50.%d drop; "+
		"add rule inet story in ip6 saddr fd50::%d drop", number, number))
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachPartOfASegmentHasOneOwnerAndTheWholeOneAgain(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	guest := w.Guest("guest", 101)
	there := w.observe(guest)
	alone, rest := []lab.Machine{w.Node(1), w.Client, w.Router}, []lab.Machine{w.Node(2), w.Node(3), guest}
	w.begin("parted")
	w.Block(alone, rest)
	w.Block(rest, alone)
	w.Eventually("n1 has everything on its side", func() error { return w.within(w.seen, w.Node(1)) })
	w.Eventually("the others have everything on theirs", func() error { return w.within(there, w.Node(2), w.Node(3)) })
	w.meet(url(w.addrs[0]), url(w.addrs[1]))
	parted := time.Now()
	<-time.After(time.Second)
	for _, seen := range w.all {
		for _, addr := range w.addrs {
			for _, d := range seen.Record(addr).Since(parted).Doubles(0) {
				if !w.starved() { // else a node may have missed the other of its side
					t.Errorf("%s, on one side: %s", addr, w.named(d))
				}
			}
		}
	}
	w.Unblock()
	healed := time.Now()
	w.begin("healed")
	w.are(owners)
	for _, addr := range w.addrs[:2] {
		w.Eventually("the client's kernel holds the owner for "+addr.String(), func() error { return held(w.Lab, addr, owners[addr]) })
	}
	w.end(healed.Add(oneAgain))
	t.Logf("two nodes answered for %s after it was healed", w.twoAfter(healed).Round(time.Millisecond))
}

// Nobody can read or write anything, but speakers hear each other.
func TestAddressesMoveWithoutTheAPIServer(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	w.CutAPI()
	w.begin("without the API server")
	<-time.After(2 * time.Second)
	w.are(owners)
	w.begin("killed")
	owner.Kill()
	w.left(owner)
	w.begin("all is well again")
	w.RestoreAPI()
	owner.StartSpeaker()
	w.are(owners)
	w.end(time.Time{})
}

// greetings is how long a speaker goes on to greet what it has taken, and more.
const greetings = 5 * time.Second

func TestManyAddressesOfANodeFailOverLikeOneAndOnlyTheyAreGreeted(t *testing.T) {
	w := watching(t, 60, lab.Options{Nodes: 2})
	owners := w.owned()
	owner := w.Node(1)
	mine := of(owner, owners)
	if len(mine) < 50 {
		t.Fatalf("%s has %d of %d addresses: this proves little", owner.Name, len(mine), len(owners))
	}
	<-time.After(greetings)
	w.begin("killed")
	owner.Kill()
	w.left(owner)
	const oneByOne = 5 * time.Second // that many take longer, each asked for by itself
	if took := time.Since(w.begun); took > oneByOne && !w.starved() {
		t.Errorf("%d addresses have moved after %s", len(mine), took)
	}
	w.end(time.Time{})
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		greeted := len(w.seen.Record(addr).Since(w.begun).Greetings)
		if moved := owners[addr] == owner; (greeted > 0) != moved {
			t.Errorf("%s was greeted %d times; that it has moved is %t", addr, greeted, moved)
		}
	}
}

// While all speakers are away another host takes what they have announced. One that
// was never announced would not be waited for: see
// TestAnAddressThatAStrangerHasIsNotUsed.
func TestAnAddressThatAnotherHostHasTakenIsAnnouncedOnceHeHasItNoMore(t *testing.T) {
	w := watching(t, 1, lab.Options{})
	w.Eventually("it is known that both were announced", func() error {
		if c := w.ConditionOf("web-0", "herald-lb.io/Announced"); c.Status != "True" {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return nil
	})
	const again = 5 * time.Second // a speaker asks whether he has it still
	rogue := w.Guest("rogue", 101)
	for _, n := range w.Nodes() {
		n.Kill()
	}
	rogue.Address(t, w.addrs...)
	w.begin("another host has it")
	for _, n := range w.Nodes() {
		n.StartSpeaker()
	}
	w.Eventually("it is said of both addresses", func() error {
		said := 0
		for _, n := range w.Nodes() {
			said += n.Speaker.Said("another host has an address")
		}
		if said < len(w.addrs) {
			return fmt.Errorf("it was said %d times", said)
		}
		return nil
	})
	<-time.After(time.Second)
	for _, addr := range w.addrs {
		var r lab.Record
		w.Eventually("the host that has "+addr.String()+" answers", func() error {
			r = w.seen.Record(addr).Since(w.begun)
			mac, err := r.Owner()
			if err == nil && mac != lab.MAC(rogue.MAC()) {
				err = fmt.Errorf("%s does", mac)
			}
			return err
		})
		if moved, strays := r.Changes(), r.Strays(); !w.starved() && len(moved)+len(strays) > 0 {
			t.Errorf("%s: want the host that has it, and nobody else: %v, %v", addr, moved, strays)
		}
	}
	w.begin("it is free")
	rogue.Unaddress(t, w.addrs...)
	w.owned()
	if took := time.Since(w.begun); took > 2*again && !w.starved() {
		t.Errorf("the addresses were announced %s after the host that had them has gone", took)
	}
	w.end(w.begun)
}

// Nobody but a speaker takes an address from a speaker.
func TestAnAddressIsDefendedAgainstAHostThatComesLater(t *testing.T) {
	w := watching(t, 1, lab.Options{})
	owners := w.owned()
	rogue := w.Guest("rogue", 101)
	w.begin("a host has the addresses as well")
	came := w.begun
	rogue.Address(t, w.addrs...)
	for _, addr := range w.addrs {
		if err := rogue.Greet(addr); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Second)
	w.begin("the host has gone")
	rogue.Unaddress(t, w.addrs...)
	w.are(owners)
	w.end(w.begun)
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		owner := lab.MAC(owners[addr].MAC())
		r := w.seen.Record(addr).Since(came)
		if silent := r.Of(owner).Longest(); silent > missed+standstill {
			t.Errorf("%s: %s had it, and has not answered for %s: %v", addr, owners[addr].Name, silent, r.Holds())
		}
		said := owners[addr].Speaker.Said("another host uses an address of ours")
		defended := slices.ContainsFunc(r.Greetings, func(v lab.Voice) bool { return v.MAC == owner && v.At.After(came) })
		if said == 0 || !defended {
			t.Errorf("%s: its owner has said so %d times; that it was defended is %t", addr, said, defended)
		}
	}
}
