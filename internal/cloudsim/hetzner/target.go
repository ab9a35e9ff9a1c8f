package hetzner

import (
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// newTarget makes a target, and refuses one that lb cannot have.
func (c *Cloud) newTarget(lb *balancer, req schema.LoadBalancerActionAddTargetRequest) (schema.LoadBalancerTarget, error) {
	t := schema.LoadBalancerTarget{Type: req.Type}
	assign(&t.UsePrivateIP, req.UsePrivateIP)
	var err error
	switch {
	case req.Type == "server" && req.Server != nil:
		t.Server = &schema.LoadBalancerTargetServer{ID: req.Server.ID}
		err = c.checkServerTarget(lb, t)
	case req.Type == "label_selector" && req.LabelSelector != nil:
		t.LabelSelector = &schema.LoadBalancerTargetLabelSelector{Selector: req.LabelSelector.Selector}
		if _, err = parseSelector(t.LabelSelector.Selector); err == nil {
			err = checkPath(lb, t.UsePrivateIP)
		}
	case req.Type == "ip" && req.IP != nil && !t.UsePrivateIP:
		t.IP = &schema.LoadBalancerTargetIP{IP: req.IP.IP}
		err = c.checkIPTarget(req.IP.IP)
	default:
		err = invalid("type", "the target must be a server, a label selector or a public IP")
	}
	if err != nil {
		return t, err
	}
	switch {
	case slices.ContainsFunc(lb.Targets, sameTarget(t)):
		return t, errorf(string(hcloud.ErrorCodeTargetAlreadyDefined), "target is already defined")
	case len(lb.Targets) >= lb.size.MaxTargets:
		return t, errorf(codeLimit, "%s takes at most %d targets", lb.size.Name, lb.size.MaxTargets)
	}
	return t, nil
}

func sameTarget(a schema.LoadBalancerTarget) func(schema.LoadBalancerTarget) bool {
	return func(b schema.LoadBalancerTarget) bool {
		switch {
		case a.Type != b.Type:
			return false
		case a.Server != nil:
			return *a.Server == *b.Server
		case a.LabelSelector != nil:
			return *a.LabelSelector == *b.LabelSelector
		}
		return *a.IP == *b.IP
	}
}

// checkPath refuses a target where lb has no interface that reaches it.
func checkPath(lb *balancer, private bool) error {
	switch {
	case private && len(lb.PrivateNet) == 0:
		return errorf(string(hcloud.ErrorCodeLoadBalancerNotAttachedToNetwork), "load balancer is not attached to a network")
	case !private && !lb.PublicNet.Enabled:
		return errorf(codePublicDisabled, "the load balancer's public interface is disabled")
	}
	return nil
}

func (c *Cloud) checkServerTarget(lb *balancer, t schema.LoadBalancerTarget) error {
	s, ok := c.servers[t.Server.ID]
	if !ok {
		return notFound(Server, t.Server.ID)
	}
	if err := checkPath(lb, t.UsePrivateIP); err != nil {
		return err
	}
	switch {
	case t.UsePrivateIP && !s.attached(lb.PrivateNet[0].Network):
		return errorf(string(hcloud.ErrorCodeServerNotAttachedToNetwork), "server is not attached to the load balancer's network")
	case !t.UsePrivateIP && s.PublicNet.IPv4.IP == "":
		return errorf(string(hcloud.ErrorCodeMissingIPv4), "server has no public IPv4 address")
	}
	return nil
}

// checkIPTarget takes only IPs of dedicated servers of the project's owner.
func (c *Cloud) checkIPTarget(text string) error {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return invalid("ip", "%q is no IP", text)
	case c.ownsCloudIP(text):
		return errorf(string(hcloud.ErrorCodeCloudResourceIPNotAllowed), "%s belongs to a cloud resource", text)
	case !c.robotIPs[ip]:
		return errorf(string(hcloud.ErrorCodeIPNotOwned), "%s is not owned by the owner of the project", text)
	}
	return nil
}

func (c *Cloud) ownsCloudIP(ip string) bool {
	for _, s := range c.servers {
		if s.PublicNet.IPv4.IP == ip {
			return true
		}
	}
	for _, f := range c.floating {
		if f.IP == ip {
			return true
		}
	}
	for _, p := range c.primary {
		if p.IP == ip {
			return true
		}
	}
	return false
}

// fillTarget adds what is known of a target only when somebody looks.
func (c *Cloud) fillTarget(lb *schema.LoadBalancer, t *schema.LoadBalancerTarget) {
	switch {
	case t.Server != nil:
		if s, ok := c.servers[t.Server.ID]; ok {
			t.HealthStatus = c.healthOf(lb, s.Name)
		}
	case t.IP != nil:
		t.HealthStatus = c.healthOf(lb, t.IP.IP)
	case t.LabelSelector != nil:
		sel, _ := parseSelector(t.LabelSelector.Selector) // it was read before
		t.Targets = []schema.LoadBalancerTarget{}
		for _, s := range byID(c.servers) {
			if sel.matches(s.Labels) {
				t.Targets = append(t.Targets, schema.LoadBalancerTarget{Type: "server", UsePrivateIP: t.UsePrivateIP,
					Server: &schema.LoadBalancerTargetServer{ID: s.ID}, HealthStatus: c.healthOf(lb, s.Name)})
			}
		}
	}
}

func (c *Cloud) healthOf(lb *schema.LoadBalancer, target string) []schema.LoadBalancerTargetHealthStatus {
	status, ok := c.health[target]
	if !ok {
		status = string(hcloud.LoadBalancerTargetHealthStatusStatusHealthy)
	}
	all := []schema.LoadBalancerTargetHealthStatus{}
	for _, s := range lb.Services {
		all = append(all, schema.LoadBalancerTargetHealthStatus{ListenPort: s.ListenPort, Status: status})
	}
	return all
}

func addTarget(c *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionAddTargetRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	t, err := c.newTarget(lb, req)
	return func() { lb.Targets = append(lb.Targets, t) }, err
}

func removeTarget(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var t schema.LoadBalancerTarget
	if err := r.decode(&t); err != nil {
		return nil, err
	}
	if t.Server == nil && t.LabelSelector == nil && t.IP == nil {
		return nil, invalid("type", "the target must be a server, a label selector or an IP")
	}
	if !slices.ContainsFunc(lb.Targets, sameTarget(t)) {
		return nil, errorf(codeNotFound, "there is no such target")
	}
	return func() { lb.Targets = slices.DeleteFunc(lb.Targets, sameTarget(t)) }, nil
}
