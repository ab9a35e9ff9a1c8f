package hetzner

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

type network struct{ schema.Network }

// AddNetwork makes a network of one subnet, which takes all of the range, in
// eu-central, and returns its ID. It panics if the name exists.
func (c *Cloud) AddNetwork(name string, all netip.Prefix) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.newNetwork(schema.NetworkCreateRequest{Name: name, IPRange: all.String(), Subnets: []schema.NetworkSubnet{
		{Type: "cloud", IPRange: all.String(), NetworkZone: "eu-central"},
	}})
	must(err)
	return n.ID
}

func (c *Cloud) newNetwork(req schema.NetworkCreateRequest) (*network, error) {
	if err := c.name(Network, 0, req.Name); err != nil {
		return nil, err
	}
	all, err := netip.ParsePrefix(req.IPRange)
	if err != nil || !all.Addr().IsPrivate() {
		return nil, invalid("ip_range", "%q is no private range", req.IPRange)
	}
	labels, err := newLabels(req.Labels)
	if err != nil {
		return nil, err
	}
	n := &network{schema.Network{Name: req.Name, IPRange: req.IPRange, Labels: labels, ExposeRoutesToVSwitch: req.ExposeRoutesToVSwitch,
		Subnets: []schema.NetworkSubnet{}, Routes: append([]schema.NetworkRoute{}, req.Routes...)}}
	for _, s := range req.Subnets {
		sub, err := netip.ParsePrefix(s.IPRange)
		if err != nil || !all.Contains(sub.Addr()) || sub.Bits() < all.Bits() {
			return nil, invalid("subnets", "%q is no part of %s", s.IPRange, req.IPRange)
		}
		s.Gateway = all.Masked().Addr().Next().String()
		n.Subnets = append(n.Subnets, s)
	}
	n.ID, n.Created = c.nextID(), c.now()
	c.networks[n.ID] = n
	return n, nil
}

// freePrivate returns an address of the network: the one wanted, or the first
// that is free.
func (c *Cloud) freePrivate(id int64, zone string, wanted *string) (netip.Addr, error) {
	n, ok := c.networks[id]
	if !ok {
		return netip.Addr{}, notFound(Network, id)
	}
	used := c.privateIPs(id)
	var none netip.Addr
	for _, s := range n.Subnets {
		sub := netip.MustParsePrefix(s.IPRange)
		if s.NetworkZone != zone {
			continue
		}
		if wanted != nil {
			ip, err := netip.ParseAddr(*wanted)
			if err == nil && sub.Contains(ip) && !slices.Contains(used, *wanted) {
				return ip, nil
			}
			continue
		}
		// The first address is the gateway's.
		for ip := sub.Masked().Addr().Next().Next(); sub.Contains(ip); ip = ip.Next() {
			if !slices.Contains(used, ip.String()) {
				return ip, nil
			}
		}
	}
	if wanted != nil {
		return none, errorf(string(hcloud.ErrorCodeIPNotAvailable), "%s is not available", *wanted)
	}
	return none, errorf(string(hcloud.ErrorCodeNoSubnetAvailable), "no IP is available within the network")
}

func (c *Cloud) privateIPs(network int64) []string {
	var used []string
	for _, s := range c.servers {
		for _, n := range s.PrivateNet {
			if n.Network == network {
				used = append(used, n.IP)
			}
		}
	}
	for _, lb := range c.balancers {
		for _, n := range lb.PrivateNet {
			if n.Network == network {
				used = append(used, n.IP)
			}
		}
	}
	return used
}

func (c *Cloud) showNetwork(n *network) schema.Network {
	shown := clone(n.Network)
	shown.Servers, shown.LoadBalancers = []int64{}, []int64{}
	for _, s := range byID(c.servers) {
		if s.attached(n.ID) {
			shown.Servers = append(shown.Servers, s.ID)
		}
	}
	for _, lb := range byID(c.balancers) {
		if slices.ContainsFunc(lb.PrivateNet, func(p schema.LoadBalancerPrivateNet) bool { return p.Network == n.ID }) {
			shown.LoadBalancers = append(shown.LoadBalancers, lb.ID)
		}
	}
	return shown
}

func listNetworks(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, n := range c.networks {
		items = append(items, item{id: n.ID, name: n.Name, created: n.Created, labels: n.Labels, show: c.showNetwork(n)})
	}
	return list(r, "networks", items)
}

func getNetwork(c *Cloud, r *call) (reply, error) {
	n, ok := c.networks[r.ids[0]]
	if !ok {
		return reply{}, notFound(Network, r.ids[0])
	}
	return reply{http.StatusOK, schema.NetworkGetResponse{Network: c.showNetwork(n)}}, nil
}

func createNetwork(c *Cloud, r *call) (reply, error) {
	var req schema.NetworkCreateRequest
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	n, err := c.newNetwork(req)
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusCreated, schema.NetworkCreateResponse{Network: c.showNetwork(n)}}, nil
}

// deleteNetwork detaches what is attached.
func deleteNetwork(c *Cloud, r *call) (reply, error) {
	n, ok := c.networks[r.ids[0]]
	switch {
	case !ok:
		return reply{}, notFound(Network, r.ids[0])
	case n.Protection.Delete:
		return reply{}, errorf(codeProtected, "network deletion is protected")
	}
	for _, s := range c.servers {
		s.PrivateNet = slices.DeleteFunc(s.PrivateNet, func(p schema.ServerPrivateNet) bool { return p.Network == n.ID })
	}
	for _, lb := range c.balancers {
		lb.PrivateNet = slices.DeleteFunc(lb.PrivateNet, func(p schema.LoadBalancerPrivateNet) bool { return p.Network == n.ID })
	}
	delete(c.networks, n.ID)
	return reply{status: http.StatusNoContent}, nil
}
