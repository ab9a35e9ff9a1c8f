//go:build netns

package bfd

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
)

// duo is two of our servers that watch each other, up.
func duo(t *testing.T, change func(*Peer)) (n *network, node, neighbor *Server) {
	t.Helper()
	n = lay(t)
	peers := []Peer{peer(neighbor4), peer(node4)}
	for i := range peers {
		change(&peers[i])
	}
	node, neighbor = run(t, n.node, peers[0]), run(t, n.neighbor, peers[1])
	nettest.Await(t, "both to be up", func() bool {
		return node.Sessions()[peers[0].Addr].State == Up && neighbor.Sessions()[peers[1].Addr].State == Up
	})
	return n, node, neighbor
}

// What goes over the wire has the TTL, the class and the ports of RFC 5881.
func TestPacketsOnTheWire(t *testing.T) {
	n := lay(t)
	var sniffer int
	if err := n.neighbor.Do(func() (err error) {
		sniffer, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sniffer)
	if err := unix.SetsockoptTimeval(sniffer, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	multihop := peer("198.51.100.7")
	multihop.Multihop, multihop.Local = true, ip(node4)
	run(t, n.node, peer(neighbor4), peer(neighbor6), peer("fe80::2%eth0"), multihop)
	sources, seen := map[uint16]bool{}, map[string]bool{}
	for buf := make([]byte, 2048); len(seen) < 4; {
		size, _, err := unix.Recvfrom(sniffer, buf, 0)
		if err != nil {
			t.Fatalf("saw only %v: %v", seen, err)
		}
		to, source, port, ttl, class, ok := dissect(buf[:size])
		if !ok || seen[to] || port != 3784 && port != 4784 {
			continue
		}
		seen[to] = true
		if ttl != 255 || class != 48<<2 || source < firstSource || sources[source] || (port == 4784) != (to == "198.51.100.7") {
			t.Errorf("to %s from port %d to port %d goes TTL %d, class %#x", to, source, port, ttl, class)
		}
		sources[source] = true
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// dissect reads an IP packet with UDP in it.
func dissect(b []byte) (to string, source, port uint16, ttl, class byte, ok bool) {
	udp := b
	switch {
	case len(b) >= 28 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		to, ttl, class, udp = netip.AddrFrom4([4]byte(b[16:])).String(), b[8], b[1], b[int(b[0]&15)*4:]
	case len(b) >= 48 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		to, ttl, class, udp = netip.AddrFrom16([16]byte(b[24:])).String(), b[7], b[0]<<4|b[1]>>4, b[40:]
	default:
		return "", 0, 0, 0, 0, false
	}
	return to, uint16(udp[0])<<8 | uint16(udp[1]), uint16(udp[2])<<8 | uint16(udp[3]), ttl, class, true
}

func TestAPacketFromFurtherAwayIsIgnored(t *testing.T) {
	// With ends that miss each other only after 20 s, there is one reason for a loss.
	n, node, _ := duo(t, func(p *Peer) { p.MinTx, p.MinRx, p.Multiplier = 200*ms, 200*ms, 100 })
	mine := node.Sessions()[ip(neighbor4)]
	down := Packet{State: Down, Multiplier: 3, MyDiscriminator: mine.RemoteDiscriminator, YourDiscriminator: mine.Discriminator, DesiredMinTx: slow, RequiredMinRx: 50 * ms}
	send := func(ttl int) {
		t.Helper()
		if err := n.neighbor.Do(func() error {
			c, err := net.Dial("udp4", net.JoinHostPort(node4, "3784"))
			if err != nil {
				return err
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				return err
			}
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
			_, write := c.Write(down.Append(nil))
			return errors.Join(err, write)
		}); err != nil {
			t.Fatal(err)
		}
	}
	send(254)
	nettest.Await(t, "the packet to be counted", func() bool { return node.Stats().Distant == 1 })
	if got := node.Sessions()[ip(neighbor4)]; got.State != Up || got.Losses != 0 {
		t.Errorf("a packet with TTL 254 is believed: %+v", got)
	}
	send(255)
	nettest.Await(t, "the packet to be believed", func() bool { return node.Sessions()[ip(neighbor4)].Losses == 1 })
}

func TestAPortThatAnotherDaemonHas(t *testing.T) {
	n := lay(t)
	startBIRD(t, n.node, matches()[0].theirs)
	nettest.Await(t, "BIRD to have the port", func() bool {
		return strings.Contains(n.node.Run(t, "cat", "/proc/net/udp"), ":0EC8 ")
	})
	s := run(t, n.node)
	err := s.Sync([]Peer{peer(neighbor4), peer(neighbor6)})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "BIRD") {
		t.Errorf("Sync() = %v, want address already in use, and who to look for", err)
	}
	t.Logf("Sync() = %v", err)
	if got := s.Sessions()[ip(neighbor4)]; got.Err == "" {
		t.Errorf("the session says nothing: %+v", got)
	}
}

func TestAPeerWithoutBFDIsNamed(t *testing.T) {
	n := lay(t)
	s := run(t, n.node, peer(neighbor4), peer("192.0.2.99"))
	for addr, want := range map[string]string{neighbor4: "connection refused", "192.0.2.99": "no route to host"} {
		nettest.Await(t, addr+" to be shown as "+want, func() bool { return strings.HasSuffix(s.Sessions()[ip(addr)].Err, want) })
	}
}

func TestALinkThatIsMadeAnew(t *testing.T) {
	nettest.Require(t)
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	for _, n := range []*nettest.Namespace{a, b} {
		n.Sysctl(t, "net/ipv6/conf/default/addr_gen_mode", "1") // no link-local addresses but ours
	}
	cable := func() {
		nettest.Cable(t,
			nettest.End{In: a, Link: "eth0", Addrs: []string{node4 + "/24", "fe80::1/64"}},
			nettest.End{In: b, Link: "eth0", Addrs: []string{neighbor4 + "/24", "fe80::2/64"}})
	}
	cable()
	ours, theirs := run(t, a, peer(neighbor4), peer("fe80::2%eth0")), run(t, b, peer(node4), peer("fe80::1%eth0"))
	up := func() bool {
		for _, s := range []*Server{ours, theirs} {
			for _, got := range s.Sessions() {
				if got.State != Up {
					return false
				}
			}
		}
		return true
	}
	nettest.Await(t, "all to be up", up)
	a.Run(t, "ip", "link", "del", "eth0")
	nettest.Await(t, "all to be down", func() bool {
		return ours.Sessions()[ip(neighbor4)].State != Up && ours.Sessions()[ip("fe80::2%eth0")].State != Up
	})
	cable()
	nettest.Await(t, "all to be up again", up)
}

// So many peers has a speaker in a large cluster; bfdd is the other end of all.
func TestManySessions(t *testing.T) {
	const many = 250
	n := lay(t)
	var peers []Peer
	var theirs []refereePeer
	for i := range many {
		addr := netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})
		n.neighbor.Addr(t, "eth0", addr.String()+"/32")
		// Multihop, for bfdd has one session to an address over one hop.
		peers = append(peers, Peer{Addr: addr, Local: ip(node4), Multihop: true, MinTx: 300 * ms, MinRx: 300 * ms, Multiplier: patient})
		theirs = append(theirs, refereePeer{addr: ip(node4), local: addr, multihop: true, interval: 300 * ms, multiplier: patient})
	}
	startFRR(t, n.neighbor, theirs...)
	s := run(t, n.node, peers...)
	up := func() (count, losses int) {
		for _, got := range s.Sessions() {
			losses += got.Losses
			if got.State == Up {
				count++
			}
		}
		return count, losses
	}
	began := time.Now()
	nettest.Await(t, "all to be up", func() bool { count, _ := up(); return count == many })
	t.Logf("%d sessions are up after %v", many, time.Since(began).Round(ms))
	time.Sleep(2 * time.Second)
	before, packets := cpu(t), s.Stats()
	const watch = 3 * time.Second
	time.Sleep(watch)
	used, now := cpu(t)-before, s.Stats()
	t.Logf("%d sessions at 300 ms: %v of CPU in %v (%.1f %%), %d packets sent and %d received a second",
		many, used.Round(ms), watch, 100*used.Seconds()/watch.Seconds(),
		(now.Sent-packets.Sent)/3, (now.Received-packets.Received)/3)
	if count, losses := up(); count != many || losses > 0 {
		t.Errorf("%d sessions are up, %d were lost", count, losses)
	}
}

// A packet through the kernel, sent and read.
func BenchmarkWire(b *testing.B) {
	nettest.Require(b)
	n := nettest.New(b, "lo")
	err := n.Do(func() error {
		l, err := Kernel{}.Listen(Port{})
		if err != nil {
			return err
		}
		defer l.Close()
		s, err := Kernel{}.Dial(peer("127.0.0.1"), firstSource)
		if err != nil {
			return err
		}
		defer s.Close()
		batch, packet, came := make([]Datagram, 64), goodPacket.Append(nil), 0
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Send(packet); err != nil {
				return err
			}
			n, err := l.Read(batch)
			if err != nil {
				return err
			}
			came += n
		}
		if came < b.N || batch[0].TTL != 255 || batch[0].To != ip("127.0.0.1") {
			b.Errorf("%d of %d packets came, the last with TTL %d to %s", came, b.N, batch[0].TTL, batch[0].To)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// cpu returns what this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
