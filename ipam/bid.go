package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// A bid is a Request while it is being answered.
type bid struct {
	*Request
	slots    []slot       // one for each family wanted
	past     []netip.Addr // Prefer and what rests for this owner, in the order to try
	stray    []Refusal    // of addresses asked for whose family is not wanted
	lost     []netip.Addr // held, but kept by an older owner
	audience *audience
}

// A slot is the place for one address of a bid.
type slot struct {
	family Family
	want   netip.Addr // asked for by name; the zero Addr if none is
	addr   netip.Addr // what the owner has
	next   netip.Addr // what it may have in this turn
	open   bool       // it wants one, or another one than it has
	adrift bool       // it has one that no pool covers, and may move though it did not ask
	why    *Refusal   // why the last turn did not close it
}

// newBids returns the bids for reqs, the oldest owner first. Rests are what
// rests for each owner.
func newBids(reqs []Request, rests map[string][]netip.Addr) []*bid {
	bids := make([]bid, len(reqs))
	slots := make([]slot, 0, 2*len(reqs))
	out := make([]*bid, len(reqs))
	for i := range reqs {
		start := len(slots)
		slots = appendSlots(slots, &reqs[i])
		bids[i] = bid{Request: &reqs[i], slots: slots[start:len(slots):len(slots)], past: reqs[i].Prefer}
		if mine := rests[reqs[i].Owner]; len(mine) > 0 {
			bids[i].past = slices.Concat(reqs[i].Prefer, mine)
		}
		bids[i].stray = strays(&bids[i])
		out[i] = &bids[i]
	}
	slices.SortFunc(out, func(a, b *bid) int {
		return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(a.Owner, b.Owner))
	})
	return out
}

func appendSlots(slots []slot, r *Request) []slot {
	start := len(slots)
	for _, f := range r.Families {
		known := slices.ContainsFunc(slots[start:], func(s slot) bool { return s.family == f })
		if known || f != IPv4 && f != IPv6 {
			continue
		}
		s := slot{family: f, open: true}
		if i := slices.IndexFunc(r.Want, func(a netip.Addr) bool { return FamilyOf(a) == f }); i >= 0 {
			s.want = r.Want[i]
		}
		slots = append(slots, s)
	}
	return slots
}

// usesClaim reports whether b takes its addresses from a claim.
func (b *bid) usesClaim() bool { return b.Kind == Service && b.Claim != "" }

// has reports whether addr is one of b's.
func (b *bid) has(addr netip.Addr) bool {
	return slices.ContainsFunc(b.slots, func(s slot) bool { return s.addr == addr })
}

// abstain closes what b may not fill: who asked for addresses by name, though
// for none of a wanted family, gets no other ones instead.
func (b *bid) abstain() {
	if len(b.stray) == 0 || slices.ContainsFunc(b.slots, func(s slot) bool { return s.want.IsValid() }) {
		return
	}
	for i := range b.slots {
		b.slots[i].open = false
	}
}
