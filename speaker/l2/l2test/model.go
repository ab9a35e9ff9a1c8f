package l2test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a model takes for granted, and what it promises.
const (
	missed   = 300 * time.Millisecond // after what time BFD tells who is there
	differs  = 50 * time.Millisecond  // between the plans of two hosts
	settles  = 10 * time.Second       // after the last disturbance
	doubles  = 150 * time.Millisecond // for how long two may answer that are agreed
	silences = time.Second            // and for how long nobody
	// Who leaves an address to one who is deaf asks him in vain whether he has it,
	// for half a second.
	doublesOfDeaf = doubles + 500*time.Millisecond
)

// How often hosts are asked: while something may still come of a disturbance, and
// then.
const (
	uneasy          = 2 * time.Second
	askSoon, askNow = 200 * time.Millisecond, 20 * time.Millisecond
)

// A model is a segment on which hosts die, come back and are parted, and what
// each believes of the others meanwhile.
type model struct {
	*segment
	t      *testing.T
	rnd    *rand.Rand
	truth  world
	belief []world
	news   []news // yet to be heard, by time
	// agreed is when all hosts came to believe the truth; double and silent since
	// when two on one side answer for an address, or nobody.
	agreed         time.Time
	double, silent map[int]time.Time
	told           []string // what has happened, for whoever has to understand it
	began          time.Time
	shown          string
}

// news is what one host comes to believe.
type news struct {
	at    time.Time
	host  *host
	about bool // whether it is about who is there, or else about plans
	tell  func(*world)
}

// Whatever happens to speakers, to the segment between them and to their plans:
// once it has settled, exactly one on each side that hears each other answers for
// each address, and while all agree two do, or nobody does, for moments only. A
// seed says what happens; who is scheduled when differs from run to run. HERALD_SEEDS
// is how many more to try than those that have found something.
func (l Language) modelHolds(t *testing.T) {
	seeds := []uint64{1, 2, 3, 15868142197657327660, 4190772509289907846, 7628061759633247086, 3115162595340827259, 2282680732306723812, 17337590230620121138}
	more, _ := strconv.Atoi(os.Getenv("HERALD_SEEDS")) // or else none
	for range more {
		seeds = append(seeds, rand.Uint64())
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := l.model(t, seed, 3+int(seed%3))
				for round := range 10 {
					m.tell("round %d", round)
					m.round()
					if t.Failed() {
						t.Fatalf("seed %d, round %d:\n%s", seed, round, strings.Join(m.told, "\n"))
					}
				}
			})
		})
	}
}

func (l Language) model(t *testing.T, seed uint64, hosts int) *model {
	m := &model{
		segment: l.segment(seed, hosts), t: t, rnd: rand.New(rand.NewPCG(seed, 4)),
		truth: newWorld(hosts), double: map[int]time.Time{}, silent: map[int]time.Time{}, began: time.Now(),
	}
	for _, h := range m.hosts {
		m.belief = append(m.belief, m.truth.clone())
		m.start(h)
	}
	m.agreed = time.Now()
	return m
}

// round disturbs the model a few times, lets it settle and looks at it.
func (m *model) round() {
	m.told = m.told[max(0, len(m.told)-300):]
	for range 1 + m.rnd.IntN(4) {
		m.disturb()
		m.until(time.Now().Add(time.Duration(m.rnd.Int64N(int64(500 * time.Millisecond)))))
	}
	m.until(time.Now().Add(settles))
	answer := m.ask(numbered)
	for _, h := range m.hosts {
		if !m.truth.alive[h.index] {
			continue
		}
		for _, n := range numbered {
			on := m.onSide(h, answer[n])
			elected := m.truth.elected(m.l, m.hosts, h, n)
			if elected != "" && len(on) != 1 || elected == "" && len(on) != 0 {
				m.t.Errorf("on the side of %s, where %q is elected, %v answer for %d", h.node, elected, on, n)
			}
		}
	}
}

// disturb does one thing that may happen at any time.
func (m *model) disturb() {
	h := m.hosts[m.rnd.IntN(len(m.hosts))]
	i := h.index
	switch m.rnd.IntN(8) {
	case 0, 1:
		if m.truth.alive[i] {
			m.tell("%s dies", h.node)
			m.halt(m.t, h)
			m.news = slices.DeleteFunc(m.news, func(n news) bool { return n.host == h })
			m.happens(true, func(w *world) { w.alive[i] = false })
			return
		}
		m.tell("%s starts", h.node)
		m.happens(true, func(w *world) { w.alive[i] = true })
		m.belief[i] = m.truth.clone()
		if i == m.truth.deaf { // before it knows the cluster, others have heard of it
			clear(m.belief[i].wanted)
			at := m.after(time.Now().Add(missed+differs), true, m.hosts...)
			m.hears(news{at, h, false, func(w *world) { w.wanted = slices.Clone(m.truth.wanted) }})
		}
		m.start(h)
	case 2, 3:
		sides := make([]int, len(m.hosts)) // healed
		if m.rnd.IntN(2) == 0 {
			for j := range sides {
				sides[j] = m.rnd.IntN(2)
			}
		}
		m.tell("sides are %v", sides)
		m.part(sides...)
		m.happens(true, func(w *world) { w.side = sides })
	case 4:
		may := m.rnd.IntN(3) > 0
		serves := may || m.rnd.IntN(2) == 0
		m.tell("%s may %t, serves %t", h.node, may, serves)
		m.happens(false, func(w *world) { w.may[i], w.serves[i] = may, serves })
	case 5:
		n := m.rnd.IntN(len(numbered))
		wanted := m.rnd.IntN(3) > 0
		m.tell("%d is wanted %t", numbered[n], wanted)
		m.happens(false, func(w *world) { w.wanted[n] = wanted })
	case 6:
		m.misjudge(h, m.hosts[m.rnd.IntN(len(m.hosts))])
	case 7:
		m.deafens(h)
	}
}

// deafens has a host hear nobody any more, or the one that is deaf hear again. It
// takes all others for dead, until it is told that they hear it.
func (m *model) deafens(h *host) {
	deaf := -1
	if m.truth.deaf < 0 {
		deaf = h.index
	}
	m.tell("deaf is %d", deaf)
	m.deafen(deaf)
	m.happens(true, func(w *world) { w.deaf = deaf })
	if deaf < 0 || h.a == nil {
		return
	}
	alone := time.Now().Add(missed + differs)
	told := m.after(alone.Add(time.Duration(m.rnd.Int64N(int64(settles/4)))), true, m.hosts...)
	m.hears(
		news{alone, h, true, func(w *world) {
			clear(w.alive)
			w.alive[deaf], w.deaf = true, -1
		}},
		news{told, h, true, func(w *world) { w.alive, w.deaf = slices.Clone(m.truth.alive), m.truth.deaf }})
}

// misjudge has a host take another for dead, for a while and for itself alone. From
// one that is deaf it is what that has heard of him: it takes him for dead as well.
func (m *model) misjudge(h, other *host) {
	if h.a == nil || h == other {
		return
	}
	m.tell("%s misses %s", h.node, other.node)
	mutual := other.index == m.truth.deaf && other.a != nil
	from := m.after(time.Now(), true, h) // or else what it is yet to hear would correct it
	if mutual {
		from = m.after(from, true, other)
	}
	until := from.Add(time.Duration(m.rnd.Int64N(int64(settles / 4))))
	m.misses(h, other, from, until)
	if mutual {
		m.misses(other, h, from.Add(differs), until.Add(differs))
	}
}

func (m *model) misses(h, other *host, from, until time.Time) {
	m.hears(
		news{from, h, true, func(w *world) { w.alive[other.index] = false }},
		news{until, h, true, func(w *world) { w.alive[other.index] = m.truth.alive[other.index] }})
}

// start runs a host that believes what it should.
func (m *model) start(h *host) {
	m.boot(m.t, h)
	m.sync(h)
}

// happens makes something true, and lets hosts come to believe it, each in its
// own time but what is of one kind in order. Who is there, one that is deaf knows
// from the others: after them.
func (m *model) happens(about bool, tell func(*world)) {
	tell(&m.truth)
	m.agreed = time.Time{}
	for _, h := range m.deafLast() {
		if h.a == nil {
			continue
		}
		at := time.Now().Add(time.Duration(m.rnd.Int64N(int64(differs))))
		if about {
			at = at.Add(missed)
		}
		if about && h.index == m.truth.deaf {
			at = m.after(at, true, m.hosts...)
		}
		m.hears(news{m.after(at, about, h), h, about, tell})
	}
	if len(m.news) == 0 { // nobody is alive
		m.agreed = time.Now()
	}
}

// deafLast are all hosts, the one that is deaf at the end.
func (m *model) deafLast() []*host {
	hosts := slices.Clone(m.hosts)
	if d := m.truth.deaf; d >= 0 {
		hosts = append(slices.Delete(hosts, d, d+1), m.hosts[d])
	}
	return hosts
}

// after is the first time from at on when hosts have heard all news of a kind that
// are on their way to them.
func (m *model) after(at time.Time, about bool, hosts ...*host) time.Time {
	for _, n := range m.news {
		if slices.Contains(hosts, n.host) && n.about == about && n.at.After(at) {
			at = n.at
		}
	}
	return at
}

// hears has hosts hear news when their time comes.
func (m *model) hears(all ...news) {
	m.agreed = time.Time{}
	m.news = append(m.news, all...)
	slices.SortStableFunc(m.news, func(a, b news) int { return a.at.Compare(b.at) })
}

// until lets time go by until end, in which hosts hear news and are asked.
func (m *model) until(end time.Time) {
	for {
		every := askSoon
		if m.agreed.IsZero() || time.Since(m.agreed) < uneasy {
			every = askNow
		}
		next := time.Now().Truncate(every).Add(every)
		if len(m.news) > 0 && m.news[0].at.Before(next) {
			next = m.news[0].at
		}
		if next.After(end) {
			pass(time.Until(end))
			return
		}
		pass(time.Until(next))
		for len(m.news) > 0 && !m.news[0].at.After(next) {
			n := m.news[0]
			m.news = m.news[1:]
			n.tell(&m.belief[n.host.index])
			m.sync(n.host)
			if len(m.news) == 0 {
				m.agreed = time.Now()
			}
		}
		m.watch()
	}
}

func (m *model) sync(h *host) {
	w := m.plan(h, m.belief[h.index])
	if err := h.a.Sync(m.t.Context(), w); err != nil {
		m.t.Errorf("%s: Sync(%v) = %v", h.node, w, err)
	}
	synctest.Wait()
	var claims []string
	for _, c := range w.Claims {
		claims = append(claims, c.Addr.String())
	}
	m.tell("%s plans %v, %d others", h.node, claims, len(w.Others))
}

// watch looks for addresses that two answer for, or nobody, though all agree.
func (m *model) watch() {
	answer := m.ask(numbered)
	if text := fmt.Sprint(answer); text != m.shown {
		m.shown = text
		m.tell("answers %s", text)
	}
	for _, n := range numbered {
		two, none := false, false
		for _, h := range m.hosts {
			on := len(m.onSide(h, answer[n]))
			two = two || on > 1
			none = none || on == 0 && m.truth.alive[h.index] && m.truth.elected(m.l, m.hosts, h, n) != ""
		}
		limit := doubles
		if m.truth.deaf >= 0 && slices.Contains(answer[n], m.hosts[m.truth.deaf].node) {
			limit = doublesOfDeaf
		}
		if d := m.lasts(m.double, n, two); d > limit {
			m.t.Errorf("%v answer for %d, for %v though all agree", answer[n], n, d)
		}
		if d := m.lasts(m.silent, n, none); d > silences {
			m.t.Errorf("%v answer for %d, and nobody on a side for %v though all agree", answer[n], n, d)
		}
	}
}

// lasts is for how long something has been so of an address while all agree.
func (m *model) lasts(since map[int]time.Time, n int, is bool) time.Duration {
	if !is || m.agreed.IsZero() {
		delete(since, n)
		return 0
	}
	if _, on := since[n]; !on {
		since[n] = time.Now()
	}
	return time.Since(since[n])
}

// onSide are those of nodes that are on the side of h.
func (m *model) onSide(h *host, nodes []string) (on []string) {
	for _, o := range m.hosts {
		if slices.Contains(nodes, o.node) && m.truth.side[h.index] == m.truth.side[o.index] {
			on = append(on, o.node)
		}
	}
	return on
}

func (m *model) tell(format string, args ...any) {
	m.told = append(m.told, fmt.Sprintf("%9v ", time.Since(m.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}
