package bgp

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// A keeping is one connection of a session, from the first message to the last.
type keeping struct {
	*session
	core  *core
	relay *relay
	local netip.Addr

	theirs open            // valid once hops is not nil
	hops   nextHops        // nil until the router has said who it is
	said   []speaker.Route // what it was told, but for what it does not take; nil if that is not known
	unsaid []netip.Prefix  // of which there is more to be said than can be; then said is not known
	came   bool            // whether the session came up
}

// keep serves the connection until it ends, and returns why.
func (k *keeping) keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.relay.life.Done():
			return context.Cause(k.relay.life)
		case <-k.down:
			return errBFD
		case <-k.again:
		case e := <-k.relay.events:
			if err := k.see(ctx, e); err != nil {
				return err
			}
		case o := <-k.orders:
			if k.take(o) {
				o.answer(nil) // for all else that is wanted is
				return errChanged
			}
			o.answer(k.tell(ctx, o.step))
		}
	}
}

// see deals with what the relay has seen, and lets it go on.
func (k *keeping) see(ctx context.Context, e event) error {
	switch e.kind {
	case opening:
		if k.hops == nil { // a router may be faster than our own GoBGP
			k.become("opensent")
		}
	case opened:
		if err := k.meet(ctx, e.open); err != nil {
			return err
		}
	case confirming:
		return k.rise()
	case asking:
		return k.core.repeat(k.relay.life, k.release)
	}
	return k.release()
}

func (k *keeping) release() error {
	select {
	case k.relay.proceed <- struct{}{}:
		return nil
	case <-k.relay.life.Done():
		return context.Cause(k.relay.life)
	}
}

// meet prepares what the router is to be told, before GoBGP knows that it is
// there: all of it goes out at once then, and before the End-of-RIB marker.
func (k *keeping) meet(ctx context.Context, o open) error {
	addrs, err := onLinkOf(k.local)
	if err != nil {
		return err
	}
	k.theirs, k.hops = o, chooseHops(k.local, addrs, o)
	k.edit(func(st *speaker.SessionState) { st.PeerASN, st.RouterID = o.asn, o.id })
	k.become("openconfirm")
	return k.tell(ctx, step{})
}

// rise tells the router all that it is to know.
func (k *keeping) rise() error {
	k.listen() // from now on it may know what an order takes back
	if err := k.core.rise(k.relay.life, k.release); err != nil {
		return cmp.Or(context.Cause(k.relay.life), err)
	}
	k.came, k.restarted, k.rose = true, false, time.Now()
	lacks := k.lacks()
	k.edit(func(st *speaker.SessionState) {
		st.V4, st.V6, st.Local = k.tells(ipv4), k.tells(ipv6), k.local
		st.State, st.Since, st.Up, st.Err = "established", k.rose, true, lacks
	})
	if lacks == "" {
		k.log.Info("a BGP session is up", "router", k.show().Addr, "asn", k.theirs.asn, "routes", len(k.core.told))
	}
	return nil
}

// tells is whether the router is told routes of a family.
func (k *keeping) tells(f family) bool {
	return slices.Contains(families(k.want), f) && k.theirs.families[f] && k.hops[f].IsValid()
}

// tell tells the router what has changed, as far as it takes it. Last is the step
// that has led to what is wanted, most likely from what it was told.
func (k *keeping) tell(ctx context.Context, last step) error {
	if k.hops == nil {
		return nil // all of it will be told when it is known to whom
	}
	want := nextHops{}
	for _, f := range families(k.want) {
		if k.theirs.families[f] {
			want[f] = k.hops[f]
		}
	}
	have, now := k.core.told, k.want.Routes
	if k.said != nil {
		if !last.leads(k.said, k.want.Routes) {
			last = newStep(k.said, k.want.Routes)
		}
		have, now = k.core.of(last.was, last.now), last.now
	}
	changes := diff(have, tableOf(now, want, k.theirs.asn == k.want.LocalASN))
	unsaid, err := k.core.tell(ctx, changes, func() bool { return k.ending(ctx) })
	if k.said = k.want.Routes; err != nil || len(unsaid) > 0 {
		k.said = nil // and all is looked at again
	}
	k.relay.routes.Store(int64(len(k.core.told)))
	news := k.came && !slices.Equal(unsaid, k.unsaid)
	k.unsaid = unsaid
	lacks := ""
	if news {
		lacks = k.lacks()
	}
	k.edit(func(st *speaker.SessionState) {
		st.Sent = len(k.core.told)
		if news {
			st.Err = lacks
		}
	})
	return err
}

// lacks says, and logs, what of the wanted routes a router that is there is not told;
// "" for none.
func (k *keeping) lacks() string {
	err := errors.Join(missing(families(k.want), k.hops, k.theirs), tooLong(k.unsaid))
	if err == nil {
		return ""
	}
	k.log.Warn("a BGP session is up, in part", "router", k.show().Addr, "err", err)
	return err.Error()
}

// ending is whether there is no use in telling more: the connection is about to
// end, by what keep will find next.
func (k *keeping) ending(ctx context.Context) bool {
	return ctx.Err() != nil || k.relay.life.Err() != nil || len(k.down) > 0
}

// become notes a state on the way up.
func (s *session) become(state string) {
	s.edit(func(st *speaker.SessionState) {
		if st.State != state {
			st.State, st.Since = state, time.Now()
		}
	})
}

// edit changes what States returns.
func (s *session) edit(change func(*speaker.SessionState)) {
	s.mu.Lock()
	before := s.state
	change(&s.state)
	changed := before != s.state
	s.mu.Unlock()
	if changed {
		s.changed()
	}
}

// attach notes whose offers count; nil for none.
func (s *session) attach(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay = r
}

// show returns how the session is.
func (s *session) show() speaker.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	if s.relay != nil {
		st.Offered = int(s.relay.offers.Load())
	}
	return st
}

// report notes that a connection has ended, or none came about, and logs what
// is new of it.
func (s *session) report(ctx context.Context, came bool, err error) {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	before := s.show()
	s.edit(func(st *speaker.SessionState) {
		st.State, st.Since, st.Up, st.Err, st.Sent = "idle", time.Now(), false, err.Error(), 0
		if came {
			st.Flaps++
		}
	})
	_, ours := lastWords(err)
	switch {
	case came && ours && !errors.Is(err, errBFD):
		s.log.Info("a BGP session is ended", "router", before.Addr, "because", err)
	case came:
		s.log.Warn("a BGP session is down", "router", before.Addr, "err", err)
	case !ours && before.Err != err.Error():
		s.log.Warn("a BGP session does not come up", "router", before.Addr, "err", err)
	}
}
