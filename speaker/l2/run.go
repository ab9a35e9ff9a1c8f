package l2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/speaker"
)

// reopen is how long a link rests whose socket has failed though the link
// itself is well.
const reopen = 100 * time.Millisecond

// run is what the goroutine of Run owns.
type run struct {
	*Announcer
	group *errgroup.Group
	ports map[string]*port   // by name of the link
	rest  map[string]setback // links not to be opened yet
	open  map[speaker.Claim]*dispute
	// waiting are the claims that others have; changed is whether that is to be
	// published.
	waiting map[speaker.Claim]Wait
	changed bool
	// moved is whether anything has changed that others may want to know.
	moved bool
	// sampleAt is when an address is to be asked for; doubted when all were.
	sampleAt, doubted time.Time
	peers             map[MAC]peer // at the last pass
	// left is when what was answered for was withdrawn, a short time ago: if it
	// comes back, be it that its Service was made anew, nobody has got it meanwhile.
	left map[speaker.Claim]time.Time
	// settleAt is when a dispute may be over; zero if there is none.
	settleAt  time.Time
	complaint string // logged last
}

// A setback is why a link may not be opened again before a certain time.
type setback struct {
	until time.Time
	err   error
}

// Run answers, greets and defends what Sync has set, until ctx ends. Then it
// falls silent without a word: whoever takes over greets for himself. It can
// be run once.
func (a *Announcer) Run(ctx context.Context) error {
	if a.begun.Swap(true) {
		return fmt.Errorf("running the %s announcer twice", a.proto.Name)
	}
	defer close(a.stopped)
	group, ctx := errgroup.WithContext(ctx)
	r := &run{
		Announcer: a,
		group:     group,
		ports:     map[string]*port{},
		rest:      map[string]setback{},
		open:      map[speaker.Claim]*dispute{},
		waiting:   map[speaker.Claim]Wait{},
		left:      map[speaker.Claim]time.Time{},
	}
	group.Go(func() error { return a.network.Watch(ctx, a.ring) })
	group.Go(func() error { return r.loop(ctx) })
	return group.Wait()
}

// loop does one thing at a time until ctx ends.
func (r *run) loop(ctx context.Context) error {
	defer r.closeAll()
	r.wake(time.Now())
	close(r.started) // from here on Sync waits for us; what it set before is read below
	r.complain(r.pass())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(r.sleep(time.Now()))
		var done chan<- error
		var err error
		select {
		case <-ctx.Done():
			return nil
		case done = <-r.orders:
			r.wake(time.Now())
			err = r.pass()
		case <-r.bell:
			r.wake(time.Now())
			r.complain(r.pass())
		case s := <-r.heard:
			r.wake(time.Now())
			r.sight(s, time.Now())
		case <-timer.C:
			r.wake(time.Now())
		}
		r.tick(time.Now())
		if done != nil {
			done <- err
		}
	}
}

// pulse is how often Run shows that it is awake.
const pulse = absent / 6

// wake shows that Run is awake, and finds out whether it was absent.
func (r *run) wake(now time.Time) {
	since := now.Sub(r.base)
	if last := time.Duration(r.pulse.Load()); since-last >= r.absent && len(r.ports) > 0 {
		r.log.Info("this process was not there for a while: what it announces is asked for first", "by", r.proto.Name, "for", (since - last).Round(time.Millisecond))
		r.startOver()
	}
	r.pulse.Store(int64(since))
}

// beat shows that Run is awake in the midst of something that takes long, as
// thousands of addresses do. Where it was absent meanwhile, wake has to find that.
func (r *run) beat() {
	since := time.Since(r.base)
	if since-time.Duration(r.pulse.Load()) < r.absent {
		r.pulse.Store(int64(since))
	}
}

// startOver asks first for everything that was answered for: others may have taken
// over meanwhile. It does so by new sockets, for what the old ones hold is from
// then as well: greetings of who took over, which must not be taken for news.
func (r *run) startOver() {
	r.closeAll()
	r.complain(r.pass())
}

// complain logs what went wrong in a pass that nobody asked for, once.
func (r *run) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != r.complaint && err != nil {
		r.log.Warn("announcing after a change of links", "by", r.proto.Name, "err", err)
	}
	r.complaint = text
}

// pass brings the sockets in line with the links that there are and with
// what is claimed, and greets what is new.
func (r *run) pass() error {
	if len(r.live.Load().links) == 0 && len(r.ports) == 0 && len(r.rest) == 0 {
		r.settle(time.Now())
		return nil // links are nobody's concern
	}
	links, err := r.network.Links()
	if err != nil {
		return fmt.Errorf("announcing by %s: %w", r.proto.Name, err)
	}
	byName := make(map[string]Link, len(links))
	own := make(map[MAC]bool, len(links))
	for _, l := range links {
		byName[l.Name] = l
		own[l.MAC] = true
	}
	r.own.Store(&own)

	live, now := r.live.Load(), time.Now()
	r.closeStale(live, byName, now)
	r.settle(now)
	r.meet(live, now)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(live.links)) {
		addrs := live.links[name]
		p, err := r.port(name, byName, r.proto.Filter(addrs))
		if err != nil {
			errs = append(errs, fmt.Errorf("announcing %s on %s: %w", list(addrs), name, err))
			continue
		}
		errs = append(errs, p.claim(addrs, live, r.left, r.beat, now))
	}
	r.forget()
	maps.DeleteFunc(r.left, func(_ speaker.Claim, at time.Time) bool { return now.Sub(at) >= absent })
	r.moved = true // what is withdrawn, perhaps
	return errors.Join(errs...)
}

// meet takes note of the other speakers. One that is back from the dead may have
// been there all the time, and have answered for what we do; so may one that did not
// hear us, and does now.
func (r *run) meet(live *claims, now time.Time) {
	lost := false
	for mac, other := range live.peers {
		if was, known := r.peers[mac]; known && other.alive && (!was.alive || was.deaf && !other.deaf) {
			r.greetAll(now)
		}
		lost = lost || !other.alive
	}
	r.lookAgain(live, now)
	r.peers = live.peers
	if lost && r.sampleAt.IsZero() {
		r.sampleAt = now.Add(sampleGap)
	}
}

// lookAgain has what others have be asked for now, and not after its pause, where it
// is known by now that they are not what they were: one that was well may be gone,
// one that was taken for dead be well, a stranger turn out to be a speaker.
func (r *run) lookAgain(live *claims, now time.Time) {
	if len(r.waiting) == 0 {
		return
	}
	changed := map[string]bool{}
	for _, peers := range []map[MAC]peer{r.peers, live.peers} {
		for mac := range peers {
			if r.peers[mac] != live.peers[mac] {
				changed[mac.String()] = true
			}
		}
	}
	for claim, w := range r.waiting {
		p := r.ports[claim.Link]
		if !changed[w.MAC] || p == nil {
			continue
		}
		if t := p.tenures[claim.Addr]; t != nil && t.stage == waiting && t.elected {
			t.pause, t.due = 0, now
			p.next = earlier(p.next, now)
		}
	}
}

// forget drops what is waited for no more.
func (r *run) forget() {
	live := r.live.Load()
	for claim := range r.waiting {
		if p := r.ports[claim.Link]; p == nil || !live.set[claim].elected || p.tenures[claim.Addr] == nil {
			delete(r.waiting, claim)
			r.changed = true
		}
	}
}

// closeStale closes the ports that have no claim any more, whose link is not
// what it was, or whose reader has ended.
func (r *run) closeStale(live *claims, links map[string]Link, now time.Time) {
	for name, p := range r.ports {
		lost := p.lost.Load()
		same := p.link == links[name]
		if same && lost == nil && len(live.links[name]) > 0 {
			continue
		}
		if same && lost == nil { // all is withdrawn
			for addr, t := range p.tenures {
				if t.stage == owning {
					r.left[speaker.Claim{Addr: addr, Link: name}] = now
				}
			}
		}
		r.close(name)
		if same && lost != nil {
			r.rest[name] = setback{now.Add(reopen), *lost}
		}
	}
	for name, s := range r.rest {
		if !now.Before(s.until) {
			delete(r.rest, name)
		}
	}
}

// port returns the port of a link, opening it if need be.
func (r *run) port(name string, links map[string]Link, passes []bpf.Instruction) (*port, error) {
	if p := r.ports[name]; p != nil {
		return p, nil
	}
	l, ok := links[name]
	switch s, resting := r.rest[name]; {
	case !ok:
		return nil, errors.New("no such link")
	case l.Fault != "":
		return nil, errors.New(l.Fault)
	case resting:
		return nil, s.err
	}
	c, err := r.network.Listen(l, passes)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	p := &port{
		proto: r.proto, link: l, conn: c, count: &r.count, closed: make(chan struct{}),
		passes: passes, tenures: map[netip.Addr]*tenure{},
	}
	r.ports[name] = p
	r.group.Go(func() error {
		r.read(p)
		return nil
	})
	return p, nil
}

func (r *run) close(name string) {
	p := r.ports[name]
	for _, t := range p.tenures {
		t.seat.answers.Store(false)
	}
	r.moved = true
	close(p.closed)
	_ = p.conn.Close() // nothing is buffered that could be lost
	delete(r.ports, name)
}

func (r *run) closeAll() {
	for name := range r.ports {
		r.close(name)
	}
}

// tick does what is due.
func (r *run) tick(now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(r.ports)) {
		r.due(r.ports[name], now)
	}
	if !r.sampleAt.IsZero() && !now.Before(r.sampleAt) {
		r.sample(now)
	}
	if !r.settleAt.IsZero() && !now.Before(r.settleAt) {
		r.settle(now)
	}
	for _, s := range r.rest {
		if !now.Before(s.until) {
			r.ring()
		}
	}
	if r.changed {
		r.changed = false
		r.publishWaits()
		r.moved = true
	}
	if r.moved {
		r.moved = false
		r.Announcer.changed()
	}
}

// due does for each claim on a port what is due for it, in order of addresses.
func (r *run) due(p *port, now time.Time) {
	if p.next.IsZero() || now.Before(p.next) {
		return
	}
	var due []netip.Addr
	for addr, t := range p.tenures {
		if !t.due.IsZero() && !now.Before(t.due) {
			due = append(due, addr)
		}
	}
	slices.SortFunc(due, netip.Addr.Compare)
	for _, addr := range due {
		r.step(p, addr, p.tenures[addr], time.Now()) // sending takes time
		r.beat()
	}
	p.next = time.Time{}
	for _, t := range p.tenures {
		p.next = earlier(p.next, t.due)
	}
}

// sleep returns how long nothing is due. It is asked after every event, so it
// does not go through the claims.
func (r *run) sleep(now time.Time) time.Duration {
	next := earlier(now.Add(time.Hour), r.settleAt)
	if len(r.ports) > 0 {
		next = now.Add(pulse)
	}
	next = earlier(next, r.sampleAt)
	for _, p := range r.ports {
		next = earlier(next, p.next)
	}
	for _, s := range r.rest {
		next = earlier(next, s.until)
	}
	return next.Sub(now)
}

// list names addresses for a message: all of a few, some of many.
func list(addrs []netip.Addr) string {
	const few = 4
	var names []string
	for _, a := range addrs[:min(few, len(addrs))] {
		names = append(names, a.String())
	}
	if more := len(addrs) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
}
