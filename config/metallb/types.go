package metallb

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The types of MetalLB's API, group metallb.io: IPAddressPool, L2Advertisement,
// BGPAdvertisement, BFDProfile and Community as of v1beta1, BGPPeer as of
// v1beta2, which has all fields of v1beta1.
//
// Of what has no equivalent yet, the tags say what a field means, what it will
// become, and its default if that is not the zero value. A field that must not
// be shown is secret.

// A resource is an object of the API with a spec of type S.
type resource[S any] struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            S                 `json:"spec"`
	Status          json.RawMessage   `json:"status"`
}

type poolSpec struct {
	Addresses         []string           `json:"addresses"`
	AutoAssign        *bool              `json:"autoAssign"`
	AvoidBuggyIPs     *bool              `json:"avoidBuggyIPs"`
	ServiceAllocation *serviceAllocation `json:"serviceAllocation"`
}

type serviceAllocation struct {
	Priority           int64                  `json:"priority"`
	Namespaces         []string               `json:"namespaces"`
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors"`
	ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors"`
}

// oldPoolSpec is the spec of AddressPool, the kind before IPAddressPool, and,
// with other names, what the ConfigMap before that had. Such a pool is not
// selected by advertisements but has its own.
type oldPoolSpec struct {
	Addresses         []string              `json:"addresses"`
	AutoAssign        *bool                 `json:"autoAssign"`
	AvoidBuggyIPs     *bool                 `json:"avoidBuggyIPs"`
	Protocol          string                `json:"protocol"`
	BGPAdvertisements []oldBGPAdvertisement `json:"bgpAdvertisements"`
}

type oldBGPAdvertisement struct {
	AggregationLength   *int32   `json:"aggregationLength" means:"the length of the IPv4 prefixes to announce" becomes:"AddressPool spec.announce.bgp[].aggregationLength" default:"32"`
	AggregationLengthV6 *int32   `json:"aggregationLengthV6" means:"the length of the IPv6 prefixes to announce" becomes:"AddressPool spec.announce.bgp[].aggregationLengthV6" default:"128"`
	LocalPref           uint32   `json:"localPref" means:"LOCAL_PREF" becomes:"AddressPool spec.announce.bgp[].localPref"`
	Communities         []string `json:"communities" means:"communities to announce with" becomes:"AddressPool spec.announce.bgp[].communities"`
}

type layer2Spec struct {
	IPAddressPools         []string               `json:"ipAddressPools"`
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
	Interfaces             []string               `json:"interfaces"`
	ServiceSelectors       []metav1.LabelSelector `json:"serviceSelectors"`
	PreferredNodeSelectors []preferredNode        `json:"preferredNodeSelectors"`
}

type preferredNode struct {
	Weight     int32                `json:"weight"`
	Preference metav1.LabelSelector `json:"preference"`
}

type bgpAdvertisementSpec struct {
	AggregationLength      *int32                 `json:"aggregationLength" means:"the length of the IPv4 prefixes to announce" becomes:"AddressPool spec.announce.bgp[].aggregationLength" default:"32"`
	AggregationLengthV6    *int32                 `json:"aggregationLengthV6" means:"the length of the IPv6 prefixes to announce" becomes:"AddressPool spec.announce.bgp[].aggregationLengthV6" default:"128"`
	LocalPref              uint32                 `json:"localPref" means:"LOCAL_PREF" becomes:"AddressPool spec.announce.bgp[].localPref"`
	Communities            []string               `json:"communities" means:"communities to announce with" becomes:"AddressPool spec.announce.bgp[].communities"`
	IPAddressPools         []string               `json:"ipAddressPools" means:"the pools to announce" becomes:"AddressPool spec.announce.bgp of these pools"`
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors" means:"the pools to announce" becomes:"AddressPool spec.announce.bgp of these pools"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors" means:"the nodes to announce from" becomes:"AddressPool spec.announce.bgp[].nodeSelector"`
	Peers                  []string               `json:"peers" means:"the peers to announce to" becomes:"AddressPool spec.announce.bgp[].peers"`
	ServiceSelectors       []metav1.LabelSelector `json:"serviceSelectors" means:"the Services to announce" becomes:"AddressPool spec.announce.bgp[].serviceSelector"`
}

type bgpPeerSpec struct {
	MyASN                  uint32                 `json:"myASN" means:"the AS number of the cluster's end" becomes:"BGPPeer spec.myASN"`
	PeerASN                uint32                 `json:"peerASN" means:"the AS number of the peer" becomes:"BGPPeer spec.peerASN"`
	LocalASN               uint32                 `json:"localASN" means:"the AS number shown to the peer" becomes:"BGPPeer spec.localASN"`
	DynamicASN             string                 `json:"dynamicASN" means:"take the peer's AS number as it comes" becomes:"BGPPeer spec.external or spec.internal"`
	PeerAddress            string                 `json:"peerAddress" means:"the address of the peer" becomes:"BGPPeer spec.address"`
	Interface              string                 `json:"interface" means:"the interface of an unnumbered session" becomes:"BGPPeer spec.interface"`
	SourceAddress          string                 `json:"sourceAddress" means:"the address to connect from" becomes:"BGPPeer spec.sourceAddress"`
	PeerPort               uint16                 `json:"peerPort" means:"the port of the peer" becomes:"BGPPeer spec.port" default:"179"`
	HoldTime               string                 `json:"holdTime" means:"the hold time to propose" becomes:"BGPPeer spec.holdTime"`
	KeepaliveTime          string                 `json:"keepaliveTime" means:"the interval of KEEPALIVEs" becomes:"BGPPeer spec.keepaliveTime"`
	ConnectTime            string                 `json:"connectTime" means:"the pause between attempts to connect" becomes:"BGPPeer spec.connectRetry"`
	RouterID               string                 `json:"routerID" means:"the BGP identifier of the cluster's end" becomes:"BGPPeer spec.routerID"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors" means:"the nodes that peer" becomes:"BGPPeer spec.nodeSelector"`
	Password               string                 `json:"password" secret:"true" means:"the TCP-MD5 password" becomes:"a Secret that BGPPeer spec.passwordSecretRef names"`
	PasswordSecret         *secretReference       `json:"passwordSecret" means:"the Secret with the TCP-MD5 password" becomes:"BGPPeer spec.passwordSecretRef"`
	BFDProfile             string                 `json:"bfdProfile" means:"the BFDProfile of the session" becomes:"BGPPeer spec.bfd"`
	EnableGracefulRestart  bool                   `json:"enableGracefulRestart" means:"the peer keeps routes while the speaker restarts" becomes:"BGPPeer spec.gracefulRestart"`
	EBGPMultiHop           bool                   `json:"ebgpMultiHop" means:"the peer is more than one hop away" becomes:"BGPPeer spec.ebgpMultihop"`
	VRF                    string                 `json:"vrf" means:"the VRF of the host to peer from" becomes:"nothing, as far as is planned: name an address of the VRF in BGPPeer spec.sourceAddress"`
	DisableMP              bool                   `json:"disableMP" means:"one address family a session" becomes:"BGPPeer spec.families"`
	DualStackAddressFamily bool                   `json:"dualStackAddressFamily" means:"both address families on one session" becomes:"BGPPeer spec.families"`
}

type secretReference struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type bfdProfileSpec struct {
	ReceiveInterval  *uint32 `json:"receiveInterval" means:"milliseconds between packets it takes" becomes:"BGPPeer spec.bfd.interval" default:"300"`
	TransmitInterval *uint32 `json:"transmitInterval" means:"milliseconds between packets it sends" becomes:"BGPPeer spec.bfd.interval" default:"300"`
	DetectMultiplier *uint32 `json:"detectMultiplier" means:"packets that may be lost" becomes:"BGPPeer spec.bfd.multiplier" default:"3"`
	EchoInterval     *uint32 `json:"echoInterval" means:"milliseconds between echoes" becomes:"nothing, as far as is planned: Herald's BFD has no echo" default:"50"`
	EchoMode         *bool   `json:"echoMode" means:"send echoes" becomes:"nothing, as far as is planned: Herald's BFD has no echo" default:"false"`
	PassiveMode      *bool   `json:"passiveMode" means:"wait for the peer to begin" becomes:"nothing, as far as is planned: Herald's BFD begins by itself" default:"false"`
	MinimumTTL       *uint32 `json:"minimumTtl" means:"the lowest TTL of packets from several hops away" becomes:"BGPPeer spec.ttlSecurity"`
}

type communitySpec struct {
	Communities []communityAlias `json:"communities" means:"names for communities" becomes:"the values themselves in AddressPool spec.announce.bgp[].communities"`
}

type communityAlias struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
