//go:build netns

package bfd

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

// A network is a node of ours, a neighbour, and a host behind it. A switch
// between node and neighbour cuts the wire so that neither end sees it.
type network struct{ node, wire, neighbor, far *nettest.Namespace }

const (
	node4, node6         = "192.0.2.1", "2001:db8:1::1"
	neighbor4, neighbor6 = "192.0.2.2", "2001:db8:1::2"
	far4, far6           = "198.51.100.2", "2001:db8:2::2"
)

func lay(t *testing.T) *network {
	t.Helper()
	nettest.Require(t)
	n := &network{nettest.New(t, "node"), nettest.New(t, "switch"), nettest.New(t, "neighbor"), nettest.New(t, "far")}
	n.node.Sysctl(t, "net/ipv6/conf/default/addr_gen_mode", "1") // no link-local addresses but ours
	n.neighbor.Sysctl(t, "net/ipv6/conf/default/addr_gen_mode", "1")
	nettest.Cable(t,
		nettest.End{In: n.node, Link: "eth0", Addrs: []string{node4 + "/24", node6 + "/64", "fe80::1/64"}},
		nettest.End{In: n.wire, Link: "p1"})
	nettest.Cable(t,
		nettest.End{In: n.neighbor, Link: "eth0", Addrs: []string{neighbor4 + "/24", neighbor6 + "/64", "fe80::2/64"}},
		nettest.End{In: n.wire, Link: "p2"})
	n.wire.Bridge(t, "br0", "p1", "p2")
	nettest.Cable(t,
		nettest.End{In: n.neighbor, Link: "eth1", Addrs: []string{"198.51.100.1/24", "2001:db8:2::1/64"}},
		nettest.End{In: n.far, Link: "eth0", Addrs: []string{far4 + "/24", far6 + "/64"}})
	n.node.Route(t, "default", neighbor4)
	n.node.Route(t, "default", neighbor6)
	n.far.Route(t, "default", "198.51.100.1")
	n.far.Route(t, "default", "2001:db8:2::1")
	return n
}

// cut ends the passing of frames, and returns between when and when: the kernel may
// take a while to say that it has.
func (n *network) cut(t *testing.T) (from, to time.Time) {
	t.Helper()
	from = time.Now()
	n.wire.Down(t, "br0")
	return from, time.Now()
}

// run runs a Server in a namespace until the test ends.
func run(t *testing.T, in *nettest.Namespace, peers ...Peer) *Server {
	t.Helper()
	log := &nettest.Buffer{}
	s := New(Options{Log: logTo(log)})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.Do(func() error { return s.Run(ctx) }) }()
	<-s.started
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if t.Failed() {
			t.Logf("%s has said:\n%s", in.Name, log)
		}
	})
	if err := s.Sync(peers); err != nil {
		t.Fatal(err)
	}
	return s
}

// A match is one session, as both ends know it.
type match struct {
	name     string
	ours     Peer
	theirs   refereePeer
	neighbor bool // or else the host behind it
}

// patient is how many packets of a session have to fail to come. The tests that wait
// for timers to be agreed on are many at a time, on a machine that may be busy: a
// referee that gets no CPU for two seconds is no failure of ours.
const patient = 20

func matches() []match {
	one := func(name, their, our string, neighbor bool) match {
		m := match{name: name, neighbor: neighbor}
		m.ours = Peer{Addr: ip(their), MinTx: 100 * ms, MinRx: 100 * ms, Multiplier: patient}
		m.theirs = refereePeer{addr: ip(our), local: ip(their).WithZone(""), interval: 100 * ms, multiplier: patient}
		if !neighbor {
			m.ours.Multihop, m.ours.Local, m.theirs.multihop = true, ip(our), true
		}
		return m
	}
	return []match{
		one("IPv4", neighbor4, node4, true),
		one("IPv6", neighbor6, node6, true),
		one("IPv6 link-local", "fe80::2%eth0", "fe80::1%eth0", true),
		one("IPv4 multihop", far4, node4, false),
		one("IPv6 multihop", far6, node6, false),
	}
}

var referees = map[string]func(*testing.T, *nettest.Namespace, ...refereePeer) referee{"FRR": startFRR, "BIRD": startBIRD}

// refereed runs f for each session with each referee.
func refereed(t *testing.T, which func(match) bool, f func(*testing.T, *network, match, *Server, referee)) {
	for name, start := range referees {
		for _, m := range matches() {
			if !which(m) {
				continue
			}
			t.Run(name+" "+m.name, func(t *testing.T) {
				t.Parallel()
				n := lay(t)
				in := n.neighbor
				if !m.neighbor {
					in = n.far
				}
				r := start(t, in, m.theirs)
				began := time.Now()
				s := run(t, n.node, m.ours)
				both(t, m, s, r, "up")
				t.Logf("up after %v", time.Since(began).Round(ms))
				f(t, n, m, s, r)
			})
		}
	}
}

// both waits until both ends are in a state and have agreed on the timers.
func both(t *testing.T, m match, s *Server, r referee, state string) {
	t.Helper()
	nettest.Await(t, "both to be "+state, func() bool {
		ours, theirs := s.Sessions()[m.ours.Addr], r.views(t)[m.theirs.addr]
		agree := ours.Tx == theirs.detection/time.Duration(m.ours.Multiplier) && ours.Detection == theirs.tx*time.Duration(m.theirs.multiplier)
		return ours.State.String() == state && theirs.state == state && (agree || state != "up")
	})
}

func all(match) bool { return true }

func few(m match) bool { return m.name == "IPv4" || m.name == "IPv6 multihop" }

func TestARefereeSeesWhatWeSee(t *testing.T) {
	refereed(t, all, func(t *testing.T, _ *network, m match, s *Server, r referee) {
		ours, theirs := s.Sessions()[m.ours.Addr], r.views(t)[m.theirs.addr]
		if ours.Tx != 100*ms || ours.Detection != patient*100*ms || theirs.tx != 100*ms || theirs.detection != patient*100*ms {
			t.Errorf("we are %+v\nit sees %+v", ours, theirs)
		}
		if !theirs.detailed {
			return
		}
		want := view{
			state: "up", tx: 100 * ms, detection: patient * 100 * ms, my: ours.RemoteDiscriminator, your: ours.Discriminator,
			diag: "ok", remoteDiag: "ok", theirTx: 100 * ms, theirRx: 100 * ms, theirMultiplier: patient, detailed: true,
		}
		if theirs != want {
			t.Errorf("it sees %+v\nwant    %+v", theirs, want)
		}
	})
}

func TestTimersChangeLiveFromEitherSide(t *testing.T) {
	refereed(t, few, func(t *testing.T, _ *network, m match, s *Server, r referee) {
		for _, step := range []struct {
			name   string
			ours   time.Duration
			theirs time.Duration
		}{
			{"we are slower", 400 * ms, 100 * ms},
			{"it is slower", 400 * ms, 700 * ms},
			{"we are faster", 200 * ms, 700 * ms},
			{"it is faster", 200 * ms, 50 * ms},
		} {
			if m.theirs.interval != step.theirs {
				m.theirs.interval, m.theirs.multiplier = step.theirs, patient+1
				r.retime(t, m.theirs)
			}
			if m.ours.MinTx != step.ours {
				m.ours.MinTx, m.ours.MinRx = step.ours, step.ours
				if err := s.Sync([]Peer{m.ours}); err != nil {
					t.Fatal(err)
				}
			}
			slower := max(step.ours, step.theirs)
			nettest.Await(t, fmt.Sprintf("a packet every %v, as %s", slower, step.name), func() bool { return s.Sessions()[m.ours.Addr].Tx == slower })
			both(t, m, s, r, "up")
			if ours := s.Sessions()[m.ours.Addr]; ours.Tx != slower || ours.Losses != 0 {
				t.Errorf("%s: we are %+v, want a packet every %v", step.name, ours, slower)
			}
		}
		time.Sleep(2 * time.Second)
		if ours := s.Sessions()[m.ours.Addr]; ours.State != Up || ours.Losses != 0 {
			t.Errorf("in the end we are %+v", ours)
		}
	})
}

func TestACutIsNoticedInTime(t *testing.T) {
	refereed(t, few, func(t *testing.T, n *network, m match, s *Server, r referee) {
		from, to := n.cut(t)
		nettest.Await(t, "us to notice", func() bool { return s.Sessions()[m.ours.Addr].State == Down })
		ours := s.Sessions()[m.ours.Addr]
		least, most := ours.Since.Sub(to), ours.Since.Sub(from)
		nettest.Await(t, "it to notice", func() bool { return r.views(t)[m.theirs.addr].state == "down" })
		t.Logf("with 100 ms × %d we have noticed after %v to %v, it after at most %v", patient, least.Round(ms), most.Round(ms), time.Since(from).Round(ms))
		// Either way as much as a busy machine may take: the last packet may be old, too.
		if most < patient*50*ms || least > patient*500*ms || ours.Diag != DetectionTime || ours.Losses != 1 {
			t.Errorf("noticed after %v to %v: %+v", least, most, ours)
		}
		n.wire.Up(t, "br0")
		both(t, m, s, r, "up")
	})
}

func TestAdminDownIsHonouredBothWays(t *testing.T) {
	refereed(t, few, func(t *testing.T, _ *network, m match, s *Server, r referee) {
		r.shutdown(t, m.theirs)
		nettest.Await(t, "us to be down", func() bool { return s.Sessions()[m.ours.Addr].State == Down })
		ours := s.Sessions()[m.ours.Addr]
		t.Logf("when it leaves we are %v", ours)
		if _, isFRR := r.(*frr); isFRR && (ours.Diag != NeighborDown || ours.RemoteState != AdminDown) {
			t.Errorf("it has left, and we are %+v", ours)
		}
		r.revive(t, m.theirs)
		both(t, m, s, r, "up")

		begin := time.Now()
		s.Leave()
		nettest.Await(t, "it to be down", func() bool { return r.views(t)[m.theirs.addr].state == "down" })
		theirs := r.views(t)[m.theirs.addr]
		t.Logf("when we leave it is %+v after at most %v", theirs, time.Since(begin).Round(ms))
		if theirs.detailed && (theirs.diag != "neighbor signaled session down" || theirs.remoteDiag != "administratively down") {
			t.Errorf("we have left, and it is %+v", theirs)
		}
		time.Sleep(2 * time.Second)
		if got := s.Sessions()[m.ours.Addr].State; got != AdminDown || r.views(t)[m.theirs.addr].state != "down" {
			t.Errorf("2 s later we are %v, it is %+v", got, r.views(t)[m.theirs.addr])
		}
	})
}
