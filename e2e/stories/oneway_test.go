package stories

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// Frames between the owner of some addresses and all other nodes are lost in one
// direction. Clients hear everybody. Who is not heard is heard by others or hears
// them, and so they know that the fault is between them: nothing moves.
func TestASpeakerThatIsDeafToOthersIsOneOfThemAgainAfterwards(t *testing.T) {
	oneWay(t, false, deafTo)
}

func TestASpeakerThatOthersDoNotHearIsOneOfThemAgainAfterwards(t *testing.T) {
	oneWay(t, false, notHeardBy)
}

// Without the API server a speaker that is deaf cannot be told. It takes what it
// would have to if it were alone, but clients follow those who know better.
func TestADeafSpeakerIsNotFollowedWithoutTheAPIServerEither(t *testing.T) {
	oneWay(t, true, deafTo)
}

func TestSpeakersThatDoNotHearOneAreNotFollowedWithoutTheAPIServerEither(t *testing.T) {
	oneWay(t, true, notHeardBy)
}

func deafTo(w *watched, owner *lab.Node, others []lab.Machine) {
	w.Block(others, []lab.Machine{owner})
}

func notHeardBy(w *watched, owner *lab.Node, others []lab.Machine) {
	w.Block([]lab.Machine{owner}, others)
}

// contradicted is for how long clients may follow one who has taken an address
// without hearing that it has an owner.
const contradicted = 200 * time.Millisecond

// oneWay is the story of frames that are lost in one direction for a while.
func oneWay(t *testing.T, alone bool, block func(w *watched, owner *lab.Node, others []lab.Machine)) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	if alone {
		w.CutAPI()
		<-time.After(2 * time.Second) // Leases do not count any more
	}
	<-time.After(greetings) // of the beginning
	w.begin("one way only")
	began := w.begun
	block(w, owner, w.others(owner))
	<-time.After(time.Second)
	if !alone {
		w.begin("a second later")
		w.are(owners)
	}
	<-time.After(3 * time.Second)
	w.followed(owners, began)
	if !alone && !w.starved() {
		w.undisputed(w.begun)
	}
	w.Unblock()
	healed := time.Now()
	w.begin("healed")
	<-time.After(oneAgain)
	w.are(owners)
	w.end(healed.Add(oneAgain))
	w.followed(owners, began)
	for _, addr := range w.addrs {
		if longest := w.seen.Record(addr).Longest(); longest > time.Second && !w.starved() {
			t.Errorf("%s: nobody answered for %s", addr, longest)
		}
	}
	t.Logf("two nodes answered for %s after it was healed", w.twoAfter(healed).Round(time.Millisecond))
}

// followed looks whether a client that goes by greetings was with the owners, but
// for moments.
func (w *watched) followed(owners map[netip.Addr]*lab.Node, since time.Time) {
	w.t.Helper()
	if w.starved() {
		return
	}
	for _, addr := range w.addrs {
		owner := lab.MAC(owners[addr].MAC())
		greetings := w.seen.Record(addr).Since(since).Greetings
		for i, g := range greetings {
			again := slices.ContainsFunc(greetings[i:], func(v lab.Voice) bool {
				return v.MAC == owner && v.At.Sub(g.At) <= contradicted+w.late()
			})
			if g.MAC != owner && !again {
				w.t.Errorf("%s: %s has greeted it %s after the beginning, and its owner has not, soon after that",
					addr, w.named(g.MAC), g.At.Sub(since).Round(time.Millisecond))
			}
		}
	}
	w.t.Logf("greeted by others than the owners: %s", w.usurpers(owners, since))
}

// usurpers says how often others than the owners greeted.
func (w *watched) usurpers(owners map[netip.Addr]*lab.Node, since time.Time) string {
	by, ours := 0, 0
	for _, addr := range w.addrs {
		for _, g := range w.seen.Record(addr).Since(since).Greetings {
			if g.MAC == lab.MAC(owners[addr].MAC()) {
				ours++
				continue
			}
			by++
		}
	}
	return fmt.Sprintf("%d times, and by those %d times", by, ours)
}

// undisputed looks whether nobody has answered beside the owners.
func (w *watched) undisputed(since time.Time) {
	w.t.Helper()
	for _, addr := range w.addrs {
		for _, d := range w.seen.Record(addr).Since(since).Doubles(tolerated + w.late()) {
			w.t.Errorf("%s, while frames were lost: %s", addr, w.named(d))
		}
	}
}

// Everything that speakers have to find out, they find out among themselves; and one
// that starts goes by what it knew.
func TestAllFailuresWithoutTheAPIServer(t *testing.T) {
	w := watching(t, few, lab.Options{})
	owners := w.owned()
	owner := owners[w.addrs[0]]
	for _, n := range w.Nodes() {
		w.Within(2*time.Minute, n.Name+" keeps what it knows", func() error { return keeps(n, w.addrs) })
	}
	w.CutAPI()
	w.begin("without the API server")
	<-time.After(4 * time.Second) // more than a Lease lasts
	w.are(owners)
	for _, f := range []struct {
		name      string
		fail, end func()
	}{
		{"frozen", owner.Freeze, owner.Thaw},
		{"cut", owner.Unplug, owner.Replug},
		{"killed", owner.Kill, owner.StartSpeaker},
	} {
		w.begin(f.name)
		f.fail()
		w.left(owner)
		w.begin(f.name + ", and back")
		f.end()
		w.are(owners)
	}
	w.begin("parted")
	alone, rest := []lab.Machine{w.Node(1), w.Client, w.Router}, []lab.Machine{w.Node(2), w.Node(3)}
	w.Block(alone, rest)
	w.Block(rest, alone)
	w.Eventually("n1 has everything on its side", func() error { return w.within(w.seen, w.Node(1)) })
	w.Unblock()
	healed := time.Now()
	w.begin("whole again")
	w.are(owners)
	w.begin("flapping")
	for range 10 {
		owner.Unplug()
		<-time.After(200 * time.Millisecond)
		owner.Replug()
		<-time.After(200 * time.Millisecond)
	}
	w.begin("quiet")
	w.are(owners)
	w.RestoreAPI()
	w.end(healed.Add(oneAgain))
}
