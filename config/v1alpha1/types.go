package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// An AddressPool is a set of addresses for Services of type LoadBalancer, and
// the rules for giving them out and making them known.
//
// Pools do not overlap: an address that two pools list belongs to the older of
// them. An address that a Service has does not change when its pool does.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool
// +kubebuilder:printcolumn:name=Addresses,type=string,priority=1,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name=Assign,type=string,JSONPath=`.spec.assign`
// +kubebuilder:printcolumn:name=Total,type=integer,JSONPath=`.status.ipv4.total`,description="IPv4 addresses in the pool"
// +kubebuilder:printcolumn:name=Assigned,type=integer,JSONPath=`.status.ipv4.assigned`,description="IPv4 addresses that Services and AddressClaims have"
// +kubebuilder:printcolumn:name=Free,type=integer,JSONPath=`.status.ipv4.free`,description="IPv4 addresses to be given out"
// +kubebuilder:printcolumn:name=Assigned6,type=integer,JSONPath=`.status.ipv6.assigned`,description="IPv6 addresses that Services and AddressClaims have"
// +kubebuilder:printcolumn:name=Free6,type=integer,priority=1,JSONPath=`.status.ipv6.free`,description="IPv6 addresses to be given out"
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type AddressPool struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// +required
	Spec AddressPoolSpec `json:"spec"`
	// +optional
	Status AddressPoolStatus `json:"status,omitzero"`
}

// An AddressPoolList is a list of AddressPools.
//
// +kubebuilder:object:root=true
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []AddressPool `json:"items"`
}

// AddressPoolSpec is what a user wants of a pool.
//
// +kubebuilder:validation:XValidation:rule="!has(self.schedulerFlags) || self.schedulerFlags.all(f, has(self.scheduler) && f.startsWith(self.scheduler + '-'))",message="are those of sh and mh, each for its own: write scheduler: sh with sh-port and sh-fallback, scheduler: mh with mh-port and mh-fallback, or leave them out",fieldPath=".schedulerFlags"
type AddressPoolSpec struct {
	// Addresses are the pool's addresses, of one family or of both: CIDRs
	// (192.0.2.0/24), ranges (192.0.2.10-192.0.2.20) and single addresses.
	// All addresses of a CIDR count, the first and the last included.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Addresses []AddressRange `json:"addresses"`

	// Exclude are addresses that the pool does not give out although Addresses
	// list them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Exclude []AddressRange `json:"exclude,omitempty"`

	// Assign says who gets an address of this pool. Auto: every Service that
	// the selectors match. OnRequest: of these, only Services that ask for the
	// pool (herald-lb.io/pool) or for an address of it (herald-lb.io/addresses).
	//
	// +optional
	// +kubebuilder:default=Auto
	Assign Assign `json:"assign,omitempty"`

	// Priority orders pools: of those that could serve a Service the one with
	// the highest priority does, among equals the first by name.
	//
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// SkipFirstLast keeps IPv4 addresses that end in .0 or .255 from being
	// given out: some old routers and hosts take them for the address of a
	// network or for a broadcast, and drop what is sent to them.
	//
	// +optional
	SkipFirstLast bool `json:"skipFirstLast,omitempty"`

	// QuotaPerNamespace is how many addresses of this pool the Services and
	// AddressClaims of one namespace may have. An address that several of them
	// share counts once. Without it there is no limit. Nobody loses an address
	// when it is lowered.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	QuotaPerNamespace int32 `json:"quotaPerNamespace,omitempty"`

	// ReuseAfter is how long an address rests once it is freed, before another
	// Service may have it: until then clients may still have the old one in
	// their caches. A Service of the same namespace and name has it back at
	// once. In hours, minutes and seconds, as in 10m or 24h; at most 720h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && duration(self) <= duration('720h')",message="is no time from 0s to 720h: write hours, minutes and seconds, as in 10m, 24h or 1h30m"
	ReuseAfter metav1.Duration `json:"reuseAfter,omitzero"`

	// OnShrink says what becomes of a Service whose address no pool lists any
	// more. Keep: it keeps the address, until it asks for another one.
	// Reassign: it moves here, if this pool may serve it and has a free address.
	//
	// +optional
	// +kubebuilder:default=Keep
	OnShrink OnShrink `json:"onShrink,omitempty"`

	// NamespaceSelector selects, by their labels, the namespaces whose Services
	// and AddressClaims may take from this pool. Without it all may.
	//
	// +optional
	NamespaceSelector *Selector `json:"namespaceSelector,omitempty"`

	// ServiceSelector selects, by their labels, the Services and AddressClaims
	// that may take from this pool. Without it all may.
	//
	// +optional
	ServiceSelector *Selector `json:"serviceSelector,omitempty"`

	// Announce says how the network learns where the pool's addresses are.
	// Without it they are announced on layer 2 from every node. An Announce
	// that names no way announces nothing: for addresses that are routed to the
	// nodes by other means.
	//
	// +optional
	Announce *Announce `json:"announce,omitempty"`

	// Steer says who leads packets from the node that they reach to the
	// backends. IPVS: Herald, with IPVS, or with nftables where the kernel has
	// no IPVS. ServiceProxy: kube-proxy or the CNI; Herald only attracts them.
	//
	// +optional
	// +kubebuilder:default=IPVS
	Steer Steer `json:"steer,omitempty"`

	// Backends says what packets are led to. Pod: the endpoints themselves.
	// NodePort: the node port of every node that is ready, for nodes that
	// cannot reach pods. ClusterIP: the cluster IP, from where kube-proxy or
	// the CNI leads them on, with whatever rules it has. With the latter two
	// the backends see the address of a node, unless it is NodePort and
	// externalTrafficPolicy is Local.
	//
	// +optional
	// +kubebuilder:default=Pod
	Backends Backends `json:"backends,omitempty"`

	// KeepClientIP says whether pods see the address of the client although
	// they run on another node than the one that announces: packets travel to
	// their node by tunnel. Where two nodes cannot tunnel to each other, and
	// with false, they see the address of a node, as behind kube-proxy. With
	// externalTrafficPolicy Local they always see that of the client.
	//
	// +optional
	// +kubebuilder:default=true
	KeepClientIP *bool `json:"keepClientIP,omitempty"`

	// Scheduler is the IPVS scheduler that chooses among the backends. Without
	// it Herald chooses: mh where connections gain from every node choosing
	// alike, for they go on when their address moves to another node; rr
	// elsewhere.
	//
	// +optional
	Scheduler Scheduler `json:"scheduler,omitempty"`

	// SchedulerFlags are the flags of the schedulers sh and mh, each for its
	// own. sh-port, mh-port: connections of one client are chosen for one by
	// one, by its port as well as its address. sh-fallback, mh-fallback: where
	// the backend that was chosen takes no connections, another one is. Without
	// flags mh has both of its own, sh has sh-fallback.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	SchedulerFlags []SchedulerFlag `json:"schedulerFlags,omitempty"`
}

// An AddressRange is a CIDR, a range or one address.
//
// ---
// The rules are written flat because the API server estimates their cost for
// 1000 entries of full length: a split inside a comprehension, or a CIDR turned
// into text, is beyond its budget. Whether an IPv6 range ends before it starts
// is for Compile to see: CEL has no order of addresses.
//
// +kubebuilder:validation:MaxLength=91
// +kubebuilder:validation:XValidation:rule="isCIDR(self) || isIP(self) || self.indexOf('-') > 0 && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1))",message="is no set of addresses: write a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or one address (192.0.2.10), without spaces, zones and IPv4 inside IPv6"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",messageExpression="'has bits set beyond its prefix length: write the first address of the subnet before ' + self.substring(self.indexOf('/')) + ', or ' + self.substring(0, self.indexOf('/')) + ' for the one address'",message="has bits set beyond its prefix length: write the first address of the subnet, or the one address without a length"
// +kubebuilder:validation:XValidation:rule="!(self.indexOf('-') > 0 && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1))) || ip(self.substring(0, self.indexOf('-'))).family() == ip(self.substring(self.indexOf('-') + 1)).family()",message="mixes IPv4 and IPv6: write one range for each"
// +kubebuilder:validation:XValidation:rule="self.contains(':') || !(self.indexOf('-') > 0 && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1))) || int(self.replace('-', '.').split('.')[0]) * 16777216 + int(self.replace('-', '.').split('.')[1]) * 65536 + int(self.replace('-', '.').split('.')[2]) * 256 + int(self.replace('-', '.').split('.')[3]) <= int(self.replace('-', '.').split('.')[4]) * 16777216 + int(self.replace('-', '.').split('.')[5]) * 65536 + int(self.replace('-', '.').split('.')[6]) * 256 + int(self.replace('-', '.').split('.')[7])",message="ends before it starts: write the lower address first"
type AddressRange string

// A Selector selects objects by their labels.
//
// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || e.values.size() == 0))",message="matchExpressions: write operator In or NotIn with values, Exists or DoesNotExist without",fieldPath=".matchExpressions"
type Selector struct {
	metav1.LabelSelector `json:",inline"`
}

// Assign says who gets an address of a pool.
//
// +kubebuilder:validation:Enum=Auto;OnRequest
type Assign string

// The ways to assign.
const (
	AssignAuto      Assign = "Auto"
	AssignOnRequest Assign = "OnRequest"
)

// OnShrink says what becomes of addresses that no pool lists any more.
//
// +kubebuilder:validation:Enum=Keep;Reassign
type OnShrink string

// What becomes of addresses that no pool lists any more.
const (
	OnShrinkKeep     OnShrink = "Keep"
	OnShrinkReassign OnShrink = "Reassign"
)

// Steer says who leads packets to the backends.
//
// +kubebuilder:validation:Enum=IPVS;ServiceProxy
type Steer string

// The ways to steer.
const (
	SteerIPVS         Steer = "IPVS"
	SteerServiceProxy Steer = "ServiceProxy"
)

// Backends says what packets are led to.
//
// +kubebuilder:validation:Enum=Pod;NodePort;ClusterIP
type Backends string

// The kinds of backends.
const (
	BackendsPod       Backends = "Pod"
	BackendsNodePort  Backends = "NodePort"
	BackendsClusterIP Backends = "ClusterIP"
)

// Scheduler is the name of an IPVS scheduler.
//
// +kubebuilder:validation:Enum=rr;wrr;lc;wlc;lblc;lblcr;dh;sh;mh;sed;nq;fo;ovf
type Scheduler string

// The schedulers that have flags.
const (
	SchedulerSourceHash Scheduler = "sh"
	SchedulerMaglev     Scheduler = "mh"
)

// A SchedulerFlag is a flag of a scheduler, under the name that ipvsadm has for
// it.
//
// +kubebuilder:validation:Enum=sh-port;sh-fallback;mh-port;mh-fallback
type SchedulerFlag string

// Announce lists the ways in which addresses are announced.
type Announce struct {
	// Layer2 announces with ARP and NDP.
	//
	// +optional
	Layer2 *Layer2 `json:"layer2,omitempty"`

	// BGP tells addresses to routers. Every entry that selects a node and a
	// Service counts.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	BGP []BGPAnnouncement `json:"bgp,omitempty"`
}

// Layer2 says where addresses are announced with ARP and NDP.
type Layer2 struct {
	// Interfaces are the names of the network interfaces to announce on, or
	// patterns of names: * is any text, ? is any character, [a-c] is one of
	// a, b, c. Without them it is every interface whose subnet holds the
	// address.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Interfaces []InterfacePattern `json:"interfaces,omitempty"`

	// NodeSelector selects, by their labels, the nodes that may announce.
	// Without it all may.
	//
	// +optional
	NodeSelector *Selector `json:"nodeSelector,omitempty"`

	// PreferNodes selects, by their labels, the nodes that should announce
	// rather than others that may: those of the first selector that selects any
	// that can, then those of the second, and so on. Nodes that none selects
	// come last. Among equals a hash decides.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	PreferNodes []metav1.LabelSelector `json:"preferNodes,omitempty"`

	// Failback says when a node that could not announce and can again takes its
	// addresses back. Immediate: at once. Delayed: when it has been able to for
	// five minutes. Never: when the node that has them cannot announce any more.
	// The latter two hold for all moves to another node but those from a node
	// that cannot go on.
	//
	// +optional
	// +kubebuilder:default=Immediate
	Failback Failback `json:"failback,omitempty"`

	// GratuitousInterval is how often an address is announced to everybody though
	// nothing has changed, for hosts that forget too late or are never told.
	// Without it only changes are. In hours, minutes and seconds, as in 30s or
	// 5m; from 1s to 24h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}[hms])+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="is no time from 1s to 24h: write hours, minutes and seconds, as in 30s or 5m"
	GratuitousInterval metav1.Duration `json:"gratuitousInterval,omitzero"`
}

// Failback says when an address goes back to the node that it belongs to.
//
// +kubebuilder:validation:Enum=Immediate;Delayed;Never
type Failback string

// The ways to fail back.
const (
	FailbackImmediate Failback = "Immediate"
	FailbackDelayed   Failback = "Delayed"
	FailbackNever     Failback = "Never"
)

// An InterfacePattern is the name of a network interface or a pattern of names.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!self.matches('[/\\\\s]')",message="no interface has a name with a slash or a space: write a name like eth0 or a pattern like eth*"
type InterfacePattern string

// AddressPoolStatus is how a pool stands.
type AddressPoolStatus struct {
	// IPv4 counts the pool's IPv4 addresses; absent if it has none.
	//
	// +optional
	IPv4 *AddressCount `json:"ipv4,omitempty"`
	// IPv6 counts the pool's IPv6 addresses; absent if it has none.
	//
	// +optional
	IPv6 *AddressCount `json:"ipv6,omitempty"`
	// Resting are addresses that were freed a short time ago and rest until
	// reuseAfter has passed; of many those that rest longest.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Resting []RestingAddress `json:"resting,omitempty"`
	// Conflicts are addresses that another host was found to have when they were
	// to be announced. They are given to nobody until a while has passed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Conflicts []ConflictingAddress `json:"conflicts,omitempty"`
	// Conditions are Ready: whether the pool is in use as it is written;
	// Overlap: whether other pools list some of its addresses; and Exhausted:
	// whether all addresses of a family are given out.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MaxResting is how many addresses AddressPoolStatus.Resting may have.
const MaxResting = 256

// The types of conditions.
const (
	// ConditionReady says whether an object is in use as it is written: of a
	// pool, whether all of it is; of a claim, whether it has all its addresses.
	// Where a pool is not, the reason is one of package config.
	ConditionReady = "Ready"
	// ConditionOverlap says whether other pools list addresses of this one.
	ConditionOverlap = "Overlap"
	// ConditionExhausted says whether a pool has no free address of a family
	// that it has addresses of.
	ConditionExhausted = "Exhausted"
)

// A RestingAddress is an address that only its last owner may have.
type RestingAddress struct {
	// Address rests.
	//
	// +required
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`
	// Service is who had it, as namespace/name.
	//
	// +required
	// +kubebuilder:validation:MaxLength=330
	Service string `json:"service"`
	// Until is when it may be given to others.
	//
	// +required
	Until metav1.Time `json:"until"`
}

// A ConflictingAddress is an address that another host has.
type ConflictingAddress struct {
	// Address is in quarantine.
	//
	// +required
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`
	// MAC is the hardware address of the host.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	MAC string `json:"mac"`
	// Node is whose speaker has found it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`
	// Until is when the address is tried again.
	//
	// +required
	Until metav1.Time `json:"until"`
}

// AddressCount counts addresses of one family. Counts beyond 9223372036854775807
// are shown as that.
type AddressCount struct {
	// Total is how many addresses the pool has.
	Total int64 `json:"total"`
	// Assigned is how many of them Services and AddressClaims have.
	Assigned int64 `json:"assigned"`
	// Free is how many of them are to be given out: not those that rest or
	// belong to a node.
	Free int64 `json:"free"`
}
