// Package l2test holds every protocol of package l2 to the same promises.
//
// What a protocol has to say is written down once, as a [Language], by hand and
// from its RFC, so that the codec in use is not its own judge. [Run] speaks it
// against a fake host whose links a test changes as it likes, RunKernel (build
// tag netns) against the kernel's.
package l2test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// A Language is a protocol as tests speak it. Frames are bytes when they are
// heard, and text when they have been said.
type Language struct {
	New func(l2.Options) *l2.Announcer
	// Addr returns address n of the block that tests use, n below 100; Foreign
	// one of a protocol that this one does not speak for.
	Addr    func(n int) string
	Foreign string
	Text    func(frame []byte) string
	// Ask is a host's question to everybody who has target.
	Ask func(host l2.MAC, asker, target string) []byte
	// Answer is what has to be said to it.
	Answer func(us, host l2.MAC, target, asker string) string
	// Greeting is what is said once for an address.
	Greeting func(us l2.MAC, addr string) []string
	// Probe is what is said to find out whether anybody has an address.
	Probe   func(us l2.MAC, addr string) string
	IsProbe func(said string) bool
	// Has is another host's answer to it.
	Has func(host, us l2.MAC, addr string) []byte
	// Claim is another host's message that addr is his, Defence the answer.
	Claim   func(host l2.MAC, addr string) []byte
	Defence func(us l2.MAC, addr string) string
	// Promises are made where addresses 10 and 11 are claimed by a host of
	// hardware address us, and 20 is on another link, to one with them.
	Promises func(us, them l2.MAC) []Promise

	// Group returns the multicast group that questions for an address go to,
	// Twin another address with the group of address n; nil if there are none.
	Group func(addr string) string
	Twin  func(n int) string

	// What only tests with the kernel need: the length of Addr's prefix, as in
	// "/24"; addresses of others; and whether a frame is of the kernels' own.
	EtherType int
	Bits      string
	Asker     func(n int) string
	Noise     func(heard string) bool
}

// A Promise is what one packet brings about. The same table is run against the
// fake and against the kernel.
type Promise struct {
	Name    string
	Frame   []byte
	Verdict l2.Verdict
	Reply   string // "" for silence
}

// Silence is the promise to take no notice.
func Silence(name string, frame []byte) Promise { return Promise{name, frame, l2.Ignored, ""} }

// Answer is the promise to answer.
func Answer(name string, frame []byte, reply string) Promise {
	return Promise{name, frame, l2.Asked, reply}
}

// Refuse is the promise to answer somebody who would have the address himself.
func Refuse(name string, frame []byte, reply string) Promise {
	return Promise{name, frame, l2.Wanted, reply}
}

// Dispute is the promise to see a conflict, and to defend the address if it
// has not been for ten seconds.
func Dispute(name string, frame []byte, defence string) Promise {
	return Promise{name, frame, l2.Disputed, defence}
}

// conflict is whether somebody else claims the address.
func (p Promise) conflict() bool { return p.Verdict == l2.Wanted || p.Verdict == l2.Disputed }

// Run makes a protocol keep its promises on a fake host.
func Run(t *testing.T, l Language) {
	type test struct {
		name string
		test func(Language, *testing.T)
	}
	tests := []test{
		{"answers", Language.answers},
		{"greets in a burst with growing gaps", Language.greetsInABurst},
		{"Sync greets only what is new", Language.greetsOnlyWhatIsNew},
		{"withdrawn address is silent at once", Language.withdrawnIsSilent},
		{"Sync before Run is served by Run", Language.syncBeforeRun},
		{"errors name claim and link", Language.errorsNameClaimAndLink},
		{"one link that fails does not stop the other", Language.oneLinkFails},
		{"failed greeting is tried again", Language.failedGreeting},
		{"link that changes is greeted again", Language.linkThatChanges},
		{"unrelated link event sends nothing", Language.unrelatedLinkEvent},
		{"socket that fails is opened again", Language.socketThatFails},
		{"unreadable links change nothing", Language.unreadableLinks},
		{"converges", Language.converges},
		{"defends once in ten seconds", Language.defendsOnceInTenSeconds},
		{"dispute is shown until it is silent", Language.disputeIsShown},
		{"withdrawing ends a dispute", Language.withdrawingEndsADispute},
		{"own second link is no conflict", Language.ownSecondLink},
		{"what came while Run was not there is of old", Language.whatCameMeanwhile},
		{"peer whose link is not told of is no stranger", Language.peerWithoutLink},
		{"who yields contests nothing and answers still", Language.whoYields},
		{"asks three times before it answers", Language.asksBeforeItAnswers},
		{"stranger keeps what he has", Language.strangerKeepsIt},
		{"living peer hands over at once", Language.livingPeerHandsOver},
		{"peer that was taken for dead keeps what he has", Language.deadPeerKeepsIt},
		{"is asked for at once when its owner is not what he was", Language.looksAgain},
		{"who was absent asks anew", Language.absentAsksAnew},
		{"who is busy is not absent", Language.busyIsNotAbsent},
		{"who is not elected any more goes on until a peer has it", Language.goesOnUntilAPeerHasIt},
		{"who is elected gives up what a peer takes", Language.givesUpWhatAPeerTakes},
		{"what a peer takes that does not hear us is kept", Language.keepsWhatTheDeafTake},
		{"what was handed over comes back", Language.comesBack},
		{"peer that is back is told everything", Language.peerThatIsBackIsTold},
		{"of two that were parted the right one stays", Language.partedFindEachOther},
		{"peer is left alone for as long as the terms say", Language.leavesAloneForAWhile},
		{"greets again and again if the terms say so", Language.greetsAgainAndAgain},
		{"what comes back at once is not asked for", Language.backAtOnce},
		{"exactly one answers in the end, whatever happens", Language.modelHolds},
	}
	if len(l.wishes()) > 0 {
		tests = append(tests, test{"who only asks is refused and shown", Language.whoOnlyAsks})
	}
	if l.Group != nil { // else questions are broadcast
		tests = append(tests, test{"listens to the groups of what is claimed", Language.listensToGroups})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(l, t) })
	}
}

// want returns Announcements: "eth0 1 2" is two claims.
func (l Language) want(lines ...string) speaker.Announcements {
	var w speaker.Announcements
	for _, line := range lines {
		fields := strings.Fields(line)
		for _, addr := range fields[1:] {
			w.Claims = append(w.Claims, speaker.Claim{Addr: l.ip(addr), Link: fields[0]})
		}
	}
	return w
}

// ip returns the address that "10" stands for.
func (l Language) ip(s string) netip.Addr {
	n := 0
	for _, digit := range s {
		if digit < '0' || digit > '9' {
			return netip.MustParseAddr(s)
		}
		n = 10*n + int(digit-'0')
	}
	return netip.MustParseAddr(l.Addr(n))
}

// asks is the question that tests ask when nothing else matters.
func (l Language) asks(host l2.MAC, n int) []byte { return l.Ask(host, l.Addr(1), l.Addr(n)) }
