package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
)

// A BGPAnnouncement says which routers are told which addresses, and how.
type BGPAnnouncement struct {
	// Peers are the names of the BGPPeers to tell. Without them it is all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`

	// NodeSelector selects, by their labels, the nodes that tell it. Without it
	// all do that can serve the address.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// ServiceSelector selects, by their labels, the Services whose addresses are
	// told. Without it those of all are.
	//
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`

	// AggregationLength is the length of the prefixes that IPv4 addresses are
	// told as a part of. A router sends everything for such a prefix to the nodes
	// that serve any address of it.
	//
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=32
	AggregationLength int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is that of IPv6 addresses.
	//
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 int32 `json:"aggregationLengthV6,omitempty"`

	// Communities are told with the routes.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Communities []Community `json:"communities,omitempty"`

	// LocalPref is the local preference of the routes, for routers of the nodes'
	// own autonomous system: they like the highest.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`

	// MED is the metric of the routes among those of one autonomous system:
	// routers like the lowest.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`
}

// A Community is a standard BGP community (RFC 1997) as 65000:100, a large one
// (RFC 8092) as 65000:1:2, or the name of a well-known one.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self in ['no-export', 'no-advertise', 'no-export-subconfed', 'no-peer', 'blackhole', 'graceful-shutdown', 'accept-own'] || self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) <= 65535) || self.matches('^[0-9]{1,10}(:[0-9]{1,10}){2}$') && self.split(':').all(n, int(n) <= 4294967295)",message="is no community: write 65000:100, 65000:1:2 for a large one, or one of no-export, no-advertise, no-export-subconfed, no-peer, blackhole, graceful-shutdown, accept-own"
type Community string

// wellKnown are the communities that have names (IANA, "BGP Well-known
// Communities").
var wellKnown = map[Community]uint32{
	"graceful-shutdown":   0xffff0000, // RFC 8326
	"accept-own":          0xffff0001, // RFC 7611
	"blackhole":           0xffff029a, // RFC 7999
	"no-export":           0xffffff01, // RFC 1997
	"no-advertise":        0xffffff02,
	"no-export-subconfed": 0xffffff03,
	"no-peer":             0xffffff04, // RFC 3765
}

func (r *reader) bgp(a *Announce) (out []config.BGP) {
	if a == nil {
		return nil
	}
	for i, o := range a.BGP {
		field := func(name string) string { return fmt.Sprintf("spec.announce.bgp[%d].%s", i, name) }
		b := config.BGP{
			Peers:           slices.Sorted(slices.Values(o.Peers)),
			NodeSelector:    r.labels(field("nodeSelector"), o.NodeSelector),
			ServiceSelector: r.labels(field("serviceSelector"), o.ServiceSelector),
			LengthV4:        int(within(r, field("aggregationLength"), orDefault(o.AggregationLength, 32), 8, 32)),
			LengthV6:        int(within(r, field("aggregationLengthV6"), orDefault(o.AggregationLengthV6, 128), 16, 128)),
			LocalPref:       r.metric(field("localPref"), o.LocalPref),
			MED:             r.metric(field("med"), o.MED),
		}
		for j, c := range o.Communities {
			standard, large, ok := readCommunity(c)
			switch {
			case !ok:
				r.invalid(fmt.Sprintf("%s[%d]", field("communities"), j),
					fmt.Sprintf("%q is no community: write 65000:100, 65000:1:2 for a large one, or one of %s", string(c), wellKnownNames()))
			case large != nil:
				b.Large = append(b.Large, *large)
			default:
				b.Communities = append(b.Communities, standard)
			}
		}
		slices.Sort(b.Communities)
		b.Communities = slices.Compact(b.Communities)
		slices.SortFunc(b.Large, func(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) })
		b.Large = slices.Compact(b.Large)
		out = append(out, b)
	}
	return out
}

func wellKnownNames() string {
	names := make([]string, 0, len(wellKnown))
	for n := range wellKnown {
		names = append(names, string(n))
	}
	slices.SortFunc(names, cmp.Compare)
	return strings.Join(names, ", ")
}

func (r *reader) metric(field string, n *int64) *uint32 {
	if n == nil {
		return nil
	}
	if *n < 0 || *n > 1<<32-1 {
		r.invalid(field, fmt.Sprintf("%d is no number from 0 to 4294967295", *n))
		return nil
	}
	m := uint32(*n)
	return &m
}

// readCommunity reads a community: large is nil unless it is one.
func readCommunity(c Community) (standard uint32, large *[3]uint32, ok bool) {
	if n, known := wellKnown[c]; known {
		return n, nil, true
	}
	parts := strings.Split(string(c), ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return 0, nil, false
	}
	var numbers [3]uint32
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return 0, nil, false
		}
		numbers[i] = uint32(n)
	}
	if len(parts) == 2 {
		return numbers[0]<<16 | numbers[1], nil, true
	}
	return 0, &numbers, true
}
