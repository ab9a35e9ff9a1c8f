package speaker

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// Elect returns the node of nodes that answers for addr, or "" if there is none.
//
// It is rendezvous hashing (Thaler and Ravishankar, 1998): each node scores
// (addr, node) alike, so speakers agree without talking, and a node that
// leaves gives up only its own addresses. Who is a candidate is decided
// elsewhere; see field.
func Elect(addr netip.Addr, nodes []string) string {
	var winner string
	var best uint64
	seed := mix(seedOf(addr))
	for _, node := range nodes {
		score := mix(hash(node) ^ seed)
		if winner == "" || score > best || score == best && node < winner {
			winner, best = node, score
		}
	}
	return winner
}

// A roster is nodes of which one is elected: most addresses of a pool have the
// same.
type roster struct {
	nodes   []string
	hashes  []uint64 // of their names
	numbers []int    // that load is counted by
}

func newRoster(cs []*candidate) *roster {
	r := &roster{}
	for _, c := range cs {
		r.nodes, r.hashes, r.numbers = append(r.nodes, c.node.Name), append(r.hashes, c.hash), append(r.numbers, c.number)
	}
	return r
}

// elect is Elect among those that have less than most, as far as load says; it
// returns where in r it is, -1 for nobody.
func (r *roster) elect(seed uint64, load []int, most int) int {
	winner, best := -1, uint64(0)
	for i, h := range r.hashes {
		score := mix(h ^ seed)
		if (winner < 0 || score > best || score == best && r.nodes[i] < r.nodes[winner]) && load[r.numbers[i]] < most {
			winner, best = i, score
		}
	}
	return winner
}

func seedOf(addr netip.Addr) uint64 {
	key := addr.As16()
	return mix(binary.BigEndian.Uint64(key[:8])) ^ binary.BigEndian.Uint64(key[8:])
}

// Where nodes have more than a few addresses each, none takes more than a
// quarter above the mean: chance alone would give one of 250 twice as many. With
// few, nothing is bounded, for then an address that comes or goes would move
// others.
const (
	loadFew     = 16
	loadQuarter = 4
)

// electAll returns the node for each of the addresses, of those given for it.
//
// It is consistent hashing with bounded loads (Mirrokni, Thorup and
// Zadimoghaddam, 2018) on top of Elect: addresses are gone through in an order
// that is as random as the scores, and one whose best node has its share goes to
// the next best. So all speakers that see the same cluster agree still, and of
// what is not bounded nothing moves that Elect would not move.
func electAll(all []contest) []string {
	seen, nodes, size := map[*roster]bool{}, map[int]bool{}, 0
	for _, c := range all {
		if seen[c.roster] {
			continue
		}
		seen[c.roster] = true
		for _, n := range c.roster.numbers {
			nodes[n], size = true, max(size, n+1)
		}
	}
	order, seeds := make([]int, len(all)), make([]uint64, len(all))
	for i, c := range all {
		order[i], seeds[i] = i, seedOf(c.addr)
	}
	most := max(loadFew, (len(all)*(loadQuarter+1)+loadQuarter*len(nodes)-1)/(loadQuarter*max(1, len(nodes))))
	if len(all) > most {
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(seeds[a], seeds[b]), all[a].addr.Compare(all[b].addr)) })
	}
	owners, load := make([]string, len(all)), make([]int, size)
	for _, i := range order {
		r, seed := all[i].roster, mix(seeds[i])
		at := r.elect(seed, load, most)
		if at < 0 { // all have their share
			at = r.elect(seed, load, math.MaxInt)
		}
		owners[i] = r.nodes[at]
		load[r.numbers[at]]++
	}
	return owners
}

// hash is 64-bit FNV-1a. All speakers of a cluster must agree on it for ever.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads every bit of x over all others: the finalizer of SplitMix64.
// Without it FNV scores of like names and addresses are alike.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
