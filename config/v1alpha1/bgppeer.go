package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
)

// A BGPPeer is a router that nodes tell, by BGP, which addresses they have.
//
// Nothing is learned from it: what it offers is refused.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name=ASN,type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name=Peer,type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name=Address,type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name=Interface,type=string,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name=Established,type=string,JSONPath=`.status.established`,description="Sessions that are established, of how many nodes"
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// A BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []BGPPeer `json:"items"`
}

// BGPPeerSpec is what a user wants of the sessions with a router.
//
// +kubebuilder:validation:XValidation:rule="(has(self.peerASN) ? 1 : 0) + (has(self.external) && self.external ? 1 : 0) + (has(self.internal) && self.internal ? 1 : 0) == 1",message="write the number of the router's autonomous system, peerASN, or else external: true or internal: true, and one of them only",fieldPath=".peerASN"
// +kubebuilder:validation:XValidation:rule="has(self.address) != has(self.interface)",message="write the router's address, or the interface that it is at the other end of, and one of them only",fieldPath=".address"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || duration(self.keepaliveTime) < duration(has(self.holdTime) ? self.holdTime : '90s')",message="is not shorter than holdTime: write a third of that, or leave it out",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule="!(has(self.ebgpMultihop) && self.ebgpMultihop && has(self.ttlSecurity) && self.ttlSecurity)",message="is for a router that is a neighbour, and ebgpMultihop for one that is not: leave one out",fieldPath=".ttlSecurity"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.address) || !isIP(self.sourceAddress) || !isIP(self.address) || ip(self.sourceAddress).family() == ip(self.address).family()",message="is of another family than address: write one of the same, or leave it out",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.interface) || !isIP(self.sourceAddress) || ip(self.sourceAddress).family() == 6",message="cannot speak to the link-local address at the other end of interface: write an IPv6 address, or leave it out",fieldPath=".sourceAddress"
type BGPPeerSpec struct {
	// MyASN is the number of the autonomous system that the nodes are in.
	//
	// +required
	MyASN ASN `json:"myASN"`

	// PeerASN is the number of that which the router is in.
	//
	// +optional
	PeerASN ASN `json:"peerASN,omitempty"`

	// External takes any router of another autonomous system for the right one.
	//
	// +optional
	External bool `json:"external,omitempty"`

	// Internal takes a router of the nodes' own autonomous system.
	//
	// +optional
	Internal bool `json:"internal,omitempty"`

	// LocalASN is shown to this router in place of MyASN.
	//
	// +optional
	LocalASN ASN `json:"localASN,omitempty"`

	// Address is that of the router.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is no address: write one like 192.0.2.1 or 2001:db8::1, without spaces, zones and IPv4 inside IPv6; for a link-local one write interface"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).family() == 4 || !ip(self).isLinkLocalUnicast()",message="is link-local, which any link may have: write interface instead"
	Address string `json:"address,omitempty"`

	// Interface is that of the node which the router is at the other end of: the
	// session is over link-local addresses (unnumbered).
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="!self.matches('[/\\\\s]')",message="no interface has a name with a slash or a space: write a name like eth1"
	Interface string `json:"interface,omitempty"`

	// Port is the TCP port that the router listens on.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// SourceAddress is the address of the node to speak from. Without it the
	// kernel chooses.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is no address: write one like 192.0.2.11 or 2001:db8::11, without spaces and zones"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// RouterID is the BGP identifier of the node, written as an IPv4 address. Without it
	// it is the first IPv4 address of the node or, where that has none, made from
	// its name. It makes sense for a BGPPeer of one node only.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",message="is no BGP identifier: write an IPv4 address, but not 0.0.0.0"
	RouterID string `json:"routerID,omitempty"`

	// PasswordSecretRef names the Secret that has the TCP-MD5 password of the sessions.
	//
	// +optional
	PasswordSecretRef *SecretKeyReference `json:"passwordSecretRef,omitempty"`

	// HoldTime is after which silence a session is over: 0s for never, or 3s to
	// 65535s. The shorter one of both ends counts.
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && (duration(self) == duration('0s') || duration(self) >= duration('3s') && duration(self) <= duration('65535s'))",message="is no hold time: write 0s, or 3s to 65535s, as in 9s or 1m30s"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// KeepaliveTime is how often a node says that it is there. Without it it is a
	// third of HoldTime.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && duration(self) >= duration('1s') && duration(self) <= duration('21845s')",message="is no time from 1s to 21845s: write it as in 3s or 1m"
	KeepaliveTime metav1.Duration `json:"keepaliveTime,omitzero"`

	// ConnectRetry is how long a node waits, about, before it tries to connect again.
	//
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && duration(self) >= duration('1s') && duration(self) <= duration('65535s')",message="is no time from 1s to 65535s: write it as in 5s or 2m"
	ConnectRetry metav1.Duration `json:"connectRetry,omitzero"`

	// EBGPMultihop lets a router of another autonomous system be farther away than
	// the next hop.
	//
	// +optional
	EBGPMultihop bool `json:"ebgpMultihop,omitempty"`

	// TTLSecurity hears only a router that is a neighbour, by the TTL of its packets
	// (GTSM, RFC 5082). The router has to send them with 255, which it does when it
	// is told the same.
	//
	// +optional
	TTLSecurity bool `json:"ttlSecurity,omitempty"`

	// BFD has the sessions be over as soon as BFD misses the router.
	//
	// +optional
	BFD *BFDSpec `json:"bfd,omitempty"`

	// GracefulRestart is for how long the router keeps the routes of a node whose
	// speaker restarts (RFC 4724). Without it it does not.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && duration(self) >= duration('1s') && duration(self) <= duration('4095s')",message="is no time from 1s to 4095s: write it as in 120s or 2m"
	GracefulRestart metav1.Duration `json:"gracefulRestart,omitzero"`

	// NodeSelector selects, by their labels, the nodes that have a session with
	// the router. Without it all have.
	//
	// +optional
	NodeSelector *Selector `json:"nodeSelector,omitempty"`

	// Families are those of the addresses that the router is told.
	//
	// +optional
	// +kubebuilder:default={IPv4,IPv6}
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Families []Family `json:"families,omitempty"`
}

// An ASN is the number of an autonomous system.
//
// +kubebuilder:validation:Minimum=1
// +kubebuilder:validation:Maximum=4294967295
type ASN int64

// A SecretKeyReference names a key of a Secret in Herald's namespace.
type SecretKeyReference struct {
	// Name is that of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key is where in it the password stands.
	//
	// +optional
	// +kubebuilder:default=password
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// BFDSpec says how BFD watches a router.
type BFDSpec struct {
	// Interval is that of the packets in both directions, from 10ms to 60s.
	//
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m))+$') && duration(self) >= duration('10ms') && duration(self) <= duration('60s')",message="is no time from 10ms to 60s: write it as in 100ms or 1s"
	Interval metav1.Duration `json:"interval,omitzero"`
	// Multiplier is how many packets in a row have to be missing.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	Multiplier int32 `json:"multiplier,omitempty"`
}

// BGPPeerStatus is how the sessions with a router stand.
type BGPPeerStatus struct {
	// Established is how many sessions are established, of how many: 2/3.
	//
	// +optional
	Established string `json:"established,omitempty"`
	// Conditions are Ready: whether the peer is in use as it is written, and all
	// nodes that should have a session with it.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The values of fields that are not written, as the schema has them.
const (
	defaultPort         = 179
	defaultHoldTime     = 90 * time.Second
	defaultConnectRetry = 5 * time.Second
	defaultBFDInterval  = 300 * time.Millisecond
	defaultMultiplier   = 3
	defaultKey          = "password"
)

// CompilePeers returns the peers that objects describe, and what of them is not in
// use as written, by Object. One with a field that cannot be read stays as it is in
// last, the peers that were in use until now; if it is not there, it is left out.
func CompilePeers(objects []BGPPeer, last []config.Peer) ([]config.Peer, []config.Problem) {
	var peers []config.Peer
	var problems []config.Problem
	for i := range objects {
		p, bad := compilePeer(&objects[i])
		problems = append(problems, bad...)
		if len(bad) > 0 {
			at := slices.IndexFunc(last, func(was config.Peer) bool { return was.Name == p.Name })
			if at < 0 {
				continue
			}
			p = last[at]
		}
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b config.Peer) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(problems, func(a, b config.Problem) int { return strings.Compare(a.Object, b.Object) })
	return peers, problems
}

// compilePeer reads o. The peer is usable only if there is no problem.
func compilePeer(o *BGPPeer) (config.Peer, []config.Problem) {
	r := reader{object: o.Name}
	s := &o.Spec
	p := config.Peer{
		Name:            o.Name,
		LocalASN:        r.asn("spec.myASN", s.MyASN, true),
		PeerASN:         r.asn("spec.peerASN", s.PeerASN, false),
		External:        s.External,
		Internal:        s.Internal,
		Addr:            r.addr("spec.address", s.Address),
		Interface:       s.Interface,
		Port:            uint16(within(&r, "spec.port", orDefault(s.Port, defaultPort), 1, 65535)),
		Source:          r.addr("spec.sourceAddress", s.SourceAddress),
		RouterID:        r.addr("spec.routerID", s.RouterID),
		HoldTime:        r.holdTime(s.HoldTime),
		Keepalive:       r.seconds("spec.keepaliveTime", s.KeepaliveTime.Duration, 21845*time.Second),
		ConnectRetry:    r.seconds("spec.connectRetry", orDefault(s.ConnectRetry.Duration, defaultConnectRetry), 65535*time.Second),
		Multihop:        s.EBGPMultihop,
		TTLSecurity:     s.TTLSecurity,
		GracefulRestart: r.seconds("spec.gracefulRestart", s.GracefulRestart.Duration, 4095*time.Second),
		NodeSelector:    r.selector("spec.nodeSelector", s.NodeSelector),
	}
	if own := r.asn("spec.localASN", s.LocalASN, false); own != 0 {
		p.LocalASN = own
	}
	r.whichASN(s)
	if (s.Address == "") == (s.Interface == "") {
		r.invalid("spec.address", "write the router's address, or the interface that it is at the other end of, and one of them only")
	}
	if p.Addr.Is6() && p.Addr.IsLinkLocalUnicast() {
		r.invalid("spec.address", fmt.Sprintf("%s is link-local, which any link may have: write interface instead", p.Addr))
	}
	if strings.ContainsAny(s.Interface, "/ \t\r\n\v\f") || len(s.Interface) > 15 {
		r.invalid("spec.interface", fmt.Sprintf("%q is no interface: write a name like eth1", s.Interface))
	}
	if p.RouterID.IsValid() && (!p.RouterID.Is4() || p.RouterID.IsUnspecified()) {
		r.invalid("spec.routerID", fmt.Sprintf("%s is no BGP identifier: write an IPv4 address, but not 0.0.0.0", p.RouterID))
	}
	if p.Source.IsValid() && p.Addr.IsValid() && p.Source.Is4() != p.Addr.Is4() {
		r.invalid("spec.sourceAddress", fmt.Sprintf("%s is of another family than address: write one of the same, or leave it out", p.Source))
	}
	if p.Source.Is4() && s.Interface != "" {
		r.invalid("spec.sourceAddress", fmt.Sprintf("%s cannot speak to the link-local address at the other end of interface: write an IPv6 address, or leave it out", p.Source))
	}
	if p.Keepalive > 0 && p.Keepalive >= p.HoldTime {
		r.invalid("spec.keepaliveTime", fmt.Sprintf("%s is not shorter than holdTime: write a third of that, or leave it out", p.Keepalive))
	}
	if p.Keepalive == 0 {
		p.Keepalive = (p.HoldTime / 3).Truncate(time.Second)
	}
	if p.Multihop && p.TTLSecurity {
		r.invalid("spec.ttlSecurity", "is for a router that is a neighbour, and ebgpMultihop for one that is not: leave one out")
	}
	if ref := s.PasswordSecretRef; ref != nil {
		p.Secret, p.SecretKey = ref.Name, orDefault(ref.Key, defaultKey)
		if ref.Name == "" {
			r.invalid("spec.passwordSecretRef.name", "is empty: write the name of a Secret in Herald's namespace")
		}
	}
	if b := s.BFD; b != nil {
		p.BFDInterval = orDefault(b.Interval.Duration, defaultBFDInterval)
		if p.BFDInterval < 10*time.Millisecond || p.BFDInterval > time.Minute {
			r.invalid("spec.bfd.interval", fmt.Sprintf("%s is no time from 10ms to 60s: write it as in 100ms or 1s", p.BFDInterval))
		}
		p.BFDMultiplier = uint8(within(&r, "spec.bfd.multiplier", orDefault(b.Multiplier, defaultMultiplier), 2, 255))
	}
	p.V4, p.V6 = r.peerFamilies(s.Families)
	return p, r.problems
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func within(r *reader, field string, n, least, most int32) int32 {
	if n < least || n > most {
		r.invalid(field, fmt.Sprintf("%d is no number from %d to %d", n, least, most))
	}
	return n
}

func (r *reader) asn(field string, n ASN, required bool) uint32 {
	if n < 0 || n > 1<<32-1 || n == 0 && required {
		r.invalid(field, fmt.Sprintf("%d is no number of an autonomous system: write one from 1 to 4294967295", n))
		return 0
	}
	return uint32(n)
}

// whichASN reads which autonomous system the router may be of.
func (r *reader) whichASN(s *BGPPeerSpec) {
	ways := 0
	for _, is := range []bool{s.PeerASN != 0, s.External, s.Internal} {
		if is {
			ways++
		}
	}
	if ways != 1 {
		r.invalid("spec.peerASN", "write the number of the router's autonomous system, peerASN, or else external: true or internal: true, and one of them only")
	}
}

// addr reads an address; "" is none.
func (r *reader) addr(field, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		r.invalid(field, fmt.Sprintf("%q is no address: write one like 192.0.2.1 or 2001:db8::1, without spaces, zones and IPv4 inside IPv6", text))
		return netip.Addr{}
	}
	return a
}

func (r *reader) holdTime(d *metav1.Duration) time.Duration {
	switch {
	case d == nil:
		return defaultHoldTime
	case d.Duration != 0 && (d.Duration < 3*time.Second || d.Duration > 65535*time.Second) || d.Duration%time.Second != 0:
		r.invalid("spec.holdTime", fmt.Sprintf("%s is no hold time: write 0s, or 3s to 65535s, as in 9s or 1m30s", d.Duration))
	}
	return d.Duration
}

// seconds reads a time of whole seconds up to most; 0 is none.
func (r *reader) seconds(field string, d, most time.Duration) time.Duration {
	if d < 0 || d > most || d%time.Second != 0 {
		r.invalid(field, fmt.Sprintf("%s is no time from 1s to %.0fs: write it in whole seconds, as in 5s or 2m", d, most.Seconds()))
	}
	return d
}

func (r *reader) peerFamilies(list []Family) (v4, v6 bool) {
	for i, f := range list {
		switch {
		case slices.Contains(list[:i], f) || f != FamilyIPv4 && f != FamilyIPv6:
			r.invalid(fmt.Sprintf("spec.families[%d]", i), fmt.Sprintf("%q is not known, or is there twice: write IPv4, IPv6 or both", string(f)))
		case f == FamilyIPv4:
			v4 = true
		default:
			v6 = true
		}
	}
	return v4 || len(list) == 0, v6 || len(list) == 0
}
