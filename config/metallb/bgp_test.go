package metallb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
)

// some returns some of values, in any order.
func some[T any](rnd *rand.Rand, values ...T) []T {
	var out []T
	for _, i := range rnd.Perm(len(values))[:rnd.IntN(len(values)+1)] {
		out = append(out, values[i])
	}
	return out
}

func randomBGP(rnd *rand.Rand) bgpAdvertisementSpec {
	s := bgpAdvertisementSpec{
		NodeSelectors: randomSelectors(rnd), Peers: some(rnd, "p1", "p2", "p3"),
		Communities: some(rnd, "1:1", "large:1:2:3", "name"), LocalPref: rnd.Uint32N(2) * 100,
	}
	if rnd.IntN(2) == 0 {
		s.ServiceSelectors = randomSelectors(rnd)
	}
	if rnd.IntN(2) == 0 {
		bits := 8 + rnd.Int32N(25)
		s.AggregationLength = &bits
	}
	return s
}

// A saying is what is said of one prefix; of several localPrefs the best counts.
type saying struct {
	communities []string
	localPref   int64
}

func (s saying) and(communities []string, localPref int64) saying {
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(s.communities, communities))))
	return saying{all, max(s.localPref, localPref)}
}

// metallbs is what MetalLB tells peer of a Service from a node, by length of prefix.
func metallbs(t *testing.T, ads []advertisement[bgpAdvertisementSpec], node, svc map[string]string, peer string) map[int32]saying {
	written := strings.NewReplacer("large:", "", "name", "65535:65281")
	out := map[int32]saying{}
	for _, ad := range ads {
		s := ad.spec
		if !anyOf(t, s.NodeSelectors, node) || !anyOf(t, s.ServiceSelectors, svc) || len(s.Peers) > 0 && !slices.Contains(s.Peers, peer) {
			continue
		}
		var communities []string
		for _, c := range s.Communities {
			communities = append(communities, written.Replace(c))
		}
		bits := orElse(s.AggregationLength, 32)
		out[bits] = out[bits].and(communities, int64(s.LocalPref))
	}
	return out
}

// heralds is what Herald tells it.
func heralds(t *testing.T, entries []v1alpha1.BGPAnnouncement, node, svc map[string]string, peer string) map[int32]saying {
	one := func(s *metav1.LabelSelector) []metav1.LabelSelector {
		if s == nil {
			return nil
		}
		return []metav1.LabelSelector{*s}
	}
	out := map[int32]saying{}
	for _, e := range entries {
		if !anyOf(t, one(e.NodeSelector), node) || !anyOf(t, one(e.ServiceSelector), svc) || len(e.Peers) > 0 && !slices.Contains(e.Peers, peer) {
			continue
		}
		var communities []string
		for _, c := range e.Communities {
			communities = append(communities, string(c))
		}
		bits := e.AggregationLength
		if bits == 0 {
			bits = 32
		}
		out[bits] = out[bits].and(communities, orElse(e.LocalPref, 0))
	}
	return out
}

// From the same nodes, the same peers are told the same of the same Services.
func TestEntriesTellWhatTheirAdvertisementsDo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		in := &input{aliases: []alias{{name: "name", value: "65535:65281"}}}
		ads := make([]advertisement[bgpAdvertisementSpec], 1+rnd.IntN(3))
		for i := range ads {
			ads[i].spec = randomBGP(rnd)
		}
		entries := in.told(pool{}, ads)
		if lost := in.lostSince(0); len(lost) > 0 {
			continue // more than fit
		}
		for _, node := range universe() {
			for _, svc := range universe() {
				for _, peer := range []string{"p1", "p2", "p3", "p4"} {
					want, got := metallbs(t, ads, node, svc, peer), heralds(t, entries, node, svc, peer)
					if diff := cmp.Diff(want, got, cmp.AllowUnexported(saying{})); diff != "" {
						t.Fatalf("to %s of %v from %v (-MetalLB +Herald):\n%s\n%+v\n%+v", peer, svc, node, diff, ads, entries)
					}
				}
			}
		}
	}
}

// What comes of advertisements is valid for the schema and for Compile.
func TestEntriesAreValid(t *testing.T) {
	many := func(n int, format string) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(format, i))
		}
		return out
	}
	selectors := func(n int) (out []metav1.LabelSelector) {
		for _, key := range many(n, "key%d") {
			out = append(out, metav1.LabelSelector{MatchLabels: map[string]string{key: "yes"}})
		}
		return out
	}
	bits := func(n int32) *int32 { return &n }
	tests := []struct {
		name    string
		spec    bgpAdvertisementSpec
		entries int
		lost    string
	}{
		{"an empty one tells all peers all", bgpAdvertisementSpec{}, 1, ""},
		{"what is there twice is there once", bgpAdvertisementSpec{Peers: []string{"a", "a"}, Communities: []string{"1:1", "01:1"}}, 1, ""},
		{"more peers than fit are in a second entry", bgpAdvertisementSpec{Peers: many(130, "p%d")}, 3, ""},
		{"any of several selectors is an entry each", bgpAdvertisementSpec{NodeSelectors: selectors(3), ServiceSelectors: selectors(2)}, 6, ""},
		{"more entries than fit are left out", bgpAdvertisementSpec{NodeSelectors: selectors(17)}, 16, "there is room for 16"},
		{"more communities than fit leave all out", bgpAdvertisementSpec{Communities: many(65, "1:%d")}, 0, "has room for 64"},
		{"a community that nobody knows leaves all out", bgpAdvertisementSpec{Communities: []string{"1:1", "no-export"}}, 0, `"no-export" is no community`},
		{"prefixes that are too short are longer", bgpAdvertisementSpec{AggregationLength: bits(1), AggregationLengthV6: bits(15)}, 1, "not shorter than 16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &input{}
			ad := advertisement[bgpAdvertisementSpec]{spec: tt.spec}
			entries := in.told(pool{}, []advertisement[bgpAdvertisementSpec]{ad})
			in.noteBGP(ad, "AddressPool p")
			if len(entries) != tt.entries {
				t.Errorf("%d entries, want %d: %v", len(entries), tt.entries, entries)
			}
			if lost := strings.Join(in.lostSince(0), "\n"); !strings.Contains(lost, tt.lost) || (lost == "") != (tt.lost == "") {
				t.Errorf("lost is %q, want %q", lost, tt.lost)
			}
			pools := []v1alpha1.AddressPool{{Spec: v1alpha1.AddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.1"}, Announce: &v1alpha1.Announce{BGP: entries}}}}
			if _, problems := v1alpha1.Compile(pools, config.Config{}); len(problems) > 0 {
				t.Error(problems)
			}
			for _, bad := range beyondSchema(entries) {
				t.Error(bad)
			}
		})
	}
}

// beyondSchema returns what the API server would refuse though Compile does not.
func beyondSchema(entries []v1alpha1.BGPAnnouncement) (bad []string) {
	if len(entries) > 16 {
		bad = append(bad, "more than 16 entries")
	}
	for _, e := range entries {
		if len(e.Peers) > 64 || len(e.Communities) > 64 {
			bad = append(bad, "more than 64 peers or communities")
		}
		if set := slices.Compact(slices.Sorted(slices.Values(e.Peers))); len(set) < len(e.Peers) {
			bad = append(bad, "a peer is there twice")
		}
		if set := slices.Compact(slices.Sorted(slices.Values(e.Communities))); len(set) < len(e.Communities) {
			bad = append(bad, "a community is there twice")
		}
	}
	return bad
}

// withPool is a configuration of MetalLB's with one pool.
func withPool(objects ...string) File {
	const head = `{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"p"},"spec":{"addresses":["192.0.2.0/24"]}}`
	return File{"f", []byte(strings.Join(append([]string{head}, objects...), "\n"))}
}

// Which ways a pool is announced in follows from which advertisements select it.
func TestAPoolIsAnnouncedInTheWaysThatSelectIt(t *testing.T) {
	const (
		layer2 = `{"apiVersion":"metallb.io/v1beta1","kind":"L2Advertisement","metadata":{"name":"l2"}}`
		some   = `{"apiVersion":"metallb.io/v1beta1","kind":"L2Advertisement","metadata":{"name":"l2"},"spec":{"serviceSelectors":[{"matchLabels":{"a":"b"}}]}}`
		bgp    = `{"apiVersion":"metallb.io/v1beta1","kind":"BGPAdvertisement","metadata":{"name":"bgp"}}`
		other  = `{"apiVersion":"metallb.io/v1beta1","kind":"BGPAdvertisement","metadata":{"name":"bgp"},"spec":{"ipAddressPools":["q"]}}`
		odd    = `{"apiVersion":"metallb.io/v1beta1","kind":"BGPAdvertisement","metadata":{"name":"bgp"},"spec":{"communities":["odd"]}}`
		router = `{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"r"},"spec":{"myASN":1,"peerASN":2,"peerAddress":"192.0.2.1"}}`
		vrf    = `{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"v"},"spec":{"myASN":1,"peerASN":2,"peerAddress":"192.0.2.1","vrf":"red"}}`
		toVRF  = `{"apiVersion":"metallb.io/v1beta1","kind":"BGPAdvertisement","metadata":{"name":"bgp"},"spec":{"peers":["v"]}}`
	)
	tests := []struct {
		name    string
		objects []string
		layer2  bool
		bgp     int
		auto    bool
		note    string
	}{
		{"nothing", nil, false, 0, true, "no advertisement of the input selects this pool"},
		{"layer 2", []string{layer2}, true, 0, true, ""},
		{"BGP", []string{bgp, router}, false, 1, true, ""},
		{"both", []string{layer2, bgp, router}, true, 1, true, ""},
		{"BGP for another pool", []string{layer2, other, router}, true, 0, true, ""},
		{"BGP, and layer 2 for some Services", []string{some, bgp, router}, false, 1, true, ""},
		{"layer 2 for some Services", []string{some}, false, 0, false, "Herald announces this pool nowhere"},
		{"BGP with a community that nobody knows", []string{odd, router}, false, 0, false, "Herald announces this pool nowhere"},
		{"BGP to a VRF", []string{toVRF, vrf, router}, false, 1, false, "Herald announces this pool nowhere"},
		{"BGP to all, some in a VRF", []string{bgp, vrf, router}, false, 1, true, ""},
		{"BGP to all, which are in a VRF", []string{bgp, vrf}, false, 1, false, "Herald announces this pool nowhere"},
		{"BGP to nobody", []string{bgp}, false, 1, true, "no BGPPeer is in the input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Migrate([]File{withPool(tt.objects...)}, herald)
			if err != nil || len(r.Pools) != 1 {
				t.Fatal(r, err)
			}
			c, problems := v1alpha1.Compile([]v1alpha1.AddressPool{r.Pools[0].Object}, config.Config{})
			if p := c.Pools[0]; len(problems) > 0 || p.Layer2.Enabled != tt.layer2 || len(p.BGP) != tt.bgp || p.Auto != tt.auto {
				t.Errorf("layer 2 %t, %d entries of BGP, auto %t, problems %v; want %t, %d, %t",
					p.Layer2.Enabled, len(p.BGP), p.Auto, problems, tt.layer2, tt.bgp, tt.auto)
			}
			var said []string
			for _, n := range r.Notes {
				if n.Object == "IPAddressPool p" && n.Field == "" {
					said = append(said, n.Text)
				}
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, tt.note) || (all == "") != (tt.note == "") {
				t.Errorf("said is %q, want %q", all, tt.note)
			}
		})
	}
}

func TestReadCommunity(t *testing.T) {
	for text, want := range map[string]v1alpha1.Community{
		"65000:100": "65000:100", "0065:007": "65:7", "large:1:2:4294967295": "1:2:4294967295",
		"65536:1": "", "1": "", "1:2:3": "", "large:1:2": "", "large:1:2:4294967296": "", "small:1:2:3": "", "no-export": "", "": "", "1:-2": "",
	} {
		if got, ok := readCommunity(text); ok != (want != "") || ok && got != want {
			t.Errorf("readCommunity(%q) = %q, %t, want %q", text, got, ok, want)
		}
	}
}

func TestDisjointSelectorsMatchNothingTogether(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 3000 {
		both := append(randomSelectors(rnd), randomSelectors(rnd)...)
		if len(both) < 2 {
			continue
		}
		a, b := both[0], both[1]
		if !newTerm(a).disjoint(newTerm(b)) {
			continue
		}
		found++
		for _, of := range universe() {
			if anyOf(t, []metav1.LabelSelector{a}, of) && anyOf(t, []metav1.LabelSelector{b}, of) {
				t.Fatalf("%v and %v both match %v", a, b, of)
			}
		}
	}
	if found == 0 {
		t.Error("no two selectors were disjoint: nothing is tested")
	}
}
