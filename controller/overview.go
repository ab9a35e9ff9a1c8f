package controller

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// A Leader is who leads the controllers, by the Lease that they share.
type Leader struct {
	Name    string    // of the replica; "" for nobody
	Renewed time.Time // by its own clock
	Expires time.Time // … unless it is renewed before
}

// Overview returns the cluster on one screen: who is there, what they do, and what
// is wrong. What is wrong comes first where not all has room.
func Overview(s snapshot.Snapshot, l Leader) string {
	var b strings.Builder
	fmt.Fprintf(&b, "controller  %s\nservices    %s\n", l.words(s.Now), countServices(s))
	for _, t := range []table{
		poolTable(s), speakerTable(s), lackTable(s), sessionTable(s), conflictTable(s), quarantineTable(s), conditionTable(s),
	} {
		t.write(&b)
	}
	return b.String()
}

func (l Leader) words(now time.Time) string {
	switch {
	case l.Name == "":
		return "nobody leads: no address is assigned; see kubectl -n herald-system get pods"
	case now.After(l.Expires):
		return fmt.Sprintf("%s led, and has been silent for %s: no address is assigned", l.Name, age(now.Sub(l.Renewed)))
	}
	return l.Name + " leads"
}

// countServices counts those that Herald serves.
func countServices(s snapshot.Snapshot) string {
	served, waiting, silent := 0, 0, 0
	for _, svc := range s.Services {
		if !svc.Served {
			continue
		}
		served++
		assigned, _ := said(svc, AddressAssigned)
		announced, ok := said(svc, Announced)
		switch {
		case !assigned.Status:
			waiting++
		case ok && !announced.Status:
			silent++
		}
	}
	return fmt.Sprintf("%d served, %d of them without an address, %d with one that is not announced", served, waiting, silent)
}

// A table is a part of an overview.
type table struct {
	title string
	head  []string
	wrong [][]string // rows of what needs looking at
	rows  [][]string // the others
}

// maxRows is how many rows of a table are shown.
const maxRows = 20

// write writes t; nothing if it has no rows.
func (t table) write(b *strings.Builder) {
	rows := slices.Concat(t.wrong, t.rows)
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", t.title)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for i, row := range append([][]string{t.head}, rows...) {
		if i > maxRows {
			break
		}
		fmt.Fprintf(w, "  %s\n", strings.Join(row, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	if more := len(rows) - maxRows; more > 0 {
		fmt.Fprintf(b, "  … and %d more, of which %d are all right\n", more, min(more, len(t.rows)))
	}
}

// add adds a row.
func (t *table) add(wrong bool, row ...string) {
	if wrong {
		t.wrong = append(t.wrong, row)
	} else {
		t.rows = append(t.rows, row)
	}
}

func poolTable(s snapshot.Snapshot) table {
	t := table{title: "pools", head: []string{"NAME", "FAMILY", "TOTAL", "ASSIGNED", "FREE", "RESTING"}}
	for _, p := range s.Pools {
		resting := map[ipam.Family]int{}
		for _, r := range p.Resting {
			resting[ipam.FamilyOf(r.Addr)]++
		}
		for _, of := range []struct {
			family ipam.Family
			count  snapshot.Count
		}{{ipam.IPv4, p.V4}, {ipam.IPv6, p.V6}} {
			if of.count.Total > 0 {
				t.add(of.count.Free == 0, p.Name, of.family.String(), number(of.count.Total), number(of.count.Assigned), number(of.count.Free), strconv.Itoa(resting[of.family]))
			}
		}
	}
	return t
}

// number returns a count as people read it: an IPv6 pool has more than there are
// numbers for.
func number(n int64) string {
	if n == math.MaxInt64 {
		return "many"
	}
	return strconv.FormatInt(n, 10)
}

func speakerTable(s snapshot.Snapshot) table {
	t := table{title: "speakers", head: []string{"NODE", "PATH", "ANSWERS", "TELLS", "REACHES", "ROUTERS", "PROBLEMS"}}
	for _, r := range everySpeaker(s) {
		tells := int64(0)
		for _, one := range r.Told {
			tells += one.Len()
		}
		reached, up := 0, 0
		for _, p := range r.Peers {
			if p.Up {
				reached++
			}
		}
		for _, b := range r.Routers {
			if b.Up {
				up++
			}
		}
		problems := speakerProblems(s, r)
		t.add(len(problems) > 0, r.Node, cmp.Or(r.DataPath, "none"), strconv.Itoa(len(r.Answers)), number(tells),
			fmt.Sprintf("%d/%d", reached, len(r.Peers)), fmt.Sprintf("%d/%d", up, len(r.Routers)), cmp.Or(strings.Join(problems, "; "), "-"))
	}
	return t
}

// everySpeaker returns the reports of all speakers that have ever been heard of, by
// Node; of one that has reported nothing what its Lease says.
func everySpeaker(s snapshot.Snapshot) []snapshot.Report {
	all := slices.Clone(s.Reports)
	for _, sp := range slices.Concat(s.Speakers, s.Lost) {
		if !slices.ContainsFunc(all, func(r snapshot.Report) bool { return r.Node == sp.Node }) {
			all = append(all, snapshot.Report{Speaker: sp})
		}
	}
	slices.SortFunc(all, func(a, b snapshot.Report) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

func speakerProblems(s snapshot.Snapshot, r snapshot.Report) (problems []string) {
	i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == r.Node })
	switch {
	case i < 0:
		problems = append(problems, "it is silent")
	case s.Speakers[i].Leaving:
		problems = append(problems, "it is stopping")
	}
	for _, n := range s.Nodes {
		switch {
		case n.Name != r.Node:
		case n.Excluded != "":
			problems = append(problems, "the node is excluded: "+n.Excluded)
		case n.Draining:
			problems = append(problems, "the node is drained")
		}
	}
	for _, p := range r.Peers {
		if !p.Up {
			problems = append(problems, fmt.Sprintf("it does not reach %s: %s", p.Node, cmp.Or(p.Err, p.State)))
		}
	}
	return problems
}

// lackTable lists why nodes cannot steer as well as others can, which is mostly the
// same for all.
func lackTable(s snapshot.Snapshot) table {
	t := table{title: "what nodes lack", head: []string{"NODES", "LACK"}}
	var lacks missing
	for _, r := range everySpeaker(s) {
		for _, lack := range r.Lacks {
			lacks.add(r.Node, lack)
		}
	}
	for _, lack := range lacks.words {
		t.add(false, someOf(lacks.nodes[lack], ", "), lack)
	}
	return t
}

func sessionTable(s snapshot.Snapshot) table {
	t := table{title: "BGP sessions", head: []string{"PEER", "NODE", "STATE", "FOR", "BFD", "ROUTES", "AS", "LOSSES", "ERROR"}}
	for _, peer := range s.Peers {
		for _, r := range s.Reports {
			i := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == r.Node })
			if i < 0 || !slices.Contains(s.Nodes[i].Peers, peer.Name) {
				continue
			}
			b, ok := routerOf(r, peer.Name)
			unknown := ""
			switch {
			case !slices.ContainsFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == r.Node }):
				unknown = silent
			case !ok:
				unknown = "its speaker has not said anything of it yet"
			}
			if unknown != "" {
				t.add(true, peer.Name, r.Node, "unknown", "-", "-", "-", "-", "-", unknown)
				continue
			}
			as := "-"
			if b.ASN > 0 {
				as = strconv.FormatUint(uint64(b.ASN), 10)
			}
			t.add(!b.Up || b.Err != "", peer.Name, r.Node, b.State, since(s.Now, b.Since), cmp.Or(b.BFD, "-"), strconv.Itoa(b.Sent), as, strconv.Itoa(b.Flaps), cmp.Or(b.Err, "-"))
		}
	}
	return t
}

func conflictTable(s snapshot.Snapshot) table {
	t := table{title: "addresses that another host has, too", head: []string{"ADDRESS", "FOUND BY", "INTERFACE", "MAC", "OF NODE", "FOR", "ANSWERED"}}
	for _, r := range s.Reports {
		for _, c := range r.Conflicts {
			answered := "no"
			if c.Answered {
				answered = "yes"
			}
			t.add(true, c.Addr.String(), r.Node, c.Link, c.MAC, cmp.Or(c.Node, "-"), since(s.Now, c.Since), answered)
		}
	}
	return t
}

func quarantineTable(s snapshot.Snapshot) table {
	t := table{title: "addresses that nobody is given, for a stranger has them", head: []string{"ADDRESS", "MAC", "FOUND BY", "FOR ANOTHER"}}
	for _, q := range inPools(s.Pools) {
		t.add(true, q.Addr.String(), q.MAC, q.Node, age(q.Until.Sub(s.Now)))
	}
	return t
}

// conditionTable lists what the controller says is wrong.
func conditionTable(s snapshot.Snapshot) table {
	t := table{title: "conditions that are not as they should be", head: []string{"OBJECT", "CONDITION", "REASON", "MESSAGE"}}
	add := func(kind, name string, conditions []snapshot.Condition) {
		for _, c := range conditions {
			if bad(c) {
				t.add(true, kind+" "+name, strings.TrimPrefix(c.Type, "herald-lb.io/"), c.Reason, c.Message)
			}
		}
	}
	for _, p := range s.Pools {
		add("AddressPool", p.Name, p.Conditions)
	}
	for _, p := range s.Peers {
		add("BGPPeer", p.Name, p.Conditions)
	}
	for _, c := range s.Claims {
		add("AddressClaim", c.Key, c.Conditions)
	}
	for _, svc := range s.Services {
		if svc.Served {
			add("Service", svc.Key, svc.Conditions)
		}
	}
	return t
}

// bad is whether a condition is not as it should be.
func bad(c snapshot.Condition) bool {
	if c.Type == Overlap || c.Type == Exhausted {
		return c.Status
	}
	return !c.Status || c.Reason == Contested
}

// since returns how long ago a time was, if it is known.
func since(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return age(now.Sub(then))
}

// age returns a duration as people say it, in one unit.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
