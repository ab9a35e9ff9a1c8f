package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/herald-lb/herald/speaker/steer"
)

// A listing is all that stands in the table: what the kernel last listed and
// what it has acknowledged since.
type listing struct {
	rows    map[steer.Virtual]elements
	addrs   map[netip.Addr]bool
	pods    map[netip.Prefix]bool
	helpers map[string]int // chains of helpers, and how many servers go there
}

func newListing() *listing {
	return &listing{
		rows:    map[steer.Virtual]elements{},
		addrs:   map[netip.Addr]bool{},
		pods:    map[netip.Prefix]bool{},
		helpers: map[string]int{},
	}
}

// table returns what l says. A server that somebody has tampered with has no
// scheduler there, so that the next pass sets it.
func (l *listing) table() steer.Table {
	t := steer.NewTable()
	t.Servers, t.Dests = make(map[steer.Virtual]steer.Server, len(l.rows)), make(map[steer.Dest]int, 2*len(l.rows))
	maps.Copy(t.Addrs, l.addrs)
	maps.Copy(t.Pods, l.pods)
	for v, e := range l.rows {
		r := e.row()
		if r.exists && !e.sound(v) {
			r.server.Scheduler = ""
		}
		if r.exists {
			t.Servers[v] = r.server
		}
		for real, weight := range r.dests {
			t.Dests[steer.Dest{Virtual: v, Real: real}] = weight
		}
	}
	return t
}

// A plan is what some changes come to, all in one transaction.
type plan struct {
	good    []steer.Change // those that can be made
	edits   []edit         // by virtual server
	addrs   map[netip.Addr]bool
	pods    map[netip.Prefix]bool
	touched map[steer.Virtual]row
	make    []string // chains to make first
}

// empty is whether the kernel has nothing to do.
func (p *plan) empty() bool {
	return len(p.edits)+len(p.addrs)+len(p.pods)+len(p.make) == 0
}

// plan works out what changes do to l, one after the other, and which of them
// cannot be made. It leaves l as it is.
func (l *listing) plan(changes []steer.Change) (*plan, []error) {
	p := &plan{
		good:    make([]steer.Change, 0, len(changes)),
		addrs:   map[netip.Addr]bool{},
		pods:    map[netip.Prefix]bool{},
		touched: map[steer.Virtual]row{},
	}
	var errs []error
	for _, c := range changes {
		if err := p.change(l, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c, err))
			continue
		}
		p.good = append(p.good, c)
	}
	for _, v := range slices.SortedFunc(maps.Keys(p.touched), compareVirtuals) {
		old := l.rows[v]
		if e := (edit{v, old, elementsFor(v, p.touched[v], old.reals())}); !e.old.equal(e.new) {
			p.edits = append(p.edits, e)
		}
	}
	unchanged(p.addrs, l.addrs)
	unchanged(p.pods, l.pods)
	p.planHelpers(l)
	return p, errs
}

// unchanged takes out of planned what is so already.
func unchanged[K comparable](planned, have map[K]bool) {
	maps.DeleteFunc(planned, func(k K, in bool) bool { return have[k] == in })
}

// change makes one change in p.
func (p *plan) change(l *listing, c steer.Change) error {
	if err := check(c); err != nil {
		return err
	}
	switch c.Kind() {
	case steer.KindAddr:
		return toggle(l.addrs, p.addrs, c.Verb, c.Addr)
	case steer.KindPods:
		if err := overlap(l.pods, p.pods, c); err != nil {
			return err
		}
		return toggle(l.pods, p.pods, c.Verb, c.Pods)
	case steer.KindDest:
		return p.changeDest(l, c)
	}
	return p.changeServer(l, c)
}

func (p *plan) changeServer(l *listing, c steer.Change) error {
	r := p.row(l, c.Virtual)
	if err := allowed(c.Verb, r.exists); err != nil {
		return err
	}
	r.server, r.exists = c.Server, true
	if c.Verb == steer.Del {
		r = row{} // with its destinations, as IPVS does
	}
	p.touched[c.Virtual] = r
	return nil
}

func (p *plan) changeDest(l *listing, c steer.Change) error {
	r := p.row(l, c.Virtual)
	_, there := r.dests[c.Real]
	if err := allowed(c.Verb, there); err != nil {
		return err
	}
	if c.Verb == steer.Add && !r.exists {
		return fmt.Errorf("finding its server: %w", os.ErrNotExist)
	}
	// A row in touched may be edited: nobody else holds its map.
	if r.dests == nil {
		r.dests = map[netip.AddrPort]int{}
	}
	r.dests[c.Real] = c.Weight
	if c.Verb == steer.Del {
		delete(r.dests, c.Real)
	}
	p.touched[c.Virtual] = r
	return nil
}

// row returns the row of v as it stands in p.
func (p *plan) row(l *listing, v steer.Virtual) row {
	if r, ok := p.touched[v]; ok {
		return r
	}
	return l.rows[v].row()
}

// planHelpers says which chains the edits need that are not there.
func (p *plan) planHelpers(l *listing) {
	need := map[string]bool{}
	for _, e := range p.edits {
		_, there := l.helpers[e.new.chain]
		if _, ok := parseHelper(e.new.chain); ok && !there {
			need[e.new.chain] = true
		}
	}
	p.make = slices.Sorted(maps.Keys(need))
}

// idle returns the chains that no server goes to.
func (l *listing) idle() []string {
	var names []string
	for name, uses := range l.helpers {
		if uses == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// adopt makes l what it is once the kernel has acknowledged p.
func (l *listing) adopt(p *plan) {
	for _, e := range p.edits {
		l.rows[e.virtual] = e.new
		if e.new.empty() {
			delete(l.rows, e.virtual)
		}
		l.goTo(e.old.chain, -1)
		l.goTo(e.new.chain, 1)
	}
	for a, in := range p.addrs {
		set(l.addrs, a, in)
	}
	for prefix, in := range p.pods {
		set(l.pods, prefix, in)
	}
}

// goTo counts n more servers that go to a chain, if it is a helper's.
func (l *listing) goTo(chain string, n int) {
	if _, ok := parseHelper(chain); ok {
		l.helpers[chain] += n
	}
}

// check refuses what cannot be made, or not be read back.
func check(c steer.Change) error {
	if err := steer.Check(c); err != nil {
		return err
	}
	switch {
	case c.Kind() == steer.KindNode:
		return errors.New("there are no tunnels with nftables")
	case c.Virtual.Tier != steer.Single:
		return fmt.Errorf("there is no %s server with nftables", c.Virtual.Tier)
	}
	if c.Kind() == steer.KindServer && c.Verb != steer.Del && !nameable(c.Server.Scheduler) {
		return fmt.Errorf("scheduler %q is no name of one", c.Server.Scheduler)
	}
	return nil
}

// overlap refuses a prefix that overlaps one that is there: an interval set
// cannot hold both.
func overlap(have, planned map[netip.Prefix]bool, c steer.Change) error {
	if c.Verb != steer.Add {
		return nil
	}
	after := maps.Clone(have)
	maps.Copy(after, planned)
	for p, in := range after {
		if in && p != c.Pods && p.Overlaps(c.Pods) {
			return fmt.Errorf("the prefix overlaps %s", p)
		}
	}
	return nil
}

// toggle plans that k is in, or out, and refuses what contradicts have.
func toggle[K comparable](have, planned map[K]bool, verb steer.Verb, k K) error {
	in, ok := planned[k]
	if !ok {
		in = have[k]
	}
	if err := allowed(verb, in); err != nil {
		return err
	}
	planned[k] = verb != steer.Del
	return nil
}

func allowed(verb steer.Verb, there bool) error {
	switch {
	case verb == steer.Add && there:
		return os.ErrExist
	case verb != steer.Add && !there:
		return os.ErrNotExist
	}
	return nil
}

func set[K comparable](m map[K]bool, k K, in bool) {
	delete(m, k)
	if in {
		m[k] = true
	}
}

func compareVirtuals(a, b steer.Virtual) int {
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c
	}
	return int(a.Proto) - int(b.Proto)
}
