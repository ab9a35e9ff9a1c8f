package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/herald-lb/herald/speaker"
)

// A core is a GoBGP server with one peer, for one connection. It takes that for
// an incoming one: GoBGP waits a second or two before it dials, and five more
// after each session that it has lost.
type core struct {
	server *server.BgpServer
	peer   netip.Addr // of the loopback net: us, as GoBGP sees us
	conn   *net.TCPConn
	told   table

	saying     saying // of the last change, as one often follows that is alike
	attributes [][]byte

	// GoBGP does one thing after another, and says when (Observe), a moment after
	// whoever has asked for it goes on. So its doings are counted.
	asked  atomic.Int64 // how often it was asked for something
	leave  atomic.Int64 // which of that deletes the peer; 0 for none yet
	last   atomic.Int64 // which of that is the last; 0 for none yet
	done   int64        // how often it did so; as left, only of the goroutine of Serve
	left   bool
	heard  chan struct{} // a bell: it has dealt with a message of the peer
	freed  chan struct{} // closed once nothing of the peer is left
	served chan struct{} // closed once Serve has ended
	peered bool          // there is a peer
}

// globals orders what GoBGP does to two variables of its package: each StartBgp
// writes them, with what is in there, and each server reads them as it selects
// routes.
var globals sync.RWMutex

// newCore starts GoBGP for a session as in w.
func newCore(ctx context.Context, w speaker.Session, log *slog.Logger) (*core, error) {
	c := &core{peer: loopback(), told: table{}, heard: make(chan struct{}, 1), freed: make(chan struct{}), served: make(chan struct{})}
	c.server = server.NewBgpServer(server.LoggerOption(logger{log}), server.TimingHookOption(c))
	go func() {
		defer close(c.served)
		c.server.Serve()
	}()
	if err := c.start(ctx, w); err != nil {
		c.close()
		return nil, fmt.Errorf("starting GoBGP: %w", homeless(err))
	}
	return c, nil
}

// homeless says so if this node does not reach itself.
func homeless(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return fmt.Errorf("this node does not reach itself by 127.0.0.0/8: is the link lo up, has it 127.0.0.1, and does no filter drop that? %w", err)
	}
	return err
}

// loopback returns an address that no other program of this node will guess:
// GoBGP hears only its peer, and only once.
func loopback() netip.Addr {
	n := rand.Uint32()
	return netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)%254 + 1})
}

// homeTimeout is for how long this node may take to reach itself. Whoever calls
// Sync waits for it.
const homeTimeout = time.Second

var home = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (c *core) start(ctx context.Context, w speaker.Session) error {
	port, err := c.listen(ctx, w)
	if err != nil {
		return err
	}
	c.asked.Add(1)
	if err := c.server.AddPeer(ctx, &api.AddPeerRequest{Peer: peerOf(w, c.peer)}); err != nil {
		return err
	}
	c.peered = true
	if err := c.await(ctx, api.PeerState_ACTIVE); err != nil {
		return err
	}
	d := net.Dialer{Timeout: homeTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.peer, 0))}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(home, port).String())
	if err != nil {
		return err
	}
	c.conn = conn.(*net.TCPConn)
	return nil
}

// listen starts GoBGP at a port that is free. It cannot be told to find one.
func (c *core) listen(ctx context.Context, w speaker.Session) (uint16, error) {
	for attempt := 0; ; attempt++ {
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(home, 0)))
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		if err := l.Close(); err != nil {
			return 0, err
		}
		globals.Lock()
		c.asked.Add(1)
		err = c.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
			Asn: w.LocalASN, RouterId: w.RouterID.String(), ListenPort: int32(port), ListenAddresses: []string{home.String()},
		}})
		globals.Unlock()
		if !errors.Is(err, syscall.EADDRINUSE) || attempt == 10 {
			return port, err
		}
	}
}

// answerTimeout is for how long GoBGP may be at something that takes milliseconds, and
// some microseconds for each route: on a node that is busy, with a fraction of a CPU.
// What it gives up too soon never comes up, for the next time it takes as long.
func answerTimeout(routes int) time.Duration {
	return 10*time.Second + time.Duration(routes)*5*time.Millisecond
}

// await waits until the peer is in a state. GoBGP has events for that, but no
// way to know that their goroutine has ended.
func (c *core) await(ctx context.Context, want api.PeerState_SessionState) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout(len(c.told)))
	defer cancel()
	var is api.PeerState_SessionState // as last heard: too late, it says nothing
	for tick := time.NewTicker(time.Millisecond); ; {
		c.asked.Add(1)
		err := c.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) { is = p.State.SessionState })
		if err != nil || is == want {
			tick.Stop()
			return err
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("the session is %s, not %s: %w", is, want, ctx.Err())
		case <-tick.C:
		}
	}
}

// rise passes on what makes GoBGP take the session for established, and waits
// until it has sent what it was told. It selects routes for that; see globals.
func (c *core) rise(ctx context.Context, release func() error) error {
	globals.RLock()
	defer globals.RUnlock()
	if err := release(); err != nil {
		return err
	}
	return c.await(ctx, api.PeerState_ESTABLISHED)
}

// repeat passes on what makes GoBGP send all routes of a family again, and waits
// until it has. It looks for them in its tables; see globals.
func (c *core) repeat(ctx context.Context, release func() error) error {
	globals.RLock()
	defer globals.RUnlock()
	select {
	case <-c.heard: // of something before
	default:
	}
	if err := release(); err != nil {
		return err
	}
	limit := time.NewTimer(answerTimeout(len(c.told)))
	defer limit.Stop()
	select {
	case <-c.heard:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-limit.C:
		return errors.New("GoBGP does not answer a ROUTE-REFRESH")
	}
}

// tell makes changes, until they are of no use any more. One that fails does not
// stop the others. It returns the prefixes of which more is to be said than can be:
// of them the router knows what it did.
func (c *core) tell(ctx context.Context, changes []change, useless func() bool) ([]netip.Prefix, error) {
	var unsaid []netip.Prefix
	var errs []error
	for _, ch := range changes {
		if useless() {
			break
		}
		switch err := c.apply(ctx, ch); {
		case errors.Is(err, errLong):
			unsaid = append(unsaid, ch.prefix)
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", ch, err))
		}
	}
	return unsaid, errors.Join(errs...)
}

// of returns what was told of the prefixes of routes.
func (c *core) of(routes ...[]speaker.Route) table {
	part := table{}
	for _, r := range slices.Concat(routes...) {
		if s, ok := c.told[r.Prefix]; ok {
			part[r.Prefix] = s
		}
	}
	return part
}

func (c *core) apply(ctx context.Context, ch change) error {
	if ch.saying != c.saying || c.attributes == nil {
		c.saying, c.attributes = ch.saying, attributesFor(ch.saying)
	}
	if !ch.gone && size(c.attributes) > maxAttributes {
		return errLong // GoBGP would take it, and send nothing
	}
	path := pathOf(ch, c.attributes)
	// Each change on its own: a session that starts waits for one, not for all.
	globals.RLock()
	defer globals.RUnlock()
	c.asked.Add(1)
	if ch.gone {
		if err := c.server.DeletePath(ctx, &api.DeletePathRequest{Path: path}); err != nil {
			return err
		}
		delete(c.told, ch.prefix)
		return nil
	}
	if _, err := c.server.AddPath(ctx, &api.AddPathRequest{Path: path}); err != nil {
		return err
	}
	c.told[ch.prefix] = ch.saying
	return nil
}

// close ends all that newCore has started. What GoBGP says as it goes nobody
// hears: the router was told before, or is not to be told.
func (c *core) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is lost by it
	}
	ctx := context.Background()
	// StopBgp would do all of it, but it takes away what the goroutines of the
	// peer are reading.
	if c.peered {
		c.leave.Store(c.asked.Add(1))
		_ = c.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: c.peer.String()}) // it is there
		<-c.freed
	}
	c.last.Store(c.asked.Add(1))
	_ = c.server.StopBgp(ctx, &api.StopBgpRequest{}) // cannot fail without a peer
	<-c.served
}

// Observe implements [server.FSMTimingHook]: the loop of Serve calls it after
// each operation. The loop has no end, so it is made to end here. And as the
// first message of a peer after its deletion frees what there was of it, this
// is how to know.
func (c *core) Observe(op server.FSMOperation, _, _ time.Duration) {
	if op == server.FSMMgmtOp {
		if c.done++; c.done == c.last.Load() {
			runtime.Goexit()
		}
		return
	}
	if op != server.FSMMessage {
		return
	}
	select {
	case c.heard <- struct{}{}:
	default:
	}
	if leave := c.leave.Load(); leave > 0 && c.done == leave && !c.left {
		c.left = true
		close(c.freed)
	}
}
