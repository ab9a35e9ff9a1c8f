package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// A SpeakerStatus says how the speaker of one node is. It has the name of the
// Node and goes with it. The speaker writes it; nobody else need.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=speakerstatuses,shortName=speaker
// +kubebuilder:printcolumn:name=Path,type=string,JSONPath=`.status.dataPath`,description="What steers on the node"
// +kubebuilder:printcolumn:name=Peers,type=string,JSONPath=`.status.reached`,description="Speakers of other nodes that answer by BFD, of all"
// +kubebuilder:printcolumn:name=Routers,type=string,JSONPath=`.status.established`,description="BGP sessions that are established, of all"
// +kubebuilder:printcolumn:name=Announced,type=integer,JSONPath=`.status.announced`,description="Addresses that the node answers for"
// +kubebuilder:printcolumn:name=Conflicts,type=integer,JSONPath=`.status.conflicted`,description="Addresses that another host has, too"
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type SpeakerStatus struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +optional
	Status SpeakerReport `json:"status,omitzero"`
}

// A SpeakerStatusList is a list of SpeakerStatuses.
//
// +kubebuilder:object:root=true
type SpeakerStatusList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []SpeakerStatus `json:"items"`
}

// A SpeakerReport is what a speaker says of itself.
type SpeakerReport struct {
	// DataPath is what steers: ipvs, nft, or none.
	//
	// +optional
	DataPath string `json:"dataPath,omitempty"`
	// Lacks says why the node cannot steer as well as others can.
	//
	// +optional
	// +listType=atomic
	Lacks []string `json:"lacks,omitempty"`
	// Draining is whether the node announces what a drained one does: only what no
	// other can.
	//
	// +optional
	Draining bool `json:"draining,omitempty"`
	// Links are the network interfaces that the node can announce on.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Links []SpeakerLink `json:"links,omitempty"`
	// Peers are the speakers of the other nodes, as far as they speak BFD.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	Peers []SpeakerPeer `json:"peers,omitempty"`
	// Reached is how many of Peers answer, of how many: 2/2.
	//
	// +optional
	Reached string `json:"reached,omitempty"`
	// Routers are the BGP sessions of the node.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	Routers []SpeakerRouter `json:"routers,omitempty"`
	// Established is how many of Routers are, of how many: 2/2.
	//
	// +optional
	Established string `json:"established,omitempty"`
	// Told are the addresses that routers are told by sessions that are
	// established: single ones, and ranges.
	//
	// +optional
	// +listType=atomic
	Told []string `json:"told,omitempty"`
	// Announced is how many addresses the node answers for.
	//
	// +optional
	Announced int32 `json:"announced"`
	// Addresses are these.
	//
	// +optional
	// +listType=atomic
	Addresses []AnnouncedAddress `json:"addresses,omitempty"`
	// Conflicted is how many Conflicts there are.
	//
	// +optional
	Conflicted int32 `json:"conflicted"`
	// Conflicts are the addresses that the node should answer for, and that
	// another host has.
	//
	// +optional
	// +listType=atomic
	Conflicts []AddressConflict `json:"conflicts,omitempty"`
}

// A SpeakerLink is a network interface.
type SpeakerLink struct {
	Name string `json:"name"`
	// +optional
	MAC string `json:"mac,omitempty"`
	// Addresses are those of the node there, with the length of their subnets.
	//
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
	// Unsteady is whether it comes and goes: it announces only what no other node
	// can.
	//
	// +optional
	Unsteady bool `json:"unsteady,omitempty"`
}

// A SpeakerRouter is a BGP session with a router.
type SpeakerRouter struct {
	// Peer is the name of the BGPPeer.
	Peer string `json:"peer"`
	// Address is that of the router.
	//
	// +optional
	Address string `json:"address,omitempty"`
	// State is that of the session: idle, connect, active, opensent, openconfirm or
	// established.
	State string `json:"state"`
	// Since is when that began.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// ASN is the number of the autonomous system that the router says it is in.
	//
	// +optional
	ASN int64 `json:"asn,omitempty"`
	// Routes is how many routes the router was told.
	//
	// +optional
	Routes int32 `json:"routes,omitempty"`
	// Losses is how often the session was lost.
	//
	// +optional
	Losses int32 `json:"losses,omitempty"`
	// BFD is the state of the BFD session that watches it: up, down, init or
	// admin-down; empty if there is none.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`
	// Error is what went wrong last, or is wrong though the session is established, and
	// what to do.
	//
	// +optional
	Error string `json:"error,omitempty"`
}

// A SpeakerPeer is a BFD session with the speaker of another node.
type SpeakerPeer struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	// State is that of the session: up, down, init or admin-down.
	State string `json:"state"`
	// Since is when that began.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`
	// Deaf is whether it is heard, and does not hear this one.
	//
	// +optional
	Deaf bool `json:"deaf,omitempty"`
	// Losses is how often the session was lost.
	//
	// +optional
	Losses int32 `json:"losses,omitempty"`
	// Error is what went wrong last, while the session is not up.
	//
	// +optional
	Error string `json:"error,omitempty"`
}

// An AnnouncedAddress is an address that a node answers for.
type AnnouncedAddress struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	// Since is when the node took it, by its own clock.
	Since metav1.MicroTime `json:"since"`
}

// An AddressConflict is an address that another host has.
type AddressConflict struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	// MAC is the hardware address of the other host.
	MAC string `json:"mac"`
	// Node is where it is the speaker; empty if it is none.
	//
	// +optional
	Node string `json:"node,omitempty"`
	// Answered is whether this node answers for the address all the same.
	//
	// +optional
	Answered bool `json:"answered,omitempty"`
	// Since is when it was first seen there.
	Since metav1.Time `json:"since"`
}
