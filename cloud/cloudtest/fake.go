// Package cloudtest has what tests of clouds share: a cloud that is made up, and the
// promises that an engine keeps on it and on every real driver.
package cloudtest

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// Fake is a cloud that is made up, and its Driver. It serves TCP and UDP, has
// addresses of both families, and refuses changes of what is busy.
type Fake struct {
	// Can is what Capabilities returns.
	Can cloud.Capabilities
	// Busy is how long a change takes.
	Busy time.Duration
	// Fault is asked before each call, and after it if it succeeds: reads by the names of
	// the Driver's methods, changes by that of the step. What it returns is the answer.
	Fault func(call string, after bool) error

	mu            sync.Mutex
	lbs           map[string]*lb
	addrs         map[string]*cloud.FoundAddress
	next          int
	reads, writes int
	hide          int // the read that shows nothing, counted from the next, which is 1
	pending       map[string]time.Time
}

// An lb is a load balancer of the fake.
type lb struct {
	cloud.Found
	spec cloud.LBSpec
}

var _ cloud.Driver = (*Fake)(nil)

// NewFake returns an empty cloud.
func NewFake() *Fake {
	return &Fake{
		Can: cloud.Capabilities{
			Protocols: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}, Families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			ProxyProtocol: true, HTTPHealthCheck: true, Retains: true, Addresses: true, Delivery: cloud.ToNodePort,
		},
		lbs: map[string]*lb{}, addrs: map[string]*cloud.FoundAddress{}, pending: map[string]time.Time{},
	}
}

// fault counts a call, and asks whether it fails.
func (f *Fake) fault(call string, after bool) error {
	if f.Fault == nil {
		return nil
	}
	return f.Fault(call, after)
}

// read counts a call that reads, and asks whether it fails, or shows nothing.
func (f *Fake) read(call string) (hidden bool, err error) {
	f.mu.Lock()
	f.reads++
	hidden = f.hide == 1
	f.hide--
	f.mu.Unlock()
	return hidden, cmp.Or(f.fault(call, false), f.fault(call, true))
}

// Hide has a read show nothing, after some that show what there is.
func (f *Fake) Hide(after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hide = after + 1
}

// Calls are how many there were, of those that read and those that change.
func (f *Fake) Calls() (reads, writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads, f.writes
}

// Capabilities implements cloud.Driver.
func (f *Fake) Capabilities(context.Context) (cloud.Capabilities, error) { return f.Can, nil }

// Find implements cloud.Driver.
func (f *Fake) Find(_ context.Context, o cloud.Owner) ([]cloud.Found, error) {
	return f.some("Find", func(l *lb) bool { return l.Owner.Same(o) })
}

// List implements cloud.Driver.
func (f *Fake) List(_ context.Context, cluster string) ([]cloud.Found, error) {
	return f.some("List", func(l *lb) bool { return l.Owner.Cluster == cluster })
}

// All is what there is, whosever it is.
func (f *Fake) All() []cloud.Found {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copies(func(*lb) bool { return true })
}

func (f *Fake) some(call string, is func(*lb) bool) ([]cloud.Found, error) {
	if hidden, err := f.read(call); hidden || err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copies(is), nil
}

func (f *Fake) copies(is func(*lb) bool) (all []cloud.Found) {
	for _, l := range f.lbs {
		if is(l) {
			found := l.Found
			found.Raw = l.spec
			all = append(all, found)
		}
	}
	slices.SortFunc(all, func(a, b cloud.Found) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Lookup implements cloud.Driver.
func (f *Fake) Lookup(_ context.Context, ref string) (cloud.Found, error) {
	all, err := f.some("Lookup", func(l *lb) bool {
		return l.ID == ref || l.Name == ref || slices.ContainsFunc(l.Addrs, func(a netip.Addr) bool { return a.String() == ref })
	})
	if err == nil && len(all) == 0 {
		err = &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("there is no load balancer %q", ref)}
	}
	if err != nil {
		return cloud.Found{}, err
	}
	return all[0], nil
}

// Add makes a load balancer that somebody else has made.
func (f *Fake) Add(name string, o cloud.Owner) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(name, o, cloud.LBSpec{Owner: o}).ID
}

func (f *Fake) add(name string, o cloud.Owner, spec cloud.LBSpec) *lb {
	f.next++
	l := &lb{spec: spec, Found: cloud.Found{
		Kind: cloud.LoadBalancer, ID: fmt.Sprint(f.next), Name: name, Owner: o, State: cloud.Ready, Created: time.Now(), Cost: price,
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(f.next)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%x", f.next))},
	}}
	f.lbs[l.ID] = l
	return l
}

// Edit changes a load balancer, as people do in a cloud's console.
func (f *Fake) Edit(id string, edit func(*cloud.Found, *cloud.LBSpec)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.lbs[id].Found, &f.lbs[id].spec)
}

// Drop deletes a load balancer, as people do in a cloud's console.
func (f *Fake) Drop(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lbs, id)
}

var price = cloud.Money{Milli: 5390, Currency: "EUR"}

// Plan implements cloud.Driver.
func (f *Fake) Plan(want cloud.LBSpec, found *cloud.Found) (p cloud.Plan, err error) {
	if found == nil {
		return cloud.Plan{{Order: cloud.Create, Kind: "create", Detail: want.Owner.ResourceName(), Payload: want, Cost: price, Exposes: true}}, nil
	}
	add := func(o cloud.Order, kind, detail string, payload any) {
		p = append(p, cloud.Step{Order: o, Kind: kind, ID: found.ID, Detail: detail, Payload: payload, Destructive: kind == "move",
			Exposes: kind == "move" || kind == "publish" || kind == "add listener"})
	}
	if !found.Owner.Same(want.Owner) {
		add(cloud.Mark, "mark", want.Owner.Key(), mark{want.Owner, found.Adopted || found.Owner == (cloud.Owner{})})
	}
	have, _ := found.Raw.(cloud.LBSpec)
	if have.Location != want.Location && want.Location != "" {
		add(cloud.Create, "move", want.Location, want.Location)
	}
	if have.Internal && !want.Internal {
		add(cloud.Grow, "publish", "", internal(false))
	} else if !have.Internal && want.Internal {
		add(cloud.Shrink, "withdraw", "", internal(true))
	}
	for _, l := range want.Listeners {
		if i := slices.IndexFunc(have.Listeners, func(h cloud.Listener) bool { return h.ID() == l.ID() }); i < 0 {
			add(cloud.AddListener, "add listener", l.ID(), l)
		} else if have.Listeners[i] != l {
			add(cloud.Change, "update listener", l.ID(), l)
		}
	}
	for _, l := range have.Listeners {
		if !slices.ContainsFunc(want.Listeners, func(w cloud.Listener) bool { return w.ID() == l.ID() }) {
			add(cloud.RemoveListener, "remove listener", l.ID(), l)
		}
	}
	for _, t := range want.Targets {
		if !slices.Contains(have.Targets, t) {
			add(cloud.AddTarget, "add target", t.Node, t)
		}
	}
	for _, t := range have.Targets {
		if !slices.Contains(want.Targets, t) && len(want.Targets) > 0 {
			add(cloud.RemoveTarget, "remove target", t.Node, t)
		}
	}
	return p, nil
}

// internal is whether a load balancer has no public address.
type internal bool

type mark struct {
	owner   cloud.Owner
	adopted bool
}

// PlanRemoval implements cloud.Driver.
func (f *Fake) PlanRemoval(found cloud.Found, p cloud.Policy) cloud.Plan {
	switch p {
	case cloud.PolicyDelete:
		if found.Kind == cloud.Address {
			return cloud.Plan{{Order: cloud.Unassign, Kind: "unassign", ID: found.ID}, {Order: cloud.Remove, Kind: "delete", ID: found.ID}}
		}
		return cloud.Plan{{Order: cloud.Remove, Kind: "delete", ID: found.ID}}
	case cloud.PolicyRelease:
		return cloud.Plan{{Order: cloud.Mark, Kind: "release", ID: found.ID, Payload: mark{}}}
	case cloud.PolicyRetain:
		if !found.Retained {
			return cloud.Plan{{Order: cloud.Mark, Kind: "retain", ID: found.ID}}
		}
	}
	return nil
}

// Apply implements cloud.Driver.
func (f *Fake) Apply(_ context.Context, s cloud.Step) (cloud.Pending, error) {
	f.mu.Lock()
	f.writes++
	f.mu.Unlock()
	if err := f.fault(s.Kind, false); err != nil {
		return cloud.Pending{}, err
	}
	p, err := f.change(s)
	if err == nil {
		err = f.fault(s.Kind, true)
	}
	return p, err
}

func (f *Fake) change(s cloud.Step) (cloud.Pending, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Kind == "create" {
		want := s.Payload.(cloud.LBSpec)
		for _, l := range f.lbs {
			if l.Name == want.Owner.ResourceName() {
				return cloud.Pending{}, &cloud.Error{Class: cloud.Conflict, Text: "name " + l.Name + " is taken"}
			}
		}
		return f.busy(f.add(want.Owner.ResourceName(), want.Owner, want).ID), nil
	}
	if a, ok := f.addrs[s.ID]; ok {
		return f.changeAddress(a, s)
	}
	l, ok := f.lbs[s.ID]
	switch {
	case !ok && s.Order == cloud.Unassign:
		return cloud.Pending{}, nil
	case !ok && s.Order == cloud.Remove:
		return cloud.Pending{}, nil
	case !ok:
		return cloud.Pending{}, &cloud.Error{Class: cloud.NotFound, Text: "load balancer " + s.ID}
	case time.Now().Before(f.pending[s.ID]):
		return cloud.Pending{}, &cloud.Error{Class: cloud.Locked, Text: "load balancer " + s.ID + " is busy"}
	}
	if s.Kind == "delete" {
		delete(f.lbs, s.ID)
		return cloud.Pending{}, nil
	}
	l.change(s)
	return f.busy(l.ID), nil
}

func (l *lb) change(s cloud.Step) {
	switch p := s.Payload.(type) {
	case mark:
		l.Owner, l.Adopted, l.Retained = p.owner, p.adopted, false
	case cloud.Listener:
		l.spec.Listeners = slices.DeleteFunc(slices.Clone(l.spec.Listeners), func(h cloud.Listener) bool { return h.ID() == p.ID() })
		if !strings.HasPrefix(s.Kind, "remove") {
			l.spec.Listeners = append(l.spec.Listeners, p)
		}
	case cloud.Target:
		l.spec.Targets = slices.DeleteFunc(slices.Clone(l.spec.Targets), func(t cloud.Target) bool { return t == p })
		if !strings.HasPrefix(s.Kind, "remove") {
			l.spec.Targets = append(l.spec.Targets, p)
		}
	case string:
		l.spec.Location = p
	case internal:
		l.spec.Internal = bool(p)
	}
	l.Retained = l.Retained || s.Kind == "retain"
}

// busy has a resource be busy for as long as it was said.
func (f *Fake) busy(id string) cloud.Pending {
	if f.Busy == 0 {
		return cloud.Pending{}
	}
	f.pending[id] = time.Now().Add(f.Busy)
	return cloud.Pending{ID: id, Resource: id}
}

// Poll implements cloud.Driver.
func (f *Fake) Poll(_ context.Context, all []cloud.Pending) (left []cloud.Pending, err error) {
	if _, err := f.read("Poll"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range all {
		if time.Now().Before(f.pending[p.ID]) {
			left = append(left, p)
		}
	}
	return left, nil
}

// Instances implements cloud.Driver: each node with an InternalIP is a machine.
func (f *Fake) Instances(_ context.Context, nodes []*corev1.Node, _ cloud.LBSpec) (known []cloud.Target, unknown map[string]string, err error) {
	if err := cmp.Or(f.fault("Instances", false), f.fault("Instances", true)); err != nil {
		return nil, nil, err
	}
	unknown = map[string]string{}
	for _, n := range nodes {
		if len(n.Status.Addresses) == 0 {
			unknown[n.Name] = "it has no address"
			continue
		}
		addr, err := netip.ParseAddr(n.Status.Addresses[0].Address)
		if err != nil {
			unknown[n.Name] = err.Error()
			continue
		}
		known = append(known, cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: n.Name, Name: n.Name}, Addr: addr})
	}
	return known, unknown, nil
}
