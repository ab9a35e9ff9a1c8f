package hetzner

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// A service is a listener in the API's words, by all that the API keeps of it that
// we set.
type service struct {
	protocol       string
	port, nodePort int
	proxy          bool
	check          check
}

// A check is how a service's targets are asked whether they serve.
type check struct {
	protocol               string
	port, retries          int
	interval, timeout      time.Duration
	domain, path, response string
	codes                  string
	tls                    bool
}

// healthy are the answers of a target that serves. A redirection is none: kube-proxy
// answers 200 or 503.
const healthy = "2??"

// wanted is a load balancer as it should be, in the API's words.
type wanted struct {
	name      string
	typ       string // empty to keep what there is
	location  string // likewise
	network   network
	subnet    netip.Prefix // invalid for any
	private   bool
	internal  bool
	algorithm hcloud.LoadBalancerAlgorithmType // empty to keep what there is
	services  []service                        // by port
	targets   []target                         // by key
	address   string
	marks     marks
}

// wantOf says what spec asks for, or why it cannot be had.
func wantOf(spec cloud.LBSpec, defaults cloud.Defaults, c *catalogue) (wanted, error) {
	w := wanted{
		name:     spec.Owner.ResourceName(),
		typ:      spec.Type,
		location: spec.Location,
		internal: spec.Internal,
		private:  spec.UsePrivateIP || spec.Internal, // nobody is reached without a public interface but over the network
		address:  spec.Address,
		marks:    marks{owner: spec.Owner, title: spec.Title},
	}
	if spec.IdleTimeout != 0 {
		return w, cloud.Refuse("", "Hetzner's load balancers have no idle timeout for TCP that could be set")
	}
	var err error
	if w.algorithm, err = algorithmOf(cmp.Or(spec.Algorithm, defaults.Algorithm)); err != nil {
		return w, err
	}
	if err := w.setNetwork(cmp.Or(spec.Network, defaults.Network), cmp.Or(spec.Subnet, defaults.Subnet), c); err != nil {
		return w, err
	}
	if w.services, err = servicesOf(spec.Listeners); err != nil {
		return w, err
	}
	w.targets, err = targetsOf(spec.Targets, w.private)
	return w, err
}

func algorithmOf(name string) (hcloud.LoadBalancerAlgorithmType, error) {
	switch strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name)) {
	case "":
		return "", nil
	case "roundrobin":
		return hcloud.LoadBalancerAlgorithmTypeRoundRobin, nil
	case "leastconnections":
		return hcloud.LoadBalancerAlgorithmTypeLeastConnections, nil
	}
	return "", cloud.Refuse("", "algorithm %q: use round-robin or least-connections", name)
}

func (w *wanted) setNetwork(ref, subnet string, c *catalogue) error {
	if ref == "" {
		if w.private {
			return cloud.Refuse("", "targets are to be reached over a private network, and none is named: set the annotation herald-lb.io/network, or defaults.network")
		}
		return nil
	}
	var ok bool
	if w.network, ok = c.network(ref); !ok {
		return missing("network %q", ref)
	}
	if subnet != "" {
		p, err := netip.ParsePrefix(subnet)
		if err != nil {
			return cloud.Refuse("", "subnet %q: use its range, as in 10.0.1.0/24", subnet)
		}
		w.subnet = p.Masked()
	}
	return nil
}

func servicesOf(listeners []cloud.Listener) ([]service, error) {
	services := make([]service, 0, len(listeners))
	for _, l := range listeners {
		s, err := serviceOf(l)
		if err != nil {
			return nil, err
		}
		services = append(services, s)
	}
	slices.SortFunc(services, func(a, b service) int { return cmp.Compare(a.port, b.port) })
	for i := 1; i < len(services); i++ {
		if services[i].port == services[i-1].port {
			return nil, cloud.Refuse("", "port %d is asked for twice", services[i].port)
		}
	}
	return services, nil
}

func serviceOf(l cloud.Listener) (service, error) {
	if l.Protocol != corev1.ProtocolTCP {
		return service{}, cloud.Refuse(cloud.ReasonProtocol, "%s: Hetzner's load balancers serve TCP only", l.ID())
	}
	// The API knows on and off; what it then sends is the binary form.
	if l.Proxy == cloud.ProxyV1 {
		return service{}, cloud.Refuse("", "%s: Hetzner's load balancers speak version 2 of the PROXY protocol only", l.ID())
	}
	if l.NodePort == 0 {
		return service{}, cloud.Refuse("", "%s has no node port", l.ID())
	}
	s := service{protocol: "tcp", port: int(l.Port), nodePort: int(l.NodePort), proxy: l.Proxy == cloud.ProxyV2}
	h := l.Health
	s.check = check{
		protocol: "tcp",
		port:     int(cmp.Or(h.Port, l.NodePort)),
		retries:  cmp.Or(h.Retries, 3),
		interval: seconds(cmp.Or(h.Interval, 15*time.Second)),
		timeout:  seconds(cmp.Or(h.Timeout, 10*time.Second)),
	}
	if h.HTTP {
		s.check.protocol, s.check.path, s.check.codes = "http", cmp.Or(h.Path, "/"), healthy
	}
	return s, nil
}

// seconds is what the API can be told of d: whole seconds, one or more.
func seconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

func targetsOf(all []cloud.Target, private bool) ([]target, error) {
	targets := make([]target, 0, len(all))
	for _, t := range all {
		id, err := strconv.ParseInt(t.Instance.ID, 10, 64)
		switch {
		case err == nil && id > 0:
			targets = append(targets, target{server: id, private: private})
		case t.Addr.IsValid():
			targets = append(targets, target{ip: t.Addr.Unmap()})
		default:
			return nil, cloud.Refuse(cloud.ReasonNoInstance, "node %s has neither a server's ID nor an address", t.Node)
		}
	}
	slices.SortFunc(targets, byKey)
	return slices.CompactFunc(targets, func(a, b target) bool { return a.key() == b.key() }), nil
}

func byKey(a, b target) int {
	return cmp.Or(cmp.Compare(a.server, b.server), a.ip.Compare(b.ip))
}

// servicesNow are the services of a load balancer, by port.
func servicesNow(lb *hcloud.LoadBalancer) map[int]service {
	now := make(map[int]service, len(lb.Services))
	for _, s := range lb.Services {
		now[s.ListenPort] = serviceNow(s)
	}
	return now
}

func serviceNow(s hcloud.LoadBalancerService) service {
	now := service{
		protocol: string(s.Protocol),
		port:     s.ListenPort, nodePort: s.DestinationPort,
		proxy: s.Proxyprotocol,
		check: check{
			protocol: string(s.HealthCheck.Protocol),
			port:     s.HealthCheck.Port, retries: s.HealthCheck.Retries,
			interval: s.HealthCheck.Interval, timeout: s.HealthCheck.Timeout,
		},
	}
	// The API may keep what it was told of HTTP when a check becomes one of TCP.
	if h := s.HealthCheck.HTTP; h != nil && now.check.protocol == "http" {
		now.check.domain, now.check.path, now.check.response = h.Domain, h.Path, h.Response
		now.check.codes, now.check.tls = strings.Join(h.StatusCodes, ","), h.TLS
	}
	return now
}

// targetsNow are the targets of a load balancer that are servers or addresses, by
// key. Those by label selector we do not make, and leave alone.
func targetsNow(lb *hcloud.LoadBalancer) map[string]target {
	now := make(map[string]target, len(lb.Targets))
	for _, t := range lb.Targets {
		var is target
		switch {
		case t.Type == hcloud.LoadBalancerTargetTypeServer && t.Server != nil && t.Server.Server != nil:
			is = target{server: t.Server.Server.ID, private: t.UsePrivateIP}
		case t.Type == hcloud.LoadBalancerTargetTypeIP && t.IP != nil:
			ip, err := netip.ParseAddr(t.IP.IP)
			if err != nil {
				continue
			}
			is = target{ip: ip.Unmap()}
		default:
			continue
		}
		now[is.key()] = is
	}
	return now
}
