package ipam

import "net/netip"

// quotas counts what namespaces have of pools that limit it. An address counts
// once for a namespace, however many of its owners are on it.
//
// What is given up in a Plan for an address of another pool is given back to
// the quota by the next Plan.
type quotas struct {
	count map[quotaKey]int32
	here  map[presence]int // owners of a namespace on an address
}

type quotaKey struct {
	pool      int
	namespace string
}

type presence struct {
	addr      netip.Addr
	namespace string
}

// charge notes that b is on addr.
func (l *ledger) charge(b *bid, addr netip.Addr) {
	i := l.limited(addr)
	if i < 0 {
		return
	}
	if l.quota.here[presence{addr, b.Namespace}]++; l.quota.here[presence{addr, b.Namespace}] == 1 {
		l.quota.count[quotaKey{i, b.Namespace}]++
	}
}

// credit notes that b leaves addr for another one of the same pool.
func (l *ledger) credit(b *bid, addr netip.Addr) {
	i := l.limited(addr)
	if i < 0 {
		return
	}
	if l.quota.here[presence{addr, b.Namespace}]--; l.quota.here[presence{addr, b.Namespace}] == 0 {
		l.quota.count[quotaKey{i, b.Namespace}]--
	}
}

// limited returns the pool of addr if it has a quota, else -1.
func (l *ledger) limited(addr netip.Addr) int {
	if !l.hasQuotas {
		return -1
	}
	if i := l.poolAt(addr); i >= 0 && l.pools[i].Quota > 0 {
		return i
	}
	return -1
}

// exceeds reports whether b would have more of pool i than its namespace may,
// if it had addr in s. The zero Addr stands for one that nobody has.
func (l *ledger) exceeds(b *bid, s *slot, i int, addr netip.Addr) bool {
	quota := l.pools[i].Quota
	if quota <= 0 || l.quota.here[presence{addr, b.Namespace}] > 0 {
		return false
	}
	n := l.quota.count[quotaKey{i, b.Namespace}] + 1 - l.freed(b, s, i)
	for k := range b.slots {
		o := &b.slots[k]
		if o == s || !o.next.IsValid() || l.poolAt(o.next) != i {
			continue
		}
		if l.quota.here[presence{o.next, b.Namespace}] == 0 {
			n++
		}
		n -= l.freed(b, o, i)
	}
	return n > quota
}

// freed returns how many addresses of pool i the namespace of b has less once
// b leaves what it has in s.
func (l *ledger) freed(b *bid, s *slot, i int) int32 {
	if s.addr.IsValid() && l.poolAt(s.addr) == i && l.quota.here[presence{s.addr, b.Namespace}] == 1 {
		return 1
	}
	return 0
}
