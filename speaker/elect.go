package speaker

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
)

// Elect returns the node of nodes that answers for addr, or "" if there is none.
//
// It is rendezvous hashing (Thaler and Ravishankar, 1998): each node scores
// (addr, node) alike, so speakers agree without talking, and a node that
// leaves gives up only its own addresses. Who is a candidate is decided
// elsewhere; see candidates.
func Elect(addr netip.Addr, nodes []string) string {
	return elect(addr, nodes, func(string) bool { return true })
}

// elect is Elect among those nodes that take it.
func elect(addr netip.Addr, nodes []string, takes func(node string) bool) string {
	var winner string
	var best uint64
	seed := mix(seedOf(addr))
	for _, node := range nodes {
		score := mix(hash(node) ^ seed)
		if (winner == "" || score > best || score == best && node < winner) && takes(node) {
			winner, best = node, score
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
func electAll(candidates map[netip.Addr][]string) map[netip.Addr]string {
	addrs := slices.Collect(maps.Keys(candidates))
	all := map[string]bool{}
	seen := map[*string]bool{} // many have the same list
	for _, nodes := range candidates {
		if len(nodes) == 0 || seen[&nodes[0]] {
			continue
		}
		seen[&nodes[0]] = true
		for _, n := range nodes {
			all[n] = true
		}
	}
	owners := make(map[netip.Addr]string, len(addrs))
	most := max(loadFew, (len(addrs)*(loadQuarter+1)+loadQuarter*len(all)-1)/(loadQuarter*max(1, len(all))))
	if len(addrs) > most {
		slices.SortFunc(addrs, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(seedOf(a), seedOf(b)), a.Compare(b)) })
	}
	load := make(map[string]int, len(all))
	for _, addr := range addrs {
		nodes := candidates[addr]
		owner := elect(addr, nodes, func(n string) bool { return load[n] < most })
		if owner == "" {
			owner = Elect(addr, nodes)
		}
		owners[addr] = owner
		load[owner]++
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
