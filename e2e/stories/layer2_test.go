package stories

import (
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
}

func TestAFlappingLinkSettlesWithOneOwner(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	w.begin("flapping")
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 10 {
		owner.Unplug()
		<-tick.C
		owner.Replug()
		<-tick.C
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
