package hetzner

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// Ways in which a node says which machine it is. A robot is a machine that is no
// cloud server: a load balancer reaches it by its address.
const (
	serverPrefix = "hcloud://"
	robotPrefix  = "hrobot://"
	instanceID   = labelPrefix + "instance-id" // an annotation
)

// serversAge is for how long a list of servers is good: many load balancers ask at
// once after something has happened to a node.
const serversAge = 10 * time.Second

// serverCache is the last list of servers, by what they are known by. Its lock is held
// while it is read anew, so that all who wait have the one list.
type serverCache struct {
	sync.Mutex
	read time.Time
	all  servers
}

// Instances implements [cloud.Driver]. Over a network that is named, only servers are
// reached that are in it: of another one the API would refuse the whole call.
func (d *Driver) Instances(ctx context.Context, nodes []*corev1.Node, want cloud.LBSpec) (known []cloud.Target, unknown map[string]string, err error) {
	if !want.Serves(netip.IPv4Unspecified()) {
		return nil, nil, cloud.Refuse(cloud.ReasonProtocol, "Hetzner's load balancers send to nodes by IPv4, and Service %s has only IPv6: set spec.ipFamilyPolicy to PreferDualStack, or the annotation herald-lb.io/serve-with to floating-ip", want.Owner.Key())
	}
	servers, err := d.allServers(ctx)
	if err != nil {
		return nil, nil, err
	}
	w := way{private: want.UsePrivateIP || want.Internal}
	if w.private {
		c, err := d.known(ctx)
		if err != nil {
			return nil, nil, err
		}
		w.in, _ = c.network(cmp.Or(want.Network, d.defaults.Network)) // of one that there is none, Plan says so
		w.only = w.in.id != 0 && want.Network != ""
	}
	unknown = map[string]string{}
	for _, n := range nodes {
		t, why := servers.target(n, w)
		if why != "" {
			unknown[n.Name] = why
			continue
		}
		known = append(known, t)
	}
	slices.SortFunc(known, func(a, b cloud.Target) int { return strings.Compare(a.Node, b.Node) })
	return known, unknown, nil
}

// A way is how nodes are reached.
type way struct {
	private bool    // over a network
	in      network // which one; zero for any
	only    bool    // and over no other
}

// allServers returns all servers. That there is none at all is not believed: targets
// would be taken away.
func (d *Driver) allServers(ctx context.Context) (servers, error) {
	d.servers.Lock()
	defer d.servers.Unlock()
	if age := d.now().Sub(d.servers.read); len(d.servers.all.byID) > 0 && age >= 0 && age < serversAge {
		return d.servers.all, nil
	}
	list, err := pages("servers", func(s *hcloud.Server) int64 { return s.ID },
		func(o hcloud.ListOpts) ([]*hcloud.Server, *hcloud.Response, error) {
			return d.api.Server.List(ctx, hcloud.ServerListOpts{ListOpts: o})
		})
	switch {
	case err != nil:
		return servers{}, err
	case len(list) == 0:
		return servers{}, &cloud.Error{Class: cloud.Unsafe, Reason: cloud.ReasonNoInstance, Text: "listing servers: the project has none: is the token one of this cluster's project?"}
	}
	d.servers.all, d.servers.read = indexServers(list), d.now()
	return d.servers.all, nil
}

// servers are the servers of a project, by what a node may be known by.
type servers struct {
	byID   map[int64]*hcloud.Server
	byName map[string]*hcloud.Server
	byAddr map[netip.Addr]*hcloud.Server // nil where two have the same, in different networks
}

func indexServers(list []*hcloud.Server) servers {
	s := servers{map[int64]*hcloud.Server{}, map[string]*hcloud.Server{}, map[netip.Addr]*hcloud.Server{}}
	for _, server := range list {
		s.byID[server.ID] = server
		s.byName[server.Name] = server
		for _, a := range serverAddrs(server) {
			is := server
			if other, taken := s.byAddr[a]; taken && other != server {
				is = nil
			}
			s.byAddr[a] = is
		}
	}
	return s
}

// serverAddrs are the addresses by which a server is known: of IPv6 it has a /64, and
// a node any of them.
func serverAddrs(s *hcloud.Server) (all []netip.Addr) {
	all = appendAddr(all, s.PublicNet.IPv4.IP)
	for _, a := range appendAddr(nil, s.PublicNet.IPv6.IP) {
		all = append(all, first64(a))
	}
	for _, n := range s.PrivateNet {
		all = appendAddr(all, n.IP)
	}
	return all
}

// first64 is the first address of the /64 of one of IPv6, and else the address.
func first64(a netip.Addr) netip.Addr {
	if p, err := a.WithZone("").Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// target returns a node as a target, or why it is none: by its provider ID, or else
// by its annotation, an address or its name. A provider ID of somebody else's says
// nothing: K3s gives each node one.
func (s servers) target(n *corev1.Node, w way) (cloud.Target, string) {
	id := n.Spec.ProviderID
	if !strings.HasPrefix(id, serverPrefix) && !strings.HasPrefix(id, robotPrefix) {
		id = n.Annotations[instanceID]
	}
	if strings.HasPrefix(id, robotPrefix) {
		return robot(n, id, w.private)
	}
	server, why := s.server(n, strings.TrimPrefix(id, serverPrefix))
	if server == nil {
		return cloud.Target{}, why
	}
	addr, why := reach(server, n, w)
	return cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: strconv.FormatInt(server.ID, 10), Name: server.Name}, Addr: addr}, why
}

// server returns which server a node is. One that says its ID is that or none: an
// address may have passed to another by now.
func (s servers) server(n *corev1.Node, id string) (*hcloud.Server, string) {
	if id != "" {
		number, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil, strconv.Quote(id) + " is no ID of a server"
		}
		if server := s.byID[number]; server != nil {
			return server, ""
		}
		return nil, "there is no server " + id + " in the project"
	}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && s.byAddr[first64(ip.Unmap())] != nil {
			return s.byAddr[first64(ip.Unmap())], ""
		}
	}
	if server := s.byName[n.Name]; server != nil {
		return server, ""
	}
	return nil, "no server of the project has one of its addresses or its name: set its provider ID, or the annotation " + instanceID
}

// reach is at what address a load balancer reaches a server: its public IPv4 address,
// or that in the network.
func reach(s *hcloud.Server, n *corev1.Node, w way) (netip.Addr, string) {
	if !w.private {
		if a := appendAddr(nil, s.PublicNet.IPv4.IP); len(a) > 0 {
			return a[0], ""
		}
		return netip.Addr{}, "server " + s.Name + " has no public IPv4 address: reach it over a network, by the annotation herald-lb.io/use-private-ip"
	}
	var first netip.Addr
	for _, p := range s.PrivateNet {
		a := appendAddr(nil, p.IP)
		if len(a) == 0 {
			continue
		}
		if p.Network != nil && p.Network.ID == w.in.id || has(n, a[0]) && !w.only {
			return a[0], ""
		}
		if !first.IsValid() {
			first = a[0]
		}
	}
	switch {
	case !first.IsValid():
		return first, "server " + s.Name + " is in no network"
	case w.only:
		return netip.Addr{}, "server " + s.Name + " is not in network " + w.in.name
	}
	return first, ""
}

func has(n *corev1.Node, a netip.Addr) bool {
	return slices.ContainsFunc(n.Status.Addresses, func(of corev1.NodeAddress) bool { return of.Address == a.String() })
}

// robot returns a machine that is no cloud server as a target, by its address: the
// internal one is of a vSwitch.
func robot(n *corev1.Node, id string, private bool) (cloud.Target, string) {
	kind := corev1.NodeExternalIP
	if private {
		kind = corev1.NodeInternalIP
	}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == kind && ip.Unmap().Is4() {
			return cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: id, Name: n.Name}, Addr: ip.Unmap()}, ""
		}
	}
	// Many of these have their public address for their only one.
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && !private && ip.Unmap().Is4() && !ip.IsPrivate() {
			return cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: id, Name: n.Name}, Addr: ip.Unmap()}, ""
		}
	}
	return cloud.Target{}, "it has no " + string(kind) + " that is IPv4"
}
