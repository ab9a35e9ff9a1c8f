package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A Placement is to which machine an address should be routed.
type Placement struct {
	To Target
	// Able are the IDs of all machines that could serve it.
	Able map[string]bool
	// Steady is whether To has been able to for a while: an address that is served where it
	// is goes to no other.
	Steady bool
}

// A Move is an address that should be routed to another machine.
type Move struct {
	Address FoundAddress
	To      Target
	Dark    bool // nobody serves it where it is
}

// PlanMoves returns what has to move: what nobody serves first, then by ID. An address
// that should be nowhere in particular stays where it is.
func PlanMoves(want map[netip.Addr]Placement, have []FoundAddress) (moves []Move) {
	for _, a := range have {
		p, ok := placed(want, a)
		if !ok || a.State == Deleting || a.Instance.ID == p.To.Instance.ID {
			continue
		}
		if dark := !p.Able[a.Instance.ID]; dark || p.Steady {
			moves = append(moves, Move{a, p.To, dark})
		}
	}
	slices.SortFunc(moves, func(a, b Move) int {
		return cmp.Or(cmp.Compare(rank(a.Dark), rank(b.Dark)), cmp.Compare(a.Address.ID, b.Address.ID))
	})
	return moves
}

func rank(dark bool) int {
	if dark {
		return 0
	}
	return 1
}

func placed(want map[netip.Addr]Placement, a FoundAddress) (p Placement, ok bool) {
	for _, addr := range a.Addrs {
		if p, ok = want[addr]; ok {
			return p, true
		}
	}
	return p, false
}

// A Mover has a cloud route the addresses of an Engine. Its methods are for one goroutine.
type Mover struct {
	Engine *Engine
	Driver AddressDriver
	// Services returns those that have an address, for Events.
	Services func(netip.Addr) []*corev1.Service

	going map[string]going // by ID of the address
	dark  map[string]time.Time
	later map[string]backoff
	asks  backoff // for all
}

// going is an address on its way.
type going struct {
	Move
	began time.Time
	look  time.Time // not before
	Pending
}

// A backoff is when to try again what has failed, and how long that was put off.
type backoff struct {
	at   time.Time
	wait time.Duration
}

// How a Mover works.
const (
	movesAtOnce = 8
	moveLooks   = 250 * time.Millisecond // at what is on its way
	moveTimeout = 15 * time.Second       // of one call
	movePlan    = 2 * time.Second        // for which a plan is good
	moveWaits   = 2 * time.Minute        // until a cloud is asked where an address is after all
	retryMove   = time.Second            // at first
	retryMoves  = 30 * time.Second       // at most
)

// Move has each address routed to the machine where it should be. It waits for no more
// than the answers of calls, and returns after how long it has to be called again though
// nothing has changed; all is where it should be once that is the interval at which the
// cloud is looked at for what somebody has moved by hand.
func (m *Mover) Move(ctx context.Context, want map[netip.Addr]Placement) (again time.Duration, err error) {
	every := m.Engine.Config.Drift.Interval.Duration
	if m.Engine.Config.DryRun {
		return every, nil
	}
	ctx = WithLane(ctx, Failover)
	if m.going == nil {
		m.going, m.dark, m.later = map[string]going{}, map[string]time.Time{}, map[string]backoff{}
	}
	err = m.look(ctx, every) // what was known is better than nothing
	m.arrive(ctx)
	now := time.Now()
	var start []Move
	moves := PlanMoves(want, m.Engine.book.movable())
	m.watch(moves, now)
	again = every
	for _, mv := range moves {
		switch id := mv.Address.ID; {
		case m.going[id].Address.ID != "":
		case now.Before(m.later[id].at):
			again = min(again, m.later[id].at.Sub(now))
		default:
			start = append(start, mv)
		}
	}
	begun, failed := m.start(ctx, start)
	if err = errors.Join(err, failed); begun < len(start) {
		again = moveLooks
	}
	if wait := m.asks.at.Sub(now); wait > 0 {
		again = min(again, wait)
	}
	for _, b := range m.later {
		again = min(again, max(b.at.Sub(now), moveLooks))
	}
	for _, g := range m.going {
		again = min(again, max(time.Until(g.look), moveLooks/2))
	}
	return again, err
}

// look asks the cloud where all addresses are, if it was not asked within a time. What
// fails is tried again later and later: whoever rings does not hurry it.
func (m *Mover) look(ctx context.Context, every time.Duration) error {
	if m.Engine.book.within(every) || time.Now().Before(m.asks.at) || m.Engine.book.asked() {
		return nil
	}
	ctx, cancel := context.WithTimeout(WithLane(ctx, Drifting), moveTimeout)
	defer cancel()
	_, err := m.Engine.book.list(ctx, m.Driver, m.Engine.Cluster, every)
	if err == nil {
		m.asks = backoff{}
		return nil
	}
	m.asks.wait = min(max(2*m.asks.wait, retryMove), retryMoves)
	m.asks.at = time.Now().Add(m.asks.wait)
	return err
}

// watch notes since when addresses are served by nobody.
func (m *Mover) watch(moves []Move, now time.Time) {
	still := map[string]bool{}
	for _, mv := range moves {
		if id := mv.Address.ID; mv.Dark {
			if still[id] = true; m.dark[id].IsZero() {
				m.dark[id] = now
			}
		}
	}
	gone := func(id string) bool { return !still[id] && m.going[id].Address.ID == "" }
	maps.DeleteFunc(m.dark, func(id string, _ time.Time) bool { return gone(id) })
	maps.DeleteFunc(m.later, func(id string, _ backoff) bool {
		return gone(id) && !slices.ContainsFunc(moves, func(mv Move) bool { return mv.Address.ID == id })
	})
}

// arrive looks, in as few calls as there can be, at what is on its way.
func (m *Mover) arrive(ctx context.Context) {
	var all []Pending
	due := time.Now().Add(moveLooks / 2) // together with those that are nearly due
	for _, id := range slices.Sorted(maps.Keys(m.going)) {
		if g := m.going[id]; !g.look.After(due) {
			all = append(all, g.Pending)
		}
	}
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	left, err := m.Engine.Driver.Poll(ctx, all)
	if err != nil {
		m.Engine.Log.Warn("looking at addresses on their way", "err", err)
	}
	var doubtful []going
	for id, g := range m.going {
		if g.look.After(due) {
			continue
		}
		late := time.Since(g.began) >= moveWaits
		if i := slices.IndexFunc(left, func(p Pending) bool { return p.ID == g.Pending.ID }); i >= 0 && !late {
			g.Pending, g.look = left[i], time.Now().Add(max(moveLooks, left[i].After))
			m.going[id] = g
			continue
		}
		delete(m.going, id)
		if err != nil || late { // which of them have failed is not said
			doubtful = append(doubtful, g)
			continue
		}
		m.arrived(g)
	}
	m.verify(ctx, doubtful)
}

// verify asks the cloud where addresses are routed of which it has not said it.
func (m *Mover) verify(ctx context.Context, doubtful []going) {
	if len(doubtful) == 0 {
		return
	}
	m.Engine.book.doubt()
	err := m.look(ctx, fresh)
	for _, g := range doubtful {
		if ref := m.Engine.book.called(g.Address.ID); ref != "" { // a list does not show it
			_, lost := m.Engine.book.look(ctx, m.Driver, ref, 0)
			err = errors.Join(err, lost)
		}
		there := func(a FoundAddress) bool {
			return a.ID == g.Address.ID && a.Instance.ID == g.To.Instance.ID
		}
		switch {
		case slices.ContainsFunc(m.Engine.book.known(), there):
			m.arrived(g)
		case err != nil:
			m.failed(g.Move, fmt.Errorf("asking whether %s is routed to node %s: %w", g.Address.Name, g.To.Node, err))
		default:
			m.failed(g.Move, &Error{Class: Retryable, Text: fmt.Sprintf("the cloud has not routed %s to node %s", g.Address.Name, g.To.Node)})
		}
	}
}

// start begins moves, some at once, and returns how many: those who have waited for long are
// planned for anew.
func (m *Mover) start(ctx context.Context, moves []Move) (begun int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	slots := make(chan struct{}, movesAtOnce)
	planned := time.Now()
	for _, mv := range moves {
		slots <- struct{}{}
		if time.Since(planned) > movePlan || ctx.Err() != nil {
			break
		}
		begun++
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			p, err := m.assign(ctx, mv)
			mu.Lock()
			defer mu.Unlock()
			switch id := mv.Address.ID; {
			case ctx.Err() != nil: // the process ends
			case err != nil:
				errs = append(errs, err)
				m.failed(mv, err)
			case p == (Pending{}):
				delete(m.later, id)
				m.arrived(going{Move: mv, began: began})
			default:
				delete(m.later, id)
				m.going[id] = going{mv, began, began.Add(max(moveLooks, p.After)), p}
			}
		})
	}
	wg.Wait()
	return begun, errors.Join(errs...)
}

func (m *Mover) assign(ctx context.Context, mv Move) (Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	if !mv.Dark {
		ctx = WithLane(ctx, Updating)
	}
	p, err := m.Driver.Assign(ctx, mv.Address, mv.To.Instance)
	if err != nil {
		err = fmt.Errorf("routing %s to node %s: %w", mv.Address.Name, mv.To.Node, err)
	}
	return p, err
}

// arrived notes where an address is routed from now on, and says so if that was elsewhere.
func (m *Mover) arrived(g going) {
	m.Engine.book.routed(g.Address.ID, g.To.Instance)
	since, dark := m.dark[g.Address.ID]
	delete(m.dark, g.Address.ID)
	from := g.Address.Instance
	if !dark {
		since = g.began
	}
	took := time.Since(since).Round(time.Millisecond)
	m.Engine.Log.Info("address routed", "address", g.Address.Name, "node", g.To.Node, "from", from.Name, "took", took)
	if from.ID == "" {
		return
	}
	m.Engine.Count.moved(took, dark)
	m.each(g.Address, func(svc *corev1.Service) {
		m.Engine.said.well(svc.UID)
		m.Engine.note(svc, ReasonMoved, fmt.Sprintf("%s is routed to node %s, and no more to %s: %s", addrOf(g.Address), g.To.Node, cmp.Or(from.Name, from.ID), took))
	})
}

// failed notes when to try again, and says why it has to be.
func (m *Mover) failed(mv Move, err error) {
	b := m.later[mv.Address.ID]
	b.wait = min(max(2*b.wait, retryMove), retryMoves)
	var why *Error
	if errors.As(err, &why) && why.After > 0 {
		b.wait = min(why.After, retryMoves)
	}
	b.at = time.Now().Add(b.wait)
	m.later[mv.Address.ID] = b
	if Is(err, NotFound) {
		m.Engine.book.doubt()
	}
	if Is(err, Locked) && b.wait < retryMoves {
		return // somebody else is at it, or we were a moment ago
	}
	m.each(mv.Address, func(svc *corev1.Service) {
		m.Engine.warn(svc, cmp.Or(reasonOf(err), ReasonNotMoved), err.Error())
	})
}

func reasonOf(err error) string {
	var why *Error
	if errors.As(err, &why) {
		return why.Reason
	}
	return ""
}

func (m *Mover) each(a FoundAddress, do func(*corev1.Service)) {
	if m.Services == nil {
		return
	}
	for _, addr := range a.Addrs {
		for _, svc := range m.Services(addr) {
			do(svc)
		}
	}
}

// addrOf is the address that clients use.
func addrOf(a FoundAddress) netip.Addr {
	if len(a.Addrs) == 0 {
		return netip.Addr{}
	}
	return a.Addrs[0]
}

// Routed returns to which machine each address is routed, as far as is known.
func (m *Mover) Routed() map[netip.Addr]Instance {
	all := map[netip.Addr]Instance{}
	for _, a := range m.Engine.book.movable() {
		for _, addr := range a.Addrs {
			all[addr] = a.Instance
		}
	}
	return all
}
