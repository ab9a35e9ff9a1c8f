package webhook

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// version is the protocol's that is spoken here.
const version = "v1"

// The types below are the schemas of openapi.yaml, which describes them.

type server struct {
	Version      string       `json:"version"`
	Name         string       `json:"name,omitempty"`
	Capabilities capabilities `json:"capabilities"`
}

type capabilities struct {
	LoadBalancers   bool     `json:"loadBalancers,omitempty"`
	Addresses       bool     `json:"addresses,omitempty"`
	Adoption        bool     `json:"adoption,omitempty"`
	Protocols       []string `json:"protocols"`
	Families        []string `json:"families"`
	SourceRanges    bool     `json:"sourceRanges,omitempty"`
	ProxyProtocol   bool     `json:"proxyProtocol,omitempty"`
	HTTPHealthCheck bool     `json:"httpHealthCheck,omitempty"`
	Delivery        string   `json:"delivery"`
}

type owner struct {
	Cluster   string `json:"cluster"`
	UID       string `json:"uid"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

type lbRequest struct {
	Owner owner  `json:"owner"`
	Spec  lbSpec `json:"spec"`
}

type lbSpec struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Type  string `json:"type,omitempty"`
	placed
	UsePrivateIP       bool       `json:"usePrivateIP,omitempty"`
	Families           []string   `json:"families"`
	Listeners          []listener `json:"listeners"`
	Targets            []target   `json:"targets"`
	Algorithm          string     `json:"algorithm,omitempty"`
	SourceRanges       []string   `json:"sourceRanges,omitempty"`
	IdleTimeoutSeconds int64      `json:"idleTimeoutSeconds,omitempty"`
}

// placed is what of a load balancer cannot be changed without the risk of
// losing its address.
type placed struct {
	Location string `json:"location,omitempty"`
	Network  string `json:"network,omitempty"`
	Subnet   string `json:"subnet,omitempty"`
	Internal bool   `json:"internal,omitempty"`
	Address  string `json:"address,omitempty"`
}

type listener struct {
	Protocol      string      `json:"protocol"`
	Port          int32       `json:"port"`
	NodePort      int32       `json:"nodePort"`
	ProxyProtocol string      `json:"proxyProtocol,omitempty"`
	HealthCheck   healthCheck `json:"healthCheck"`
}

type healthCheck struct {
	Protocol        string `json:"protocol"`
	Port            int32  `json:"port"`
	Path            string `json:"path,omitempty"`
	IntervalSeconds int64  `json:"intervalSeconds,omitempty"`
	TimeoutSeconds  int64  `json:"timeoutSeconds,omitempty"`
	Retries         int    `json:"retries,omitempty"`
}

type target struct {
	Node     string `json:"node"`
	Instance string `json:"instance"`
	Address  string `json:"address"`
}

// resource is what load balancers and addresses have in common.
type resource struct {
	ID                string `json:"id"`
	Name              string `json:"name,omitempty"`
	Owner             *owner `json:"owner,omitempty"`
	Adopted           bool   `json:"adopted,omitempty"`
	Protected         bool   `json:"protected,omitempty"`
	State             string `json:"state"`
	Message           string `json:"message,omitempty"`
	RetryAfterSeconds int64  `json:"retryAfterSeconds,omitempty"`
	Created           string `json:"created,omitempty"`
	CostPerMonth      *money `json:"costPerMonth,omitempty"`
}

type loadBalancer struct {
	resource
	Addresses []string `json:"addresses"`
	Spec      *lbSpec  `json:"spec,omitempty"`
}

type address struct {
	resource
	Family           string `json:"family"`
	Location         string `json:"location,omitempty"`
	Address          string `json:"address,omitempty"`
	DeliveredAddress string `json:"deliveredAddress,omitempty"`
	AssignedTo       string `json:"assignedTo,omitempty"`
}

type addressRequest struct {
	Owner    owner  `json:"owner"`
	Name     string `json:"name"`
	Family   string `json:"family"`
	Location string `json:"location,omitempty"`
}

type adoption struct {
	Key      string `json:"key"`
	Owner    owner  `json:"owner"`
	Previous *owner `json:"previous,omitempty"`
}

type assignment struct {
	Instance string `json:"instance"`
}

type money struct {
	Milli    int64  `json:"milli"`
	Currency string `json:"currency"`
}

type failure struct {
	Code              string `json:"code"`
	Message           string `json:"message"`
	RetryAfterSeconds int64  `json:"retryAfterSeconds,omitempty"`
}

// key is what the owner of a load balancer is called in a path.
func key(o cloud.Owner) string { return o.Cluster + "." + string(o.UID) }

// addressKey is what the owner of an address is called: it may have one of each
// family.
func addressKey(o cloud.Owner, family string) string { return key(o) + "." + family }

func ownerOut(o cloud.Owner) owner {
	return owner{Cluster: o.Cluster, UID: string(o.UID), Namespace: o.Namespace, Name: o.Name}
}

func ownerIn(o *owner) cloud.Owner {
	if o == nil {
		return cloud.Owner{}
	}
	return cloud.Owner{Cluster: o.Cluster, UID: types.UID(o.UID), Namespace: o.Namespace, Name: o.Name}
}

// specOut returns what a server is asked for. It may be compared by equal.
func specOut(w cloud.LBSpec) lbSpec {
	return lbSpec{
		Name: w.Owner.ResourceName(), Title: w.Title, Type: w.Type,
		placed:       placed{Location: w.Location, Network: w.Network, Subnet: w.Subnet, Internal: w.Internal, Address: w.Address},
		UsePrivateIP: w.UsePrivateIP,
		Families:     each(w.Families, func(f corev1.IPFamily) string { return string(f) }),
		Listeners:    each(w.Listeners, listenerOut),
		Targets: each(w.Targets, func(t cloud.Target) target {
			return target{Node: t.Node, Instance: t.Instance.ID, Address: t.Addr.String()}
		}),
		Algorithm:          w.Algorithm,
		SourceRanges:       each(w.SourceRanges, netip.Prefix.String),
		IdleTimeoutSeconds: seconds(w.IdleTimeout),
	}
}

func listenerOut(l cloud.Listener) listener {
	h := healthCheck{Protocol: "TCP", Port: l.Health.Port, Retries: l.Health.Retries,
		IntervalSeconds: seconds(l.Health.Interval), TimeoutSeconds: seconds(l.Health.Timeout)}
	if l.Health.HTTP {
		h.Protocol, h.Path = "HTTP", l.Health.Path
	}
	return listener{Protocol: string(l.Protocol), Port: l.Port, NodePort: l.NodePort, ProxyProtocol: string(l.Proxy), HealthCheck: h}
}

// seconds rounds up: what is short is not to become the server's own choice.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// each never returns nil, for a list that is there is not null.
func each[T, U any](in []T, f func(T) U) []U {
	out := make([]U, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// equal is whether both are written alike. What is empty is as good as missing,
// and "none" is the PROXY protocol's way to say so.
func equal(a, b lbSpec) bool { return bytes.Equal(a.canonical(), b.canonical()) }

func (s lbSpec) canonical() []byte {
	s.Families, s.Targets = each(s.Families, same), each(s.Targets, same)
	s.Listeners = each(s.Listeners, func(l listener) listener {
		if l.ProxyProtocol == "none" {
			l.ProxyProtocol = ""
		}
		return l
	})
	text, _ := json.Marshal(s) // of texts and numbers: it cannot fail
	return text
}

func same[T any](v T) T { return v }
