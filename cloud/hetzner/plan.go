package hetzner

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

// Plan implements [cloud.Driver].
//
// Where a Service says nothing of type or location, a load balancer keeps what it
// has: other defaults do not move what there is. One that was adopted keeps its
// location, network and public interface as well. Without any node the targets stay.
func (d *Driver) Plan(spec cloud.LBSpec, found *cloud.Found) (cloud.Plan, error) {
	c := d.catalogue.Load()
	if c == nil {
		return nil, &cloud.Error{Class: cloud.Retryable, Text: "planning: types and prices are not known yet"}
	}
	p, err := plan(spec, found, d.defaults, c)
	if errors.Is(err, errMissing) {
		d.stale.Store(true)
	}
	return p, err
}

func plan(spec cloud.LBSpec, found *cloud.Found, defaults cloud.Defaults, c *catalogue) (cloud.Plan, error) {
	w, err := wantOf(spec, defaults, c)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return planCreate(w, defaults, c)
	}
	lb, ok := found.Raw.(*hcloud.LoadBalancer)
	if !ok {
		return nil, &cloud.Error{Class: cloud.Retryable, Text: "planning for " + found.ID + ": it is no load balancer of this driver"}
	}
	ch := changeOf(w, lb, found, c)
	ch.allowed = spec.AllowRecreate
	if err := ch.check(); err != nil {
		return nil, err
	}
	why := ch.lost(spec)
	switch {
	case why != "" && ch.adopted: // it is somebody's, and is not deleted
		return nil, cloud.Refuse(cloud.ReasonRecreate, "load balancer %s was adopted, and is never made anew: %s", lb.Name, why)
	case why != "":
		steps, err := ch.recreate(why, defaults)
		if err != nil || spec.AllowRecreate {
			return steps, err
		}
		return append(ch.steps(), steps...).sorted(), nil
	}
	return ch.steps().sorted(), nil
}

// steps is a plan in the making.
type steps cloud.Plan

// sorted orders steps; those of one order stay as they are.
func (s steps) sorted() cloud.Plan {
	slices.SortStableFunc(s, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) })
	return cloud.Plan(s)
}

// adoption is whether a load balancer was there before its Service. One that
// hcloud-cloud-controller-manager made for this Service was not.
func adoption(f *cloud.Found, o cloud.Owner, lb *hcloud.LoadBalancer) bool {
	nobodys := f.Owner == (cloud.Owner{})
	return f.Adopted || nobodys && lb.Labels[labelCCM] != string(o.UID)
}

// planCreate makes it all in one call. A subnet can only be named when a network is
// attached later; then targets wait for that.
func planCreate(w wanted, defaults cloud.Defaults, c *catalogue) (cloud.Plan, error) {
	w.typ = cmp.Or(w.typ, defaults.Type)
	if w.typ == "" {
		t, _ := c.smallest(0, 0)
		w.typ = t.name
	}
	w.location = cmp.Or(w.location, defaults.Location)
	switch names := c.locations(); {
	case w.location == "":
		return nil, cloud.Refuse("", "no location is named: set the annotation herald-lb.io/location, or defaults.location, to one of %s", names)
	case !slices.Contains(names, w.location):
		return nil, missing("location %q, use one of %s", w.location, names)
	}
	if err := fits(w.typ, len(w.services), len(w.targets), c); err != nil {
		return nil, err
	}
	for _, s := range w.services {
		w.marks.ports = append(w.marks.ports, s.port)
	}
	if w.subnet.IsValid() {
		w.network, w.internal, w.targets = network{}, false, nil
	}
	return cloud.Plan{{
		Order:   cloud.Create,
		Kind:    "create load balancer",
		Detail:  fmt.Sprintf("%s %s in %s, listeners: %d, targets: %d", w.name, w.typ, w.location, len(w.services), len(w.targets)),
		Payload: createLB{w},
		Exposes: true,
		Cost:    c.cost(w.typ, w.location),
	}}, nil
}

// fits is whether a type has room.
func fits(typ string, services, targets int, c *catalogue) error {
	t, ok := c.byName(typ)
	if !ok {
		return missing("load balancer type %q", typ)
	}
	larger := "no type has room for them"
	if l, ok := c.smallest(services, targets); ok {
		larger = "the smallest type with room for them is " + l.name
	}
	switch {
	case services > t.services:
		return cloud.Refuse("", "%d listeners, and %s has at most %d: %s", services, t.name, t.services, larger)
	case targets > t.targets:
		return cloud.Refuse(cloud.ReasonTargetLimit, "%d targets, and %s has at most %d: %s", targets, t.name, t.targets, larger)
	}
	return nil
}

// MaxTargets implements [cloud.TargetLimiter].
func (d *Driver) MaxTargets(spec cloud.LBSpec, found *cloud.Found) int {
	c := d.catalogue.Load()
	if c == nil {
		return 0
	}
	var lb *hcloud.LoadBalancer
	if found != nil {
		lb, _ = found.Raw.(*hcloud.LoadBalancer)
	}
	if lb == nil {
		smallest, _ := c.smallest(0, 0)
		t, _ := c.byName(cmp.Or(spec.Type, d.defaults.Type, smallest.name))
		return t.targets
	}
	now, _ := c.byName(lb.LoadBalancerType.Name)
	next, known := c.byName(cmp.Or(spec.Type, lb.LoadBalancerType.Name))
	limit := next.targets
	if !known || next.targets < len(lb.Targets) && !spec.AllowRecreate {
		limit = now.targets // no type takes targets away unasked
	}
	w := wanted{marks: marks{owner: spec.Owner}}
	w.targets, _ = targetsOf(spec.Targets, false)
	ch := changeOf(w, lb, found, c)
	return max(0, limit-ch.foreignTargets())
}

// Standing implements [cloud.TargetLimiter].
func (d *Driver) Standing(found *cloud.Found) func(cloud.Target) bool {
	var now map[string]target
	if found != nil {
		if lb, ok := found.Raw.(*hcloud.LoadBalancer); ok {
			now = targetsNow(lb)
		}
	}
	return func(t cloud.Target) bool {
		targets, err := targetsOf([]cloud.Target{t}, false)
		if err != nil {
			return false
		}
		_, stands := now[targets[0].key()]
		return stands
	}
}

// A change is what there is and what should be.
type change struct {
	want      wanted
	ports     map[int]bool    // that are wanted
	keys      map[string]bool // of targets that are wanted
	lb        *hcloud.LoadBalancer
	id        string
	services  map[int]service   // that there are
	targets   map[string]target // that there are, of those that could be ours
	marks     marks
	marked    map[string]bool // keys of targets
	catalogue *catalogue
	adopted   bool
	allowed   bool // to lose something
}

func changeOf(w wanted, lb *hcloud.LoadBalancer, found *cloud.Found, c *catalogue) *change {
	ch := &change{
		want: w, ports: map[int]bool{}, keys: map[string]bool{},
		lb: lb, id: found.ID, services: servicesNow(lb), targets: targetsNow(lb),
		marks: marksOf(lb.Labels), marked: map[string]bool{},
		catalogue: c, adopted: adoption(found, w.marks.owner, lb),
	}
	for _, s := range w.services {
		ch.ports[s.port] = true
	}
	for _, t := range w.targets {
		ch.keys[t.key()] = true
	}
	for _, key := range ch.marks.targets {
		ch.marked[key] = true
	}
	return ch
}

// typ is the type that it should have.
func (ch *change) typ() string { return cmp.Or(ch.want.typ, ch.lb.LoadBalancerType.Name) }

func (ch *change) check() error {
	foreign := 0
	for port := range ch.services {
		if !ch.ports[port] && !slices.Contains(ch.marks.ports, port) {
			foreign++
		}
	}
	// Who has too many listeners for a type that is no longer in the catalogue is told so
	// by the API.
	if _, known := ch.catalogue.byName(ch.typ()); !known && ch.want.typ == "" {
		return nil
	}
	targets := len(ch.want.targets) + ch.foreignTargets()
	if ch.drops() && !ch.allowed {
		targets = 0 // the type stays as it is until that is allowed
	}
	return fits(ch.typ(), len(ch.ports)+foreign, targets, ch.catalogue)
}

func (ch *change) wantedPorts() []int {
	return slices.Sorted(maps.Keys(ch.ports))
}

// foreignTargets counts those that are not ours, and would not be: label selectors,
// and on a load balancer that was adopted also what people have added.
func (ch *change) foreignTargets() (n int) {
	n = len(ch.lb.Targets) - len(ch.targets)
	for key := range ch.targets {
		if !ch.ours(key) {
			n++
		}
	}
	return n
}

// ours is whether a target is to be kept or to be removed.
func (ch *change) ours(key string) bool {
	return !ch.adopted || ch.keys[key] || ch.marked[key]
}

// drops is whether the type that is asked for has no room for the targets
// there are.
func (ch *change) drops() bool {
	t, ok := ch.catalogue.byName(ch.typ())
	return ok && t.targets < len(ch.lb.Targets)
}

// lost is why a load balancer would have to be made anew, losing its address; empty
// if it need not be.
func (ch *change) lost(spec cloud.LBSpec) string {
	lb, w := ch.lb, ch.want
	if w.address != "" && !hasAddress(lb, w.address) {
		return "its address is not " + w.address
	}
	if ch.adopted {
		return ""
	}
	if w.location != "" && lb.Location.Name != w.location && strconv.FormatInt(lb.Location.ID, 10) != w.location {
		return "it is in " + lb.Location.Name + ", not in " + w.location
	}
	if spec.Network == "" || len(lb.PrivateNet) == 0 {
		return ""
	}
	n := lb.PrivateNetFor(&hcloud.Network{ID: w.network.id})
	if n == nil {
		return "it is in another network than " + spec.Network
	}
	if ip, ok := netip.AddrFromSlice(n.IP); ok && spec.Subnet != "" && !w.subnet.Contains(ip.Unmap()) {
		return "its address " + ip.Unmap().String() + " is not in " + spec.Subnet
	}
	return ""
}

// hasAddress is whether a load balancer has a reserved address, by its ID or as text.
func hasAddress(lb *hcloud.LoadBalancer, ref string) bool {
	public := lb.PublicNet
	if id, err := strconv.ParseInt(ref, 10, 64); err == nil {
		return public.IPv4.ID == id || public.IPv6.ID == id
	}
	of, ok := parseAddress(ref)
	if !ok {
		return false
	}
	return slices.ContainsFunc(appendAddr(appendAddr(nil, public.IPv4.IP), public.IPv6.IP), of.Contains)
}

// parseAddress reads an address; one of IPv6 is reserved with all of its /64.
func parseAddress(ref string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(ref); err == nil {
		return p.Masked(), true
	}
	ip, err := netip.ParseAddr(ref)
	if err != nil {
		return netip.Prefix{}, false
	}
	if ip.Is4() {
		return netip.PrefixFrom(ip, 32), true
	}
	p, err := ip.Unmap().WithZone("").Prefix(64)
	return p, err == nil
}

// recreate deletes and makes anew. The name is unique: both cannot be at once.
func (ch *change) recreate(why string, defaults cloud.Defaults) (cloud.Plan, error) {
	w := ch.want
	w.typ, w.location = ch.typ(), cmp.Or(w.location, ch.lb.Location.Name)
	w.marks.adopted = false
	made, err := planCreate(w, defaults, ch.catalogue)
	if err != nil {
		return nil, err
	}
	gone := cloud.Step{Order: cloud.Create, Kind: "delete load balancer", ID: ch.id, Detail: "to make it anew: " + why, Payload: deleteLB{}, Destructive: true, Exposes: true,
		Cost: negative(ch.catalogue.cost(ch.lb.LoadBalancerType.Name, ch.lb.Location.Name))}
	made[0].Destructive = true
	return append(cloud.Plan{gone}, made...), nil
}

func negative(m cloud.Money) cloud.Money {
	m.Milli = -m.Milli
	return m
}

// PlanRemoval implements [cloud.Driver].
func (d *Driver) PlanRemoval(f cloud.Found, p cloud.Policy) cloud.Plan {
	step := cloud.Step{Order: cloud.Mark, ID: f.ID, Detail: f.Name}
	switch {
	case p == cloud.PolicyRetain && f.Retained:
		return nil
	case p == cloud.PolicyRetain || p == cloud.PolicyRelease:
		step.Kind, step.Payload = strings.ToLower(string(p))+" "+string(f.Kind), leave(f, p == cloud.PolicyRetain)
		return cloud.Plan{step}
	}
	step.Order, step.Kind, step.Payload, step.Cost = cloud.Remove, "delete "+string(f.Kind), deleteLB{}, negative(f.Cost)
	if f.Kind == cloud.Address {
		step.Payload = deleteAddress{}
		return cloud.Plan{{Order: cloud.Unassign, Kind: "unassign address", ID: f.ID, Detail: f.Name, Payload: unassignAddress{}}, step}
	}
	return cloud.Plan{step}
}

// leave is the payload of a step that leaves something where it is: without our
// marks or, retained, with one more.
func leave(f cloud.Found, retained bool) any {
	if f.Kind == cloud.Address {
		return markAddress{from: f.Owner, retained: retained}
	}
	m := mark{from: f.Owner}
	if lb, ok := f.Raw.(*hcloud.LoadBalancer); ok && retained {
		m.to = marksOf(lb.Labels)
		m.to.retained = true
	}
	return m
}
