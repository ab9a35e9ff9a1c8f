package ipam

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// A share is an address that somebody has under a key.
//
// Those who give it up in this Plan count beside those who stay: their status
// still says that it is theirs, and a newcomer must get on with all of them.
type share struct {
	addr    netip.Addr
	key     string
	in      *circle
	at      int    // its place in the circle
	guests  []*bid // who stays and who gives it up
	staying int    // nobody joins an address that all give up
	open    int    // how many guests let every namespace in
	closed  bool   // one who does not share it, or not under this key, gives it up
}

// A circle is all addresses of one family under one key: first those that are
// held, the lowest first, then those that this Plan hands out, in that order.
//
// It answers who may join what without looking at every guest: a hundred
// guests or ten thousand, an address or a thousand of them cost the same.
type circle struct {
	shares []*share
	ports  map[Port]set   // the shares where the port is taken
	of     map[string]set // the shares that have a guest of the namespace

	guests map[seat]int // how many there are of a namespace
	open   map[seat]int // how many of these let every namespace in
	admits map[seat]int // how many of other namespaces name this one, and do not let every one in
}

// A seat is what the guests of one namespace have at one share.
type seat struct {
	at        int
	namespace string
}

type circleKey struct {
	key    string
	family Family
}

func newCircle() *circle {
	return &circle{
		ports: map[Port]set{}, of: map[string]set{},
		guests: map[seat]int{}, open: map[seat]int{}, admits: map[seat]int{},
	}
}

// host notes that b, who has a key, stays at addr or gives it up.
func (l *ledger) host(b *bid, addr netip.Addr, stays bool) {
	sh := l.shares[addr]
	if sh == nil {
		at := circleKey{b.Share, FamilyOf(addr)}
		c := l.circles[at]
		if c == nil {
			c = newCircle()
			l.circles[at] = c
		}
		sh = &share{addr: addr, key: b.Share, in: c, at: len(c.shares)}
		c.shares = append(c.shares, sh)
		l.shares[addr] = sh
	}
	sh.add(b)
	if stays {
		sh.staying++
	}
}

// sortCircles brings the shares of every circle into the order of their
// addresses.
func (l *ledger) sortCircles() {
	for _, c := range l.circles {
		old := c.shares
		*c = *newCircle()
		c.shares = slices.SortedFunc(slices.Values(old), func(a, b *share) int { return a.addr.Compare(b.addr) })
		for at, sh := range c.shares {
			guests := sh.guests
			sh.at, sh.guests, sh.open = at, nil, 0
			for _, b := range guests {
				sh.add(b)
			}
		}
	}
}

func (sh *share) add(b *bid) {
	c := sh.in
	sh.guests = append(sh.guests, b)
	for _, p := range b.Ports {
		c.ports[p] = c.ports[p].with(sh.at)
	}
	c.of[b.Namespace] = c.of[b.Namespace].with(sh.at)
	here := seat{sh.at, b.Namespace}
	c.guests[here]++
	if slices.Contains(b.ShareWith, "*") {
		c.open[here]++
		sh.open++
		return
	}
	for i, ns := range b.ShareWith {
		if ns != b.Namespace && !slices.Contains(b.ShareWith[:i], ns) {
			c.admits[seat{sh.at, ns}]++
		}
	}
}

// lets reports whether b may join.
func (sh *share) lets(b *bid) bool {
	if b.Share == "" || b.Share != sh.key || sh.staying == 0 || sh.closed {
		return false
	}
	for _, p := range b.Ports {
		if sh.in.ports[p].has(sh.at) {
			return false
		}
	}
	return sh.admitsNamespaceOf(b) && sh.isAdmittedBy(b)
}

func (sh *share) admitsNamespaceOf(b *bid) bool {
	here := seat{sh.at, b.Namespace}
	strangers := len(sh.guests) - sh.in.guests[here]
	return sh.open-sh.in.open[here]+sh.in.admits[here] == strangers
}

func (sh *share) isAdmittedBy(b *bid) bool {
	if slices.Contains(b.ShareWith, "*") {
		return true
	}
	known := sh.in.guests[seat{sh.at, b.Namespace}]
	for i, ns := range b.ShareWith {
		if ns != b.Namespace && !slices.Contains(b.ShareWith[:i], ns) {
			known += sh.in.guests[seat{sh.at, ns}]
		}
	}
	return known == len(sh.guests)
}

// first returns the first share that lets b in and of which ok approves, or
// nil.
func (c *circle) first(b *bid, ok func(*share) bool) *share {
	taken := make([]set, 0, 8)
	for _, p := range b.Ports {
		taken = append(taken, c.ports[p])
	}
	friends := append(make([]set, 0, 8), c.of[b.Namespace])
	for _, ns := range b.ShareWith {
		friends = append(friends, c.of[ns])
	}
	all := slices.Contains(b.ShareWith, "*")
	for w := range (len(c.shares) + 63) / 64 {
		word := ^uint64(0)
		if !all {
			word = union(friends, w)
		}
		for word &^= union(taken, w); word != 0; word &= word - 1 {
			at := w*64 + bits.TrailingZeros64(word)
			if at < len(c.shares) && c.shares[at].lets(b) && ok(c.shares[at]) {
				return c.shares[at]
			}
		}
	}
	return nil
}

// A set is a set of places in a circle, a bit for each.
type set []uint64

func (s set) with(n int) set {
	for len(s) <= n/64 {
		s = append(s, 0)
	}
	s[n/64] |= 1 << (n % 64)
	return s
}

func (s set) has(n int) bool { return n/64 < len(s) && s[n/64]&(1<<(n%64)) != 0 }

// union returns the bits of word w of all sets.
func union(sets []set, w int) (word uint64) {
	for _, s := range sets {
		if w < len(s) {
			word |= s[w]
		}
	}
	return word
}

// quarrel returns why newcomer cannot be on the address of guest, and what to
// do about it; "" if it can.
func quarrel(guest, newcomer *Request) string {
	switch port := commonPort(guest.Ports, newcomer.Ports); {
	case guest.Share == "":
		return fmt.Sprintf("%s has no herald-lb.io/share key: give it the same key", guest.Owner)
	case guest.Share != newcomer.Share:
		return fmt.Sprintf("its herald-lb.io/share key is %q, not %q: give both the same key", guest.Share, newcomer.Share)
	case port != nil:
		return fmt.Sprintf("both use port %s: change it in one of them", port)
	case guest.Namespace == newcomer.Namespace:
		return ""
	case !welcomes(guest, newcomer.Namespace):
		return fmt.Sprintf("herald-lb.io/share-with of %s does not list namespace %q: add it there", guest.Owner, newcomer.Namespace)
	case !welcomes(newcomer, guest.Namespace):
		return fmt.Sprintf("herald-lb.io/share-with of %s does not list namespace %q: add it there", newcomer.Owner, guest.Namespace)
	}
	return ""
}

func welcomes(r *Request, namespace string) bool {
	return slices.ContainsFunc(r.ShareWith, func(ns string) bool { return ns == "*" || ns == namespace })
}

func commonPort(a, b []Port) *Port {
	for i, p := range a {
		if slices.Contains(b, p) {
			return &a[i]
		}
	}
	return nil
}

// String returns p as people write it: "443/tcp".
func (p Port) String() string {
	name, ok := map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}[p.Proto]
	if !ok {
		name = fmt.Sprintf("protocol %d", p.Proto)
	}
	return fmt.Sprintf("%d/%s", p.Number, name)
}
