package hetzner

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// A Refusal is an error with which the API answers requests that it would have
// served. Code is one of hcloud's; it says the status, too. Where there are
// several for a request, the oldest is used.
type Refusal struct {
	Method string         // any if empty
	Path   *regexp.Regexp // any if nil
	Code   string
	Times  int
}

// Refuse makes the API answer so.
func (c *Cloud) Refuse(r Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals = append(c.refusals, &r)
}

func (c *Cloud) refused(req *http.Request) error {
	for _, r := range c.refusals {
		if r.Times > 0 && (r.Method == "" || r.Method == req.Method) && (r.Path == nil || r.Path.MatchString(req.URL.Path)) {
			r.Times--
			return errorf(r.Code, "refused, as the test asked for")
		}
	}
	return nil
}

// FailActions makes the next times actions of that command end in an error,
// and change nothing.
func (c *Cloud) FailActions(command, code string, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, &failure{command, code, times})
}

// FreezeActions keeps actions from ending until it is called with false.
func (c *Cloud) FreezeActions(frozen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.frozen = frozen
}

// SetLatency makes actions that start from now on run for d.
func (c *Cloud) SetLatency(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Latency = d
}

// SetUnassignFirst sets [Options].UnassignFirst.
func (c *Cloud) SetUnassignFirst(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.UnassignFirst = on
}

// SetLimit makes n the most that the project may have of a kind.
func (c *Cloud) SetLimit(kind Kind, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits[kind] = n
}

// SetTypeLimits changes what a type of load balancer takes.
func (c *Cloud) SetTypeLimits(name string, services, targets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.types {
		if t := &c.types[i]; t.Name == name {
			t.MaxServices, t.MaxTargets = services, targets
		}
	}
}

// SetHealth makes all load balancers find a server, by its name, or an IP
// healthy, unhealthy or unknown. It is healthy otherwise.
func (c *Cloud) SetHealth(target, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health[target] = status
}

// OwnIP makes ip one of a dedicated server of the project's owner, which can
// be a target.
func (c *Cloud) OwnIP(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.robotIPs[ip] = true
}

// LoadBalancers returns all there are, in the order in which they were made.
func (c *Cloud) LoadBalancers() []schema.LoadBalancer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []schema.LoadBalancer
	for _, lb := range byID(c.balancers) {
		all = append(all, c.showBalancer(lb))
	}
	return all
}

// FloatingIPs returns all there are.
func (c *Cloud) FloatingIPs() []schema.FloatingIP {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []schema.FloatingIP
	for _, f := range byID(c.floating) {
		all = append(all, clone(f.FloatingIP))
	}
	return all
}

// PrimaryIPs returns all there are, those of load balancers among them.
func (c *Cloud) PrimaryIPs() []schema.PrimaryIP {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []schema.PrimaryIP
	for _, p := range byID(c.primary) {
		all = append(all, clone(p.PrimaryIP))
	}
	return all
}

// Servers returns all there are.
func (c *Cloud) Servers() []schema.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []schema.Server
	for _, s := range byID(c.servers) {
		all = append(all, c.showServer(s))
	}
	return all
}

// Actions returns all that ever started.
func (c *Cloud) Actions() []schema.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []schema.Action
	for _, a := range byID(c.actions) {
		all = append(all, clone(a.Action))
	}
	return all
}

// Deliveries returns which server got each floating IP's traffic, and when.
func (c *Cloud) Deliveries() []Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	return slices.Clone(c.deliveries)
}

// EditLoadBalancer changes one by hand, without an action or a check. It
// reports whether there is one of that ID.
func (c *Cloud) EditLoadBalancer(id int64, edit func(*schema.LoadBalancer)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	lb, ok := c.balancers[id]
	if ok {
		edit(&lb.LoadBalancer)
	}
	return ok
}

// EditFloatingIP changes one by hand; to move it there is MoveFloatingIP.
func (c *Cloud) EditFloatingIP(id int64, edit func(*schema.FloatingIP)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	f, ok := c.floating[id]
	if ok {
		edit(&f.FloatingIP)
	}
	return ok
}

// EditServer changes one by hand.
func (c *Cloud) EditServer(id int64, edit func(*schema.Server)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	s, ok := c.servers[id]
	if ok {
		edit(&s.Server)
	}
	return ok
}

// MoveFloatingIP has a server get its traffic at once, or none if that is 0.
func (c *Cloud) MoveFloatingIP(id, server int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	f, ok := c.floating[id]
	switch {
	case !ok:
	case server == 0:
		c.deliver(f, nil)
	case c.servers[server] == nil:
		return false
	default:
		c.deliver(f, &server)
	}
	return ok
}

// Remove deletes a thing by hand, at once and whatever protects it.
func (c *Cloud) Remove(kind Kind, id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	switch kind {
	case LoadBalancer:
		c.dropBalancer(id)
	case FloatingIP:
		if c.floating[id] != nil {
			c.dropFloating(id)
		}
	case PrimaryIP:
		c.dropPrimary(id)
	case Server:
		c.dropServer(id)
	case Network:
		delete(c.networks, id)
	}
}

// Calm ends refusals, failures of actions and what is frozen; actions are as quick, and
// the project as large, as when it was made.
func (c *Cloud) Calm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals, c.failures, c.frozen, c.limits = nil, nil, false, map[Kind]int{}
	c.bucket = newBucket(c.opts.RateLimit, c.clock.Now())
}
