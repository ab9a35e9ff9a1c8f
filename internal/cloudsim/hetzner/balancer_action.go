package hetzner

import (
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// A balancerPlan checks a request and returns what it changes.
type balancerPlan func(*Cloud, *balancer, *call) (func(), error)

// balancerActions are named as their paths are.
var balancerActions = map[string]balancerPlan{
	"add_service":              addService,
	"update_service":           updateService,
	"delete_service":           deleteService,
	"add_target":               addTarget,
	"remove_target":            removeTarget,
	"change_type":              changeType,
	"change_algorithm":         changeAlgorithm,
	"attach_to_network":        attachBalancer,
	"detach_from_network":      detachBalancer,
	"enable_public_interface":  enablePublic,
	"disable_public_interface": disablePublic,
	"change_dns_ptr":           changeBalancerPtr,
	"change_protection":        protectBalancer,
}

// onBalancer starts the action of a plan, unless another one is running.
func onBalancer(command string, plan balancerPlan) handler {
	if command == "change_type" {
		command = "change_load_balancer_type"
	}
	return func(c *Cloud, r *call) (reply, error) {
		lb, ok := c.balancers[r.ids[0]]
		if !ok {
			return reply{}, notFound(LoadBalancer, r.ids[0])
		}
		if err := c.locked(LoadBalancer, lb.ID); err != nil {
			return reply{}, err
		}
		effect, err := plan(c, lb, r)
		if err != nil {
			return reply{}, err
		}
		return actionReply(c.start(command, effect, ref(LoadBalancer, lb.ID))), nil
	}
}

func changeType(c *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionChangeTypeRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	t, err := c.balancerType(req.LoadBalancerType)
	switch {
	case err != nil:
		return nil, err
	case len(lb.Services) > t.MaxServices || len(lb.Targets) > t.MaxTargets:
		return nil, errorf(string(hcloud.ErrorCodeInvalidLoadBalancerType), "%s takes %d services and %d targets", t.Name, t.MaxServices, t.MaxTargets)
	}
	return func() {
		lb.size, lb.LoadBalancerType = t, t.LoadBalancerType
		c.discharge(LoadBalancer, lb.ID)
		c.charge(LoadBalancer, lb.ID, lb.Name, t.price)
	}, nil
}

func changeAlgorithm(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionChangeAlgorithmRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	return func() { lb.Algorithm.Type = req.Type }, checkAlgorithm(req.Type)
}

func attachBalancer(c *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionAttachToNetworkRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if len(lb.PrivateNet) > 0 {
		return nil, errorf(string(hcloud.ErrorCodeLoadBalancerAlreadyAttached), "load balancer is already attached to a network")
	}
	ip, err := c.freePrivate(req.Network, lb.Location.NetworkZone, req.IP)
	return func() {
		lb.PrivateNet = append(lb.PrivateNet, schema.LoadBalancerPrivateNet{Network: req.Network, IP: ip.String()})
	}, err
}

func detachBalancer(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionDetachFromNetworkRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	private := func(t schema.LoadBalancerTarget) bool { return t.UsePrivateIP }
	switch {
	case !slices.ContainsFunc(lb.PrivateNet, func(n schema.LoadBalancerPrivateNet) bool { return n.Network == req.Network }):
		return nil, errorf(string(hcloud.ErrorCodeLoadBalancerNotAttachedToNetwork), "load balancer is not attached to network %d", req.Network)
	case slices.ContainsFunc(lb.Targets, private):
		return nil, invalid("network", "there are targets that use the private IP")
	}
	return func() { lb.PrivateNet = []schema.LoadBalancerPrivateNet{} }, nil
}

func enablePublic(_ *Cloud, lb *balancer, _ *call) (func(), error) {
	return func() { lb.PublicNet.Enabled = true }, nil
}

func disablePublic(_ *Cloud, lb *balancer, _ *call) (func(), error) {
	public := func(t schema.LoadBalancerTarget) bool { return !t.UsePrivateIP }
	switch {
	case len(lb.PrivateNet) == 0:
		return nil, errorf(string(hcloud.ErrorCodeLoadBalancerNotAttachedToNetwork), "load balancer is not attached to a network")
	case slices.ContainsFunc(lb.Targets, public):
		return nil, errorf(string(hcloud.ErrorCodeTargetsWithoutUsePrivateIP), "there are targets that use the public IP")
	}
	return func() { lb.PublicNet.Enabled = false }, nil
}

func changeBalancerPtr(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionChangeDNSPtrRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	ptr := "static." + req.IP
	assign(&ptr, req.DNSPtr)
	switch ip, err := netip.ParseAddr(req.IP); {
	case err != nil:
		return nil, invalid("ip", "%q is no IP", req.IP)
	case ip.String() == lb.PublicNet.IPv4.IP:
		return func() { lb.PublicNet.IPv4.DNSPtr = ptr }, nil
	case ip.String() == lb.PublicNet.IPv6.IP:
		return func() { lb.PublicNet.IPv6.DNSPtr = ptr }, nil
	}
	return nil, errorf(codeNotFound, "the load balancer has no IP %s", req.IP)
}

func protectBalancer(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionChangeProtectionRequest
	err := r.decode(&req)
	return func() { assign(&lb.Protection.Delete, req.Delete) }, err
}
