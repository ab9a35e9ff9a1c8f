package hetzner

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

type server struct{ schema.Server }

var serverType = schema.ServerType{
	ID: 22, Name: "cx22", Description: "CX22", Category: "Shared vCPU", Cores: 2, Memory: 4, Disk: 40,
	StorageType: "local", CPUType: "shared", Architecture: "x86",
	Prices: func() []schema.PricingServerTypePrice {
		var prices []schema.PricingServerTypePrice
		for _, l := range locations {
			prices = append(prices, schema.PricingServerTypePrice{Location: l.Name, IncludedTraffic: 20 << 40,
				PriceHourly: money(serverPrice.Hourly), PriceMonthly: money(serverPrice.Monthly), PricePerTBTraffic: money(1_000_000)})
		}
		return prices
	}(),
	Locations: []schema.ServerTypeLocation{{ID: 1, Name: "fsn1", Available: true}},
}

// A ServerSpec is a server to be.
type ServerSpec struct {
	Name     string
	Location string     // fsn1 if empty
	IPv4     netip.Addr // any if zero
	NoIPv4   bool
	IPv6     netip.Prefix         // any /64 if zero
	Private  map[int64]netip.Addr // by network; any free one if zero
	Labels   map[string]string
}

// AddServer makes a running server and returns its ID. It panics if the
// location or a network does not exist, or the name does.
func (c *Cloud) AddServer(spec ServerSpec) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if spec.Location == "" {
		spec.Location = "fsn1"
	}
	at, err := location(spec.Location)
	must(err)
	must(c.name(Server, 0, spec.Name))
	must(checkLabels(spec.Labels))
	s := &server{schema.Server{
		ID: c.nextID(), Name: spec.Name, Status: "running", Created: c.now(), Location: at, ServerType: serverType,
		IncludedTraffic: 20 << 40, PrimaryDiskSize: 40, Labels: map[string]string{}, Volumes: []int64{}, PrivateNet: []schema.ServerPrivateNet{},
		PublicNet: schema.ServerPublicNet{FloatingIPs: []int64{}, Firewalls: []schema.ServerFirewall{}},
	}}
	maps.Copy(s.Labels, spec.Labels)
	s.PublicNet.IPv4.IP = spec.IPv4.String()
	switch {
	case spec.NoIPv4:
		s.PublicNet.IPv4.IP = ""
	case !spec.IPv4.IsValid():
		s.PublicNet.IPv4.IP = c.publicAddress("ipv4")
	}
	s.PublicNet.IPv6 = schema.ServerPublicNetIPv6{IP: spec.IPv6.String(), DNSPtr: []schema.ServerPublicNetIPv6DNSPtr{}}
	if !spec.IPv6.IsValid() {
		s.PublicNet.IPv6.IP = c.publicAddress("ipv6")
	}
	for _, id := range slices.Sorted(maps.Keys(spec.Private)) {
		c.attachServer(s, id, spec.Private[id])
	}
	c.servers[s.ID] = s
	c.charge(Server, s.ID, s.Name, serverPrice)
	return s.ID
}

func (c *Cloud) attachServer(s *server, network int64, ip netip.Addr) {
	var wanted *string
	if ip.IsValid() {
		wanted = new(ip.String())
	}
	got, err := c.freePrivate(network, s.Location.NetworkZone, wanted)
	must(err)
	s.PrivateNet = append(s.PrivateNet, schema.ServerPrivateNet{Network: network, IP: got.String(), AliasIPs: []string{}, MACAddress: "86:00:ff:2a:7d:e1"})
}

// must panics where a test asks for the impossible.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *server) attached(network int64) bool {
	return slices.ContainsFunc(s.PrivateNet, func(n schema.ServerPrivateNet) bool { return n.Network == network })
}

// showServer adds what others know of s.
func (c *Cloud) showServer(s *server) schema.Server {
	shown := clone(s.Server)
	shown.LoadBalancers, shown.PublicNet.FloatingIPs = []int64{}, []int64{}
	for _, lb := range byID(c.balancers) {
		if slices.ContainsFunc(lb.Targets, func(t schema.LoadBalancerTarget) bool { return t.Server != nil && t.Server.ID == s.ID }) {
			shown.LoadBalancers = append(shown.LoadBalancers, lb.ID)
		}
	}
	for _, f := range byID(c.floating) {
		if f.Server != nil && *f.Server == s.ID {
			shown.PublicNet.FloatingIPs = append(shown.PublicNet.FloatingIPs, f.ID)
		}
	}
	return shown
}

func listServers(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, s := range c.servers {
		items = append(items, item{id: s.ID, name: s.Name, created: s.Created, labels: s.Labels, status: s.Status, show: c.showServer(s)})
	}
	return list(r, "servers", items)
}

func getServer(c *Cloud, r *call) (reply, error) {
	s, ok := c.servers[r.ids[0]]
	if !ok {
		return reply{}, notFound(Server, r.ids[0])
	}
	return reply{http.StatusOK, schema.ServerGetResponse{Server: c.showServer(s)}}, nil
}

func updateServer(c *Cloud, r *call) (reply, error) {
	s, ok := c.servers[r.ids[0]]
	if !ok {
		return reply{}, notFound(Server, r.ids[0])
	}
	var req struct {
		Name   *string            `json:"name"`
		Labels *map[string]string `json:"labels"`
	}
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	if err := c.rename(Server, s.ID, req.Name, req.Labels); err != nil {
		return reply{}, err
	}
	assign(&s.Name, req.Name)
	assign(&s.Labels, req.Labels)
	return reply{http.StatusOK, schema.ServerGetResponse{Server: c.showServer(s)}}, nil
}

func deleteServer(c *Cloud, r *call) (reply, error) {
	s, ok := c.servers[r.ids[0]]
	switch {
	case !ok:
		return reply{}, notFound(Server, r.ids[0])
	case s.Protection.Delete:
		return reply{}, errorf(codeProtected, "server deletion is protected")
	}
	a := c.start("delete_server", func() { c.dropServer(s.ID) }, ref(Server, s.ID))
	return reply{http.StatusOK, schema.ActionGetResponse{Action: a}}, nil
}

// dropServer takes a server away, and out of all that refers to it.
func (c *Cloud) dropServer(id int64) {
	for _, f := range byID(c.floating) {
		if f.Server != nil && *f.Server == id {
			c.deliver(f, nil)
		}
	}
	for _, lb := range c.balancers {
		lb.Targets = slices.DeleteFunc(lb.Targets, func(t schema.LoadBalancerTarget) bool { return t.Server != nil && t.Server.ID == id })
	}
	delete(c.servers, id)
	c.discharge(Server, id)
}
