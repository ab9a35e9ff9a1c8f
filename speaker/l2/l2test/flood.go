//go:build netns

package l2test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/l2"
)

// claimed and unclaimed are addresses of one block, side by side.
var (
	claimed   = []int{10, 12, 14, 16, 18, 20}
	unclaimed = []int{11, 13, 15, 17, 19, 21, 9, 40, 99}
)

// foreign returns questions that are none of the business of who has claimed.
func (l Language) foreign(host l2.MAC) map[string][][]byte {
	kinds := map[string][][]byte{}
	add := func(kind, target string) {
		kinds[kind] = append(kinds[kind], l.Ask(host, l.Addr(1), target))
	}
	for i, n := range unclaimed {
		add("unclaimed", l.Addr(n))
		add("unclaimed", l.Asker(i))
	}
	if l.Twin != nil {
		for _, n := range claimed {
			add("same-group", l.Twin(n))
		}
	}
	return kinds
}

// A hose sends frames as fast as it can.
type hose struct{ fd int }

func newHose(t testing.TB, ns *nettest.Namespace, link string) hose {
	t.Helper()
	var h hose
	err := ns.Do(func() (err error) {
		h.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // hears nothing
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(h.fd) })
		err = errors.Join(
			unix.Bind(h.fd, &unix.SockaddrLinklayer{Ifindex: ns.Index(t, link)}),
			unix.SetsockoptInt(h.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// pour sends n frames, in turn.
func (h hose) pour(frames [][]byte, n int) error {
	for i := range n {
		if _, err := unix.Write(h.fd, frames[i%len(frames)]); err != nil {
			return fmt.Errorf("sending frame %d of %d: %w", i, n, err)
		}
	}
	return nil
}

// flood sends so many frames a second until ctx ends, and returns how many it
// has sent. What it is late with it catches up on.
func (h hose) flood(ctx context.Context, frames [][]byte, rate int) (sent int, err error) {
	for began := time.Now(); ctx.Err() == nil && err == nil; time.Sleep(500 * time.Microsecond) {
		due := int(time.Since(began).Seconds()*float64(rate)) - sent
		err = h.pour(frames, due)
		sent += due
	}
	return sent, err
}

// Speaker is a [nettest.Role]: it announces what a line says, as in "eth0 10
// 12", and shows its Stats.
func (l Language) Speaker(claims string) (func() any, error) {
	a := l.New(l2.Options{})
	go func() {
		if err := a.Run(context.Background()); err != nil {
			panic(err)
		}
	}()
	<-a.Started()
	return func() any { return a.Stats() }, a.Sync(context.Background(), l.want(claims))
}

// floodRate is what a speaker has to bear, in questions a second.
const floodRate = 100_000

// A torrent is what a speaker announces and what it is flooded with.
type torrent struct {
	name   string
	claims string
	frames [][]byte
}

// torrents are those of BenchFlood. With "nothing" the others are compared.
// Of "scattered" the filter lets some in: who announces a third of 600
// addresses does not get all the gaps between them into it (see [l2.Spans]).
func (l Language) torrents(them l2.MAC) []torrent {
	few := "eth0"
	for _, n := range claimed {
		few += fmt.Sprintf(" %d", n)
	}
	all := []torrent{{"nothing", few, nil}}
	for _, kind := range slices.Sorted(maps.Keys(l.foreign(them))) {
		all = append(all, torrent{kind, few, l.foreign(them)[kind]})
	}
	scattered := torrent{"scattered", few, nil}
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range 600 {
		if rnd.IntN(3) == 0 {
			scattered.claims += " " + l.Asker(i)
			continue
		}
		scattered.frames = append(scattered.frames, l.Ask(them, l.Addr(1), l.Asker(i)))
	}
	return append(all, scattered)
}

// BenchFlood measures what questions for what others have cost a speaker that
// announces some addresses, and what they cost those who ask for one of these.
// The speaker is the process that plays [Language.Speaker] as "speaker", and its
// CPU time is in percent of one CPU.
func (l Language) BenchFlood(b *testing.B) {
	nettest.Require(b)
	for i, kind := range l.torrents(l2.MAC{}) {
		b.Run(kind.name, func(b *testing.B) {
			node, client := l.cable(b)
			f := &flooded{
				l: l, speaker: node.Spawn(b, "speaker", kind.claims), ear: l.listen(b, client, "eth0"),
				us: MACOf(b, node, "eth0"), them: MACOf(b, client, "eth0"),
			}
			greetings := 5 * strings.Count(kind.claims, " ") * len(l.Greeting(f.us, l.Addr(claimed[0])))
			WaitFor(b, "all to be answered for and greeted", func() bool {
				s, _ := f.ask(b)
				return s.Greetings == uint64(greetings)
			})
			h := newHose(b, client, "eth0")
			for b.Loop() {
				f.measure(b, h, l.torrents(f.them)[i].frames)
			}
		})
	}
}

// A flooded speaker, and a client of his.
type flooded struct {
	l        Language
	speaker  *nettest.Process
	ear      *packet.Conn
	us, them l2.MAC
	asked    int
}

func (f *flooded) ask(b *testing.B) (s l2.Stats, used time.Duration) {
	used = f.speaker.Ask(b, &s)
	return s, used
}

// measure floods the speaker for a while, asks it something a hundred times a
// second, and reports how that went.
func (f *flooded) measure(b *testing.B, h hose, frames [][]byte) {
	b.Helper()
	const window = 5 * time.Second
	ctx, stop := context.WithTimeout(b.Context(), window)
	defer stop()
	before, used := f.ask(b)
	began, asked := time.Now(), f.asked
	poured := make(chan error, 1)
	sent := 0
	go func() {
		var err error
		if len(frames) > 0 {
			sent, err = h.flood(ctx, frames, floodRate)
		}
		poured <- err
	}()
	var times []time.Duration
	for ctx.Err() == nil {
		times = append(times, f.question(b))
		time.Sleep(10 * time.Millisecond)
	}
	if err := <-poured; err != nil {
		b.Fatal(err)
	}
	took := time.Since(began).Seconds()
	after, now := f.ask(b)
	slices.Sort(times)
	b.ReportMetric(float64(sent)/took, "flood/s")
	b.ReportMetric(float64(read(after)-read(before))-float64(f.asked-asked), "reached-user-space")
	b.ReportMetric(100*(now-used).Seconds()/took, "CPU-%")
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "answer-p50-us")
	b.ReportMetric(float64(times[len(times)-1].Nanoseconds())/1000, "answer-max-us")
	b.ReportMetric(0, "ns/op") // says nothing
}

// read is how many packets have come out of sockets.
func read(s l2.Stats) uint64 { return s.Requests + s.Ignored + s.Malformed }

// question asks for an address that is claimed, once more after a second as
// hosts do, and returns how long it takes until that is answered.
func (f *flooded) question(b *testing.B) time.Duration {
	b.Helper()
	f.asked++
	target, asker := f.l.Addr(claimed[f.asked%len(claimed)]), f.l.Asker(1000+f.asked%1000)
	began, frame := time.Now(), f.l.Ask(f.them, asker, target)
	say(b, f.ear, frame)
	again := time.AfterFunc(time.Second, func() {
		_, _ = f.ear.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}) // the answer will tell
	})
	defer again.Stop()
	f.l.until(b, f.ear, f.l.Answer(f.us, f.them, target, asker))
	return time.Since(began)
}

// cable builds a node and a client on one cable.
func (l Language) cable(t testing.TB) (node, client *nettest.Namespace) {
	t.Helper()
	node, client = nettest.New(t, "node"), nettest.New(t, "client")
	nettest.Cable(t,
		nettest.End{In: node, Link: "eth0", Addrs: []string{l.Addr(2) + l.Bits}},
		nettest.End{In: client, Link: "eth0", Addrs: []string{l.Addr(1) + l.Bits}})
	if client.HasIPv6() {
		// Answers to those whom tests ask for would be complained of.
		client.Run(t, "ip", "-6", "route", "add", "blackhole", "default")
	}
	return node, client
}
