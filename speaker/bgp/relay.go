package bgp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/speaker"
)

// An event is what a relay has seen, or heard. The one that sees it waits
// until it is dealt with.
type event struct {
	kind eventKind
	open open // of the router
}

type eventKind uint8

const (
	opening    eventKind = iota // our OPEN is on its way
	opened                      // the router has said who it is; GoBGP does not know yet
	confirming                  // the router has confirmed; GoBGP does not know yet
	asking                      // the router wants all routes again; GoBGP does not know yet
)

// A relay stands between a router and GoBGP, from the connection's first
// message to its last. It passes on whole messages, so that another can be put
// in between at any time. UPDATEs of the router are counted, and go no further.
type relay struct {
	want         speaker.Session
	restarted    bool // whether our OPEN says so
	router, core *net.TCPConn

	events  chan event
	proceed chan struct{} // answers each event
	offers  atomic.Int64
	asked   map[family]chan struct{} // bells: the router wants all routes again
	routes  atomic.Int64             // how many these are

	writing sync.Mutex  // held while a message goes to the router
	said    bool        // our last word to it; guarded by writing
	parting atomic.Bool // our last word is about to be said: no other waits for the router

	feeding sync.Mutex // held while a message goes to GoBGP
	fed     time.Time  // when the last one did; guarded by feeding
	// idle is since when all that GoBGP has said is with the router; nil while
	// there is more.
	idle atomic.Pointer[time.Time]

	met   chan struct{}   // closed once the router has introduced itself
	hold  atomic.Int64    // the hold time; that which is agreed on, from then on
	life  context.Context // until the connection is to end; its cause is why
	end   context.CancelCauseFunc
	pumps sync.WaitGroup

	// Of the goroutine that reads from the router, and what it tells the others.
	opened    bool
	up        bool
	confirmed bool        // of the other one: our first KEEPALIVE is on its way
	quiet     atomic.Bool // no keepalives are exchanged (hold time 0)
}

func newRelay(w speaker.Session, restarted bool, router, core *net.TCPConn) *relay {
	r := &relay{
		want: w, restarted: restarted, router: router, core: core,
		events: make(chan event), proceed: make(chan struct{}), asked: map[family]chan struct{}{}, met: make(chan struct{}),
	}
	r.hold.Store(int64(time.Duration(innerHold(w)) * time.Second))
	for _, f := range families(w) {
		r.asked[f] = make(chan struct{}, 1)
	}
	r.life, r.end = context.WithCancelCause(context.Background())
	return r
}

// start begins to pass on. Close has to be called.
func (r *relay) start() {
	r.pumps.Go(func() { r.end(r.fromRouter()) })
	r.pumps.Go(func() { r.end(r.fromCore()) })
	r.pumps.Go(r.nourish)
	r.pumps.Go(r.hurry)
	for f := range r.asked {
		r.pumps.Go(func() { r.answer(f) })
	}
}

// tell has an event dealt with.
func (r *relay) tell(e event) error {
	select {
	case r.events <- e:
	case <-r.life.Done():
		return context.Cause(r.life)
	}
	select {
	case <-r.proceed:
		return nil
	case <-r.life.Done():
		return context.Cause(r.life)
	}
}

func (r *relay) fromRouter() error {
	from := bufio.NewReader(r.router)
	for buf := make([]byte, maxMessage); ; {
		m, err := readMessage(from, buf)
		if err != nil {
			why := lost(err, r.opened)
			if n, bad := badHeader(err, buf); bad {
				r.say(n, why)
			}
			return why
		}
		if err := r.hear(m); err != nil {
			return err
		}
	}
}

// hear deals with a message of the router.
func (r *relay) hear(m message) error {
	switch kind := m.kind(); {
	case kind == typeNotification:
		return refusal(parseNotification(m), r.want, addrOf(r.router.LocalAddr()))
	case kind == typeOpen && !r.opened:
		return r.hearOpen(m)
	case kind == typeKeepalive && len(m) != headerLen:
		return r.refuse(badLength(m))
	case kind == typeKeepalive && r.opened && !r.up:
		if err := r.tell(event{kind: confirming}); err != nil {
			return err
		}
		r.up = true
		return r.feed(m)
	case kind == typeUpdate && r.up:
		announced, withdrawn := offered(m)
		r.offers.Store(max(0, r.offers.Load()+int64(announced)-int64(withdrawn)))
		return r.alive() // it is as good a sign of life
	case kind == typeKeepalive && r.up:
		return r.alive()
	case kind == typeRefresh && r.up:
		return r.hearRefresh(m)
	}
	n := notification{code: codeFSM}
	if m.kind() > typeRefresh || m.kind() == 0 {
		n = notification{code: codeHeader, subcode: headerBadType, data: []byte{m.kind()}}
	}
	return r.refuse(n, fmt.Errorf("the router sent a message of type %d out of turn", m.kind()))
}

// refuse tells the router what is wrong with what it has sent.
func (r *relay) refuse(n notification, why error) error {
	why = fmt.Errorf("%w: this node ended the session: %s", why, n)
	r.say(n, why)
	return why
}

func (r *relay) hearOpen(m message) error {
	if len(m.body()) < 10 {
		return r.refuse(badLength(m))
	}
	o, err := parseOpen(m)
	if err != nil {
		return r.refuse(notification{code: codeOpen}, err)
	}
	if n, err := stranger(o, r.want); err != nil {
		r.say(n, err)
		return err
	}
	r.opened = true
	close(r.met)
	hold := min(o.hold, uint16(r.want.HoldTime/time.Second)) // RFC 4271 §4.2; 0 for none
	if hold == 0 {
		r.quiet.Store(true)
		hold = innerHold(r.want) // GoBGP cannot do without
	}
	r.hold.Store(int64(time.Duration(hold) * time.Second))
	if err := r.tell(event{kind: opened, open: o}); err != nil {
		return err
	}
	return r.feed(o.message(hold))
}

// hurry ends the connection of a router that takes it and does not introduce
// itself. GoBGP would wait for four minutes.
func (r *relay) hurry() {
	t := time.NewTimer(r.patience())
	defer t.Stop()
	select {
	case <-r.life.Done():
	case <-r.met:
	case <-t.C:
		why := fmt.Errorf("the router took the connection, and has said nothing for %s: is it BGP that listens there?", r.patience())
		r.say(notification{code: codeHold}, why)
	}
}

// patience is for how long a router may be silent, or not read.
func (r *relay) patience() time.Duration { return time.Duration(r.hold.Load()) }

// alive tells GoBGP that the router is. Ten times a second will do: no hold time
// is shorter than three.
func (r *relay) alive() error {
	r.feeding.Lock()
	lately := time.Since(r.fed) < 100*time.Millisecond
	r.feeding.Unlock()
	if lately {
		return nil
	}
	return r.feed(newMessage(typeKeepalive))
}

// feed passes a message on to GoBGP.
func (r *relay) feed(m message) error {
	r.feeding.Lock()
	r.fed = time.Now()
	_, err := r.core.Write(m)
	r.feeding.Unlock()
	if err != nil {
		// Why it has closed it is about to say, to the other goroutine.
		<-r.life.Done()
		return context.Cause(r.life)
	}
	return nil
}

func (r *relay) fromCore() error {
	from, out := bufio.NewReaderSize(r.core, 4*maxMessage), packer{}
	for buf := make([]byte, maxMessage); ; {
		if from.Buffered() == 0 || out.full() { // else there is more that may be packed
			if err := r.pass(out.take()); err != nil {
				return r.untaken(err)
			}
			now := time.Now()
			r.idle.Store(&now)
		}
		m, err := readMessage(from, buf)
		if err != nil {
			return errors.New("GoBGP ended the session without a word")
		}
		r.idle.Store(nil)
		if err := r.speak(m, &out); err != nil {
			return err
		}
	}
}

// speak adds a message of GoBGP to those that go out.
func (r *relay) speak(m message, out *packer) error {
	switch m.kind() {
	case typeOpen:
		preserve(m, r.restarted)
		if r.want.HoldTime == 0 {
			setHold(m, 0)
		}
		if err := r.tell(event{kind: opening}); err != nil {
			return err
		}
	case typeNotification:
		n := parseNotification(m)
		why := ended(n, r.patience())
		r.say(n, why)
		return why
	case typeKeepalive:
		if r.confirmed && r.quiet.Load() {
			return nil
		}
		r.confirmed = true
	}
	out.add(m)
	return nil
}

// untaken says why the router does not take what it is told. If the connection
// is broken, the other goroutine is about to read why.
func (r *relay) untaken(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the router has not read for %s what it is told", r.patience())
	case !loop.Pause(r.life, farewell):
		return context.Cause(r.life)
	}
	return fmt.Errorf("the router does not take what it is told: %w", err)
}

// pass sends messages to the router, unless we have said our last.
func (r *relay) pass(messages []byte) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.said || len(messages) == 0 {
		return nil
	}
	if err := r.router.SetWriteDeadline(time.Now().Add(r.patience())); err != nil {
		return err
	}
	if r.parting.Load() {
		return nil // that deadline may have come after the shorter one of say
	}
	_, err := r.router.Write(messages)
	return err
}

// farewell is for how long a router may take to read our last word.
const farewell = 500 * time.Millisecond

// say sends our last word. It is why the connection ends, not what the router
// does when it hears it.
func (r *relay) say(n notification, why error) {
	// One that does not read is not waited for: whoever writes to it now stops soon,
	// or finds this before it begins.
	r.parting.Store(true)
	_ = r.router.SetWriteDeadline(time.Now().Add(farewell))
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.said {
		return
	}
	r.said = true
	r.end(why)
	_ = r.router.SetWriteDeadline(time.Now().Add(farewell))
	if _, err := r.router.Write(n.message()); err == nil {
		_ = r.router.CloseWrite()
	}
}

// close ends the connection, and returns why it had come to its end. A router
// that was told is given the time to read it: were there anything unread at our
// side, the kernel would reset the connection.
func (r *relay) close(why error) error {
	r.end(why)
	_ = r.router.SetReadDeadline(time.Now().Add(farewell))
	r.writing.Lock()
	said := r.said
	r.said = true
	r.writing.Unlock()
	if said {
		drain(r.router)
	}
	_ = r.router.Close()
	_ = r.core.Close()
	r.pumps.Wait()
	return context.Cause(r.life)
}

// drain reads until the other end closes, or the deadline.
func drain(c *net.TCPConn) {
	for buf := make([]byte, maxMessage); ; {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// nourish keeps GoBGP content where routers send no keepalives.
func (r *relay) nourish() {
	for t := time.NewTicker(10 * time.Second); ; {
		select {
		case <-r.life.Done():
			t.Stop()
			return
		case <-t.C:
			if r.quiet.Load() {
				_ = r.alive() // the pumps will find out
			}
		}
	}
}

// innerHold is the hold time between GoBGP and us, in seconds.
func innerHold(w speaker.Session) uint16 {
	if w.HoldTime == 0 {
		return 90
	}
	return uint16(w.HoldTime / time.Second)
}
