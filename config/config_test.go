package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/ipam"
)

func pool(name, first, last string) Pool {
	r := ipam.Range{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}
	return Pool{Pool: ipam.Pool{Name: name, Ranges: []ipam.Range{r}}}
}

func TestPoolsAreFoundByName(t *testing.T) {
	c := Config{Pools: []Pool{pool("a", "192.0.2.1", "192.0.2.9"), pool("b", "192.0.2.20", "192.0.2.29"), pool("d", "::1", "::2")}}
	for _, name := range []string{"a", "b", "c", "d", "e", ""} {
		p, ok := c.Pool(name)
		if want := name == "a" || name == "b" || name == "d"; ok != want || ok && p.Name != name {
			t.Errorf("Pool(%q) = %q, %v", name, p.Name, ok)
		}
	}
	if _, ok := (Config{}).Pool("a"); ok {
		t.Error("an empty Config has a pool")
	}
}

func TestPoolsAreFoundByAddress(t *testing.T) {
	c := Config{Pools: []Pool{pool("a", "192.0.2.1", "192.0.2.9"), pool("b", "192.0.2.20", "192.0.2.29")}}
	for addr, want := range map[string]string{"192.0.2.1": "a", "192.0.2.9": "a", "192.0.2.25": "b", "192.0.2.10": "", "::1": ""} {
		got := c.PoolOf(netip.MustParseAddr(addr))
		if got.Name != want {
			t.Errorf("%s is in pool %q, want %q", addr, got.Name, want)
		}
		if want == "" && cmp.Diff(Default(), got) != "" {
			t.Errorf("%s, which no pool covers, has settings %+v", addr, got)
		}
	}
}
