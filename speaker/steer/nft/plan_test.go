package nft

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

const web = "192.0.2.1:80/tcp"

// listed is what the kernel would list after changes.
func listed(t testing.TB, changes ...steer.Change) *listing {
	t.Helper()
	l := newListing()
	p, errs := l.plan(changes)
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	for _, name := range p.make {
		l.helpers[name] = 0
	}
	l.adopt(p)
	return l
}

// add is a destination of web by its letter.
func add(letter byte, weight int) steer.Change {
	return kerneltest.Dest(steer.Add, web, real(letter).String(), weight)
}

func TestOneChangeTouchesFewElements(t *testing.T) {
	server := kerneltest.Server(steer.Add, web, "rr", false)
	have := []steer.Change{server, add('a', 1), add('b', 1), add('c', 1)}
	tests := []struct {
		name     string
		change   steer.Change
		del, put int // elements, of all sets together
	}{
		{"a destination comes: its slot, and the chain", add('d', 1), 1, 2},
		{"the first goes: the last takes its slot", kerneltest.Dest(steer.Del, web, real('a').String(), 0), 3, 2},
		{"the last goes", kerneltest.Dest(steer.Del, web, real('c').String(), 0), 2, 1},
		{"one drains", kerneltest.Dest(steer.Set, web, real('c').String(), 0), 2, 2},
		{"SNAT begins", kerneltest.Server(steer.Set, web, "rr", true), 1, 1},
		{"nothing changes", kerneltest.Server(steer.Set, web, "rr", false), 0, 0},
		{"another server comes", kerneltest.Server(steer.Add, "192.0.2.1:443/tcp", "rr", false), 0, 1},
		{"affinity begins: an id for each, and by slot", kerneltest.Set(steer.Set, web, steer.Server{Scheduler: "rr", Affinity: 60}), 1, 7},
		{"who may connect is said", kerneltest.Set(steer.Set, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8 192.0.2.0/24"}), 0, 3},
		{"nobody may connect any more", kerneltest.Set(steer.Set, web, steer.Server{Scheduler: "rr", Sources: steer.Nobody}), 0, 1},
		{"a node port comes", kerneltest.Server(steer.Add, "0.0.0.0:30080/tcp", "rr", false), 0, 1},
		{"all goes", kerneltest.Server(steer.Del, web, "", false), 4, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, errs := listed(t, have...).plan([]steer.Change{tt.change})
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			del, put := 0, 0
			for _, d := range p.batch(v4).sets() {
				del, put = del+len(d.del), put+len(d.add)
			}
			if del != tt.del || put != tt.put {
				t.Errorf("%d elements out and %d in, want %d and %d", del, put, tt.del, tt.put)
			}
		})
	}
}

func TestPlanLeavesTheListingAlone(t *testing.T) {
	l := listed(t, kerneltest.Server(steer.Add, web, "rr", false), add('a', 1), kerneltest.Addr(steer.Add, "192.0.2.1"))
	before := l.table()
	l.plan([]steer.Change{
		kerneltest.Dest(steer.Set, web, real('a').String(), 3), add('b', 1),
		kerneltest.Addr(steer.Del, "192.0.2.1"), kerneltest.Pods(steer.Add, "10.0.0.0/8"),
		kerneltest.Server(steer.Del, web, "", false)})
	if after := l.table(); !same(before, after) {
		t.Errorf("the listing is now %v, was %v", after, before)
	}
}

func same(a, b steer.Table) bool {
	return maps.Equal(a.Servers, b.Servers) && maps.Equal(a.Dests, b.Dests) &&
		maps.Equal(a.Addrs, b.Addrs) && maps.Equal(a.Pods, b.Pods)
}

func TestPlanRefuses(t *testing.T) {
	l := listed(t, kerneltest.Pods(steer.Add, "10.244.0.0/16"))
	tests := []struct {
		name   string
		change steer.Change
	}{
		{"a prefix within another", kerneltest.Pods(steer.Add, "10.244.1.0/24")},
		{"a prefix around another", kerneltest.Pods(steer.Add, "10.0.0.0/8")},
		{"a node, for there are no tunnels", kerneltest.Node(steer.Add, "192.168.0.11")},
		{"to forget a node", kerneltest.Node(steer.Del, "192.168.0.11")},
		{"a server of the front", kerneltest.Server(steer.Add, "front "+web, "mh", false)},
		{"a destination of the back", kerneltest.Dest(steer.Add, "back "+web, "10.0.0.7:8080", 1)},
		{"a scheduler that could not be read back", kerneltest.Server(steer.Add, web, "rr snat", false)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, errs := l.plan([]steer.Change{tt.change})
			if len(errs) != 1 || !p.empty() {
				t.Errorf("plan(%s) = %v, %v, want an error and nothing", tt.change, p, errs)
			}
		})
	}
}

func TestWhatIsUndoneIsNothing(t *testing.T) {
	l := newListing()
	p, errs := l.plan([]steer.Change{
		kerneltest.Addr(steer.Add, "192.0.2.1"), kerneltest.Pods(steer.Add, "10.0.0.0/8"),
		kerneltest.Server(steer.Add, web, "rr", true), add('a', 1),
		kerneltest.Addr(steer.Del, "192.0.2.1"), kerneltest.Pods(steer.Del, "10.0.0.0/8"),
		kerneltest.Server(steer.Del, web, "", false)})
	if len(errs) > 0 || !p.empty() {
		t.Errorf("plan() = %+v, %v, want nothing", p, errs)
	}
}

// TestTamperingIsListed changes single elements, as somebody with nft could.
func TestTamperingIsListed(t *testing.T) {
	v := kerneltest.Virtual(web)
	changes := []steer.Change{
		kerneltest.Set(steer.Add, web, steer.Server{Scheduler: "rr", Affinity: 60, Sources: "10.0.0.0/8 192.0.2.0/24"}),
		add('a', 1), add('b', 2), add('c', 0)}
	want := listed(t, changes...).table()
	tests := []struct {
		name   string
		tamper func(e *elements)
	}{
		{"it goes to another chain", func(e *elements) { e.chain = "v4-random-9" }},
		{"it goes nowhere", func(e *elements) { e.chain = "?" }},
		{"another comment", func(e *elements) { e.comment = "mine" }},
		{"no server", func(e *elements) { e.chain, e.comment = "", "" }},
		{"a slot is gone", func(e *elements) { e.slots = e.slots[:1] }},
		{"the first slot is gone", func(e *elements) { e.slots = e.slots[1:] }},
		{"a slot too many", func(e *elements) { e.slots = append(e.slots, slot{9, real('a'), 1}) }},
		{"a slot with another weight", func(e *elements) { e.slots[1].weight = 7 }},
		{"a slot without a weight", func(e *elements) { e.slots[0].weight = 0 }},
		{"an id is gone", func(e *elements) { e.ids = e.ids[1:] }},
		{"an id is another's", func(e *elements) { e.ids = []slotID{{0, e.ids[1].id}, e.ids[1], e.ids[2]} }},
		{"a destination has no id", func(e *elements) { e.live = e.live[1:] }},
		{"a destination has another id", func(e *elements) { e.live = []named{{7, e.live[0].real}, e.live[1]} }},
		{"it lets everybody in", func(e *elements) { e.limited = false }},
		{"it lets fewer in", func(e *elements) { e.sources = e.sources[1:] }},
		{"it lets nobody in", func(e *elements) { e.sources = nil }},
		{"it lets more in", func(e *elements) {
			e.sources = append(slices.Clone(e.sources), netip.MustParsePrefix("198.51.100.0/24"))
		}},
		{"a drained one is gone", func(e *elements) { e.idle = nil }},
		{"one is drained and not", func(e *elements) { e.idle = append(e.idle, e.slots[0].real) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := listed(t, changes...)
			e := l.rows[v]
			e.slots, e.idle = slices.Clone(e.slots), slices.Clone(e.idle)
			tt.tamper(&e)
			l.rows[v] = e
			join, leave := steer.Diff(l.table(), want)
			if len(join)+len(leave) == 0 {
				t.Fatal("the listing does not show it")
			}
			p, errs := l.plan(append(join, leave...))
			if len(errs) > 0 {
				t.Fatal(errors.Join(errs...))
			}
			for _, name := range p.make {
				l.helpers[name] = 0
			}
			l.adopt(p)
			if !same(l.table(), want) || !l.rows[v].sound(v) {
				t.Errorf("after the repair the listing is %v, want %v", l.table(), want)
			}
		})
	}
}

// TestElementsSayAll walks at random, and reads each row back from its
// elements alone.
func TestElementsSayAll(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	l, want := newListing(), steer.NewTable()
	for range 3000 {
		c := anyChange(r)
		promised := kerneltest.Model(want, c)
		p, errs := l.plan([]steer.Change{c})
		if err := errors.Join(errs...); (err == nil) != (promised == nil) ||
			errors.Is(err, os.ErrExist) != errors.Is(promised, os.ErrExist) {
			t.Fatalf("plan(%s) = %v, want %v", c, err, promised)
		}
		for _, name := range p.make {
			l.helpers[name] = 0
		}
		l.adopt(p)
		if got := l.table(); !same(got, want) {
			t.Fatalf("after %s: %v, want %v", c, got, want)
		}
		uses := map[string]int{}
		for _, e := range l.rows {
			uses[e.chain]++
		}
		for name, n := range l.helpers {
			if n != uses[name] {
				t.Fatalf("after %s: %d servers go to %s, %d are counted", c, uses[name], name, n)
			}
		}
	}
}

func anyChange(r *rand.Rand) steer.Change {
	c := steer.Change{Verb: []steer.Verb{steer.Add, steer.Set, steer.Del}[r.IntN(3)],
		Virtual: kerneltest.Virtual([]string{web, "0.0.0.0:30080/tcp"}[r.IntN(2)])}
	if r.IntN(4) > 0 {
		c.Real, c.Weight = netip.AddrPort(real(byte('a'+r.IntN(5)))), r.IntN(4)
		return c
	}
	c.Server = steer.Server{Scheduler: []string{"rr", "mh", "lc"}[r.IntN(3)], SNAT: r.IntN(2) == 0,
		Affinity: []uint32{0, 60, 600}[r.IntN(3)],
		Sources:  []steer.Sources{"", "10.0.0.0/8", "10.0.0.0/8 192.0.2.0/24", steer.Nobody}[r.IntN(4)]}
	if c.Server.Scheduler == "mh" {
		c.Server.Flags = config.SchedulerFlags(r.IntN(4))
	}
	return c
}
