package metallb

import (
	"cmp"
	"errors"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/ipam"
)

// A Result is what MetalLB's objects are in Herald's words.
type Result struct {
	Pools        []Pool           // by name
	Peers        []Peer           // by name
	Services     []Service        // by namespace and name
	Notes        []Note           // by object and field
	Problems     []config.Problem // what Herald would not accept of Pools
	PeerProblems []config.Problem // and of Peers
}

// Lost returns how many Notes say that something is without equivalent.
func (r Result) Lost() int {
	lost := 0
	for _, n := range r.Notes {
		if n.Level == Missing {
			lost++
		}
	}
	return lost
}

// Migrate translates what is in files for a Herald that lives in namespace. Neither
// the order of files nor that of the objects in them matters. The error says what
// could not be read; the Result is what came of the rest.
func Migrate(files []File, namespace string) (Result, error) {
	in := read(files)
	in.namespace = namespace
	in.sort()
	var r Result
	peers := in.migratePeers(&r)
	compiled := in.migratePools(&r)
	in.noteUntold(compiled.Pools, peers)
	in.migrateServices(&r, compiled)
	r.Notes = in.sorted()
	return r, errors.Join(in.unreadable...)
}

// migratePools translates the pools, and returns them as Herald would have them.
func (in *input) migratePools(r *Result) config.Config {
	var objects []v1alpha1.AddressPool
	priorities := priorities(in.pools)
	for i, p := range in.pools {
		if i > 0 && p.meta.Name == in.pools[i-1].meta.Name {
			in.add(Missing, p.origin, "", "no equivalent: %s has the same name, and pools belong to the cluster; rename one, and the annotations that name it",
				in.pools[i-1].object)
			continue
		}
		out := in.translate(p, priorities[i])
		r.Pools = append(r.Pools, out)
		objects = append(objects, out.Object)
	}
	in.noteAdvertisements()
	compiled, problems := v1alpha1.Compile(objects, config.Config{})
	r.Problems = problems
	return compiled
}

func (in *input) migrateServices(r *Result, c config.Config) {
	sharers := in.sharers()
	for _, s := range in.services {
		if out, ok := in.translateService(s, sharers); ok {
			r.Services = append(r.Services, out)
		}
	}
	in.noteClasses()
	var ranges []ipam.Range
	for _, p := range c.Pools {
		ranges = append(ranges, p.Ranges...)
	}
	in.noteStrays(ranges)
}

// sort brings the objects in an order that does not depend on the input's.
func (in *input) sort() {
	slices.SortStableFunc(in.pools, func(a, b pool) int {
		return cmp.Or(cmp.Compare(a.meta.Name, b.meta.Name), cmp.Compare(a.object, b.object))
	})
	slices.SortStableFunc(in.layer2, func(a, b advertisement[layer2Spec]) int { return cmp.Compare(a.object, b.object) })
	slices.SortStableFunc(in.bgp, func(a, b advertisement[bgpAdvertisementSpec]) int { return cmp.Compare(a.object, b.object) })
	slices.SortStableFunc(in.peers, comparePeers)
	slices.SortStableFunc(in.profiles, func(a, b profile) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.object, b.object)) })
	slices.SortStableFunc(in.aliases, func(a, b alias) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.object, b.object)) })
	slices.SortStableFunc(in.services, compareServices)
}
