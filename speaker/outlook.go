package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// An Outlook is what a change of the cluster would mean for the sessions with one
// router, and for what it knows.
type Outlook struct {
	Peer                 string   // the BGPPeer
	Opened, Reset, Ended []string // nodes whose session with it that happens to
	// Gained and Lost are the prefixes that it would come to know, and that nobody
	// would tell it any more; Changed those that other nodes would tell it, or that
	// would have other attributes.
	Gained, Lost, Changed []netip.Prefix
}

// Outlooks returns, by Peer, what would differ if the cluster were as after instead
// of as before. Every node makes its very plan, as if all its rows stood,
// and those that are drained were relieved.
func Outlooks(before, after snapshot.Snapshot) (out []Outlook) {
	was, will := outlook(before), outlook(after)
	peers := map[string]bool{}
	for _, all := range []map[string]spoken{was, will} {
		for peer := range all {
			peers[peer] = true
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(peers)) {
		if slices.ContainsFunc(after.PeerProblems, func(p config.Problem) bool { return p.Object == peer }) {
			continue // it stays as it is until that is mended
		}
		o := Outlook{Peer: peer}
		o.sessions(was[peer].sessions, will[peer].sessions)
		o.routes(was[peer].routes, will[peer].routes)
		if !reflect.DeepEqual(o, Outlook{Peer: peer}) {
			out = append(out, o)
		}
	}
	return out
}

// spoken is what all nodes have to do with one router.
type spoken struct {
	sessions map[string]Session                 // by node
	routes   map[netip.Prefix]map[string]string // what of it is said, by node
}

// outlook returns what all nodes have to do with routers, by peer.
func outlook(s snapshot.Snapshot) map[string]spoken {
	ready := map[netip.Addr]bool{}
	for _, svc := range s.Services {
		for _, a := range svc.Addrs() {
			ready[a] = true
		}
	}
	// Nobody who asks has to be allowed to read passwords. Another Secret is another
	// password, as far as one can tell.
	s.Passwords = map[string]string{}
	for _, p := range s.Config.Peers {
		s.Passwords[p.Name] = p.Secret + "/" + p.SecretKey
	}
	out := map[string]spoken{}
	for _, n := range s.Nodes {
		for _, session := range PlanRoutes(s, n.Name, ready, n.Draining).Sessions {
			if out[session.Name].sessions == nil {
				out[session.Name] = spoken{map[string]Session{}, map[netip.Prefix]map[string]string{}}
			}
			with := out[session.Name]
			with.sessions[n.Name] = session
			for _, r := range session.Routes {
				if with.routes[r.Prefix] == nil {
					with.routes[r.Prefix] = map[string]string{}
				}
				with.routes[r.Prefix][n.Name] = r.String()
			}
		}
	}
	return out
}

// sessions notes what becomes of them.
func (o *Outlook) sessions(was, will map[string]Session) {
	for _, node := range slices.Sorted(maps.Keys(will)) {
		switch had, ok := was[node]; {
		case !ok:
			o.Opened = append(o.Opened, node)
		case had.Differs(will[node]):
			o.Reset = append(o.Reset, node)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(was)) {
		if _, ok := will[node]; !ok {
			o.Ended = append(o.Ended, node)
		}
	}
}

// routes notes what becomes of them.
func (o *Outlook) routes(was, will map[netip.Prefix]map[string]string) {
	for _, prefix := range slices.SortedFunc(maps.Keys(will), netip.Prefix.Compare) {
		switch had, ok := was[prefix]; {
		case !ok:
			o.Gained = append(o.Gained, prefix)
		case !maps.Equal(had, will[prefix]):
			o.Changed = append(o.Changed, prefix)
		}
	}
	for _, prefix := range slices.SortedFunc(maps.Keys(was), netip.Prefix.Compare) {
		if _, ok := will[prefix]; !ok {
			o.Lost = append(o.Lost, prefix)
		}
	}
}

// String returns o as lines: what it means, for which peer, and which nodes or
// prefixes.
func (o Outlook) String() string {
	var lines []string
	add := func(verb, what string, names []string) {
		if len(names) > 0 {
			lines = append(lines, fmt.Sprintf("%-8s BGPPeer %s: %s%s", verb, o.Peer, what, someOf(names)))
		}
	}
	add("opens", "sessions of ", o.Opened)
	add("resets", "sessions, which are closed and opened anew, of ", o.Reset)
	add("ends", "sessions of ", o.Ended)
	add("tells", "", namesOf(o.Gained))
	add("forgets", "", namesOf(o.Lost))
	add("alters", "by other nodes, or with other attributes, ", namesOf(o.Changed))
	return strings.Join(lines, "\n")
}

// namesOf returns prefixes as words.
func namesOf(prefixes []netip.Prefix) []string {
	names := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		names = append(names, p.String())
	}
	return names
}
