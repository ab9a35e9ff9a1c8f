//go:build netns

package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
)

// newWire opens a wire into n until t ends.
func newWire(t testing.TB, n *nettest.Namespace) *wire {
	t.Helper()
	w, err := openWire(n.Handle)
	if err != nil {
		t.Fatalf("openWire() = %v", err)
	}
	t.Cleanup(func() { w.close() })
	return w
}

// newMoby opens moby/ipvs in n until t ends.
func newMoby(t testing.TB, n *nettest.Namespace) *moby.Handle {
	t.Helper()
	h, err := moby.New(fmt.Sprintf("/proc/self/fd/%d", n.FD()))
	if err != nil {
		t.Fatalf("New() = %v", err)
	}
	t.Cleanup(h.Close)
	return h
}

// throughMoby makes one change as moby/ipvs does.
func throughMoby(h *moby.Handle, c command) error {
	switch c.op {
	case opNewService:
		return h.NewService(c.svc)
	case opSetService:
		return h.UpdateService(c.svc)
	case opDelService:
		return h.DelService(c.svc)
	case opNewDest:
		return h.NewDestination(c.svc, c.dest)
	case opSetDest:
		return h.UpdateDestination(c.svc, c.dest)
	}
	return h.DelDestination(c.svc, c.dest)
}

// listMoby lists as moby/ipvs does, without statistics.
func listMoby(t testing.TB, h *moby.Handle) []listing {
	t.Helper()
	found, err := h.GetServices()
	if err != nil {
		t.Fatalf("GetServices() = %v", err)
	}
	all := make([]listing, len(found))
	for i, svc := range found {
		dests, err := h.GetDestinations(svc)
		if err != nil {
			t.Fatalf("GetDestinations() = %v", err)
		}
		all[i].svc = *svc
		all[i].svc.Stats = moby.SvcStats{}
		for _, d := range dests {
			d.Stats = moby.DstStats{}
			all[i].dests = append(all[i].dests, *d)
		}
	}
	return all
}

// randomCommand is one of few services and destinations, so that many are
// there already or are not, and with some things wrong that the kernel says.
func randomCommand(rnd *rand.Rand) command {
	svc := &moby.Service{Protocol: 6, Port: uint16(80 + rnd.IntN(3)), Netmask: netmask4, AddressFamily: unix.AF_INET}
	dest := &moby.Destination{Port: 8080, Weight: rnd.IntN(4), ConnectionFlags: uint32(rnd.IntN(4)), AddressFamily: unix.AF_INET}
	last := byte(1 + rnd.IntN(5))
	svc.Address, dest.Address = []byte{192, 0, 2, last}, []byte{10, 0, 0, byte(1 + rnd.IntN(5))}
	if rnd.IntN(2) == 0 {
		svc.Address, dest.Address = ipOf(fmt.Sprintf("2001:db8::%d", last)), ipOf(fmt.Sprintf("fd10::%d", 1+rnd.IntN(5)))
		svc.AddressFamily, dest.AddressFamily, svc.Netmask = unix.AF_INET6, unix.AF_INET6, netmask6
	}
	if rnd.IntN(8) == 0 {
		svc.FWMark, svc.Protocol, svc.Port, svc.Address = uint32(1+rnd.IntN(3)), 0, 0, nil
	}
	svc.SchedName = []string{"rr", "wrr", "mh", "sh", "wlc", "nonsense", "a-name-longer-than-sixteen"}[min(rnd.IntN(9), 6)]
	svc.Flags = []uint32{0, flagPort, flagPort | flagFallback, 1}[rnd.IntN(4)]
	if svc.Flags == 1 {
		svc.Timeout = 300
	}
	switch rnd.IntN(20) {
	case 0:
		svc.Netmask = 0 // EINVAL for IPv6
	case 1:
		dest.LowerThreshold = 7 // more than the upper one: ERANGE
	case 2:
		dest.Address = []byte{224, 0, 0, 1} // no unicast: EINVAL
		dest.AddressFamily = unix.AF_INET
	}
	if dest.AddressFamily != svc.AddressFamily {
		dest.Address, dest.AddressFamily = ipOf("ff02::1"), unix.AF_INET6
	}
	op := []op{opNewService, opNewService, opSetService, opDelService, opNewDest, opNewDest, opNewDest, opSetDest, opDelDest}[rnd.IntN(9)]
	if op != opNewService && op != opSetService {
		svc.SchedName = "rr" // moby/ipvs sends it here too, and the kernel checks how long it is
	}
	if op < opNewDest {
		dest = nil
	}
	return command{op, svc, dest}
}

func TestAWireIsMobyButFaster(t *testing.T) {
	nettest.RequireIPVS(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	one, many := nettest.New(t, "one"), nettest.New(t, "many")
	h, w := newMoby(t, one), newWire(t, many)
	seen := map[error]int{}
	for round := range 10 {
		cmds := make([]command, 300)
		want := make([]error, len(cmds))
		for i := range cmds {
			cmds[i] = randomCommand(rnd)
			want[i] = throughMoby(h, cmds[i])
			seen[want[i]]++
		}
		got := w.do(context.Background(), cmds)
		for i := range cmds {
			if got[i] != want[i] {
				t.Fatalf("round %d: command %d %+v %+v: %v, want %v", round, cmds[i].op, cmds[i].svc, cmds[i].dest, got[i], want[i])
			}
		}
		sameTable(t, w, listMoby(t, h))
		sameTable(t, newWire(t, one), listMoby(t, newMoby(t, many)))
	}
	for _, err := range []error{nil, unix.EEXIST, unix.ENOENT, unix.ESRCH, unix.EINVAL, unix.ERANGE} {
		if seen[err] == 0 {
			t.Errorf("no command has made %v", err)
		}
	}
	t.Logf("moby's answers: %v", seen)
}

// sameTable fails t unless w lists want; the order of services is that of
// their hashes, which differ between namespaces.
func sameTable(t *testing.T, w *wire, want []listing) {
	t.Helper()
	got, err := w.list(context.Background())
	if err != nil {
		t.Fatalf("list() = %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("list() has %d services, want %d", len(got), len(want))
	}
	name := func(l listing) string {
		return fmt.Sprint(l.svc.AddressFamily, l.svc.FWMark, l.svc.Protocol, l.svc.Address, l.svc.Port)
	}
	byName := func(a, b listing) int { return cmp.Compare(name(a), name(b)) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	for i := range want {
		g, w := got[i], want[i]
		if w.svc.AddressFamily == unix.AF_INET && w.svc.FWMark == 0 {
			w.svc.Address = w.svc.Address.To4()
		}
		if len(g.dests) == 0 && len(w.dests) == 0 {
			g.dests, w.dests = nil, nil
		}
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("list() has %+v\nwant       %+v", g, w)
		}
	}
}

func TestADestinationOfAnotherFamilyIsRefused(t *testing.T) {
	nettest.RequireIPVS(t)
	w := newWire(t, nettest.New(t, "node"))
	svc := &moby.Service{Address: ipOf("192.0.2.1"), Protocol: 6, Port: 80, SchedName: "rr", Netmask: netmask4, AddressFamily: unix.AF_INET}
	masq := &moby.Destination{Address: ipOf("fd10::7"), Port: 80, Weight: 1, AddressFamily: unix.AF_INET6}
	tunnel := &moby.Destination{Address: ipOf("fd10::8"), Port: 80, Weight: 70000, AddressFamily: unix.AF_INET6,
		ConnectionFlags: moby.ConnectionFlagTunnel}
	got := w.do(context.Background(), []command{{opNewService, svc, nil}, {opNewDest, svc, masq}, {opNewDest, svc, tunnel}})
	if want := []error{nil, unix.EINVAL, nil}; !slices.Equal(got, want) {
		t.Errorf("do() = %v, want %v", got, want)
	}
	all, err := w.list(context.Background())
	if err != nil || len(all) != 1 || !reflect.DeepEqual(all[0].dests, []moby.Destination{*tunnel}) {
		t.Errorf("list() = %+v, %v, want the tunnel only, with its whole weight", all, err)
	}
}

func TestListWhileOthersWrite(t *testing.T) {
	nettest.RequireIPVS(t)
	node := nettest.New(t, "node")
	w, other := newWire(t, node), newWire(t, node)
	fixed, moving := benchCommands(300, 2), benchCommands(340, 2)[300*3:]
	if err := errors.Join(w.do(context.Background(), fixed)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ctx.Err() == nil {
			other.do(ctx, moving)
			for i := 0; i < len(moving); i += 3 {
				other.do(ctx, []command{{opDelService, moving[i].svc, nil}})
			}
		}
	}()
	defer func() { cancel(); <-stopped }()
	// Whatever was there all the time is listed, or it is an error.
	for range 30 {
		all, err := w.list(ctx)
		if errors.Is(err, errChanging) {
			continue
		}
		if err != nil {
			t.Fatalf("list() = %v", err)
		}
		here := map[netip.Addr]int{}
		for _, l := range all {
			here[addrOf(l.svc.Address)] = len(l.dests)
		}
		for i := 0; i < len(fixed); i += 3 {
			if addr := addrOf(fixed[i].svc.Address); here[addr] != 2 {
				t.Fatalf("list() has %d destinations of %s, want 2", here[addr], addr)
			}
		}
	}
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// A family that is none is enough to make the kernel answer, on any kernel:
// every command with ENOENT.
func anyWire(t testing.TB) (*wire, *kernelSocket) {
	t.Helper()
	nettest.Require(t)
	s, err := openSocket(place{ns: nettest.New(t, "node").Handle}, unix.NETLINK_GENERIC, acknowledgements)
	if err != nil {
		t.Fatalf("openSocket() = %v", err)
	}
	t.Cleanup(func() { s.close() })
	limit, err := s.limit()
	if err != nil {
		t.Fatalf("limit() = %v", err)
	}
	return &wire{family: 0xfff0, batcher: batcher{sock: s, limit: limit, seq: 1}}, s
}

func TestNoAnswerIsLost(t *testing.T) {
	w, _ := anyWire(t)
	if w.limit.bytes != sendBuffer || w.limit.commands < 100 {
		t.Errorf("limit() = %+v", w.limit)
	}
	for i, err := range w.do(context.Background(), someCommands(5000)) {
		if err != syscall.ENOENT {
			t.Fatalf("command %d: %v", i, err)
		}
	}
}

func TestAnOverrunIsToldAndOver(t *testing.T) {
	w, s := anyWire(t)
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		count := map[error]int{}
		for _, err := range w.do(context.Background(), someCommands(400)) {
			count[err]++
		}
		if count[syscall.ENOENT] == 0 || count[errLost] == 0 || len(count) != 2 {
			t.Errorf("do() = %v, want some answers and the rest lost", count)
		}
	}
	// A batch that respects the limit loses nothing.
	limit, err := s.limit()
	if err != nil {
		t.Fatal(err)
	}
	w.limit = limit
	for i, err := range w.do(context.Background(), someCommands(400)) {
		if err != syscall.ENOENT {
			t.Fatalf("command %d: %v, in batches of %d", i, err, limit.commands)
		}
	}
}

// What others have in their namespaces does not hide what is in ours: in
// /proc/net/ip_vs it does.
func TestListHasEverythingBesideOtherNamespaces(t *testing.T) {
	nettest.RequireIPVS(t)
	const services, dests = 1000, 3
	for i := range 3 {
		w := newWire(t, nettest.New(t, "node"))
		if err := errors.Join(w.do(t.Context(), benchCommands(services, dests))...); err != nil {
			t.Fatal(err)
		}
		all, err := w.list(t.Context())
		if err != nil || len(all) != services {
			t.Errorf("namespace %d: list() has %d services, %v, want %d", i+1, len(all), err, services)
		}
		for _, l := range all {
			if len(l.dests) != dests {
				t.Fatalf("namespace %d: %d destinations of %v, want %d", i+1, len(l.dests), l.svc.Address, dests)
			}
		}
	}
}
