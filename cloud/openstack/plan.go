package openstack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/herald-lb/herald/cloud"
)

// plan returns what makes a load balancer what it should be.
func plan(want cloud.LBSpec, found *cloud.Found, s settings) (cloud.Plan, error) {
	want = withDefaults(want, s)
	if len(want.Targets) == 0 && found != nil {
		want.Targets = targetsOf(found.Raw)
	}
	fs, err := fronts(want, s)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return planNew(want, nil, fs, s), nil
	}
	if f, ok := found.Raw.(floating); ok {
		return planNew(want, &f, fs, s), nil
	}
	b, ok := found.Raw.(*balancer)
	switch {
	case !ok:
		return nil, cloud.Refuse("", "%s %s was not found by this driver", found.Kind, found.ID)
	case found.State == cloud.Deleting:
		return nil, &cloud.Error{Class: cloud.Locked, Text: "load balancer " + b.ID + " is being deleted"}
	case found.State == cloud.Failed:
		return planRemake(b, "it is in state ERROR", b.Served), nil
	}
	moved := misplaced(want, b)
	if moved != "" && want.AllowRecreate {
		return planRemake(b, moved, true), nil
	}
	from := makerOf(s, want.Owner)
	steps := planMarks(want, b, from)
	inside, err := planFronts(fs, b, from)
	if err != nil {
		return nil, err
	}
	steps = append(append(steps, inside...), planAddresses(want, b, s)...)
	if moved != "" {
		steps = append(steps, planRemake(b, moved, true)...)
	}
	slices.SortStableFunc(steps, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) })
	return steps, nil
}

// targetsOf are the nodes that a load balancer sends to. They stay if none is known: no
// node at all is more likely not to have been seen than not to be there.
func targetsOf(raw any) (all []cloud.Target) {
	b, ok := raw.(*balancer)
	if !ok {
		return nil
	}
	for _, p := range b.Pools {
		for _, m := range p.Members {
			if !slices.ContainsFunc(all, func(t cloud.Target) bool { return t.Addr == m.Addr }) {
				all = append(all, cloud.Target{Node: m.Name, Addr: m.Addr})
			}
		}
	}
	return all
}

// planNew makes a load balancer with all that is in it in one call. Its floating IP
// may be there already: one that was left, or that its Service names.
func planNew(want cloud.LBSpec, left *floating, fs []front, s settings) cloud.Plan {
	lb := makeBalancer{
		Owner: want.Owner, Name: cmp.Or(want.Title, want.Owner.ResourceName()),
		Subnet: want.Subnet, Network: want.Network, Flavor: want.Type, Zone: want.Location, Provider: s.Provider,
		Address: fixed(want, s), Fronts: fs,
	}
	var steps cloud.Plan
	if left != nil && !left.Mark.Owner.Same(want.Owner) {
		steps = append(steps, markAddressSteps(*left, want.Owner)...)
	}
	var ports []string
	for _, f := range fs {
		ports = append(ports, fmt.Sprintf("%s/%d", strings.ToLower(f.Protocol), f.Port))
	}
	steps = append(steps, cloud.Step{Order: cloud.Create, Kind: "create load balancer", Detail: lb.Name + " " + strings.Join(ports, " "), Payload: lb, Exposes: true})
	switch {
	case !public(want, s):
	case want.Address != "":
		steps = append(steps, cloud.Step{Order: cloud.Create, Kind: "assign address", Detail: want.Address, Payload: assignAddress{Ref: want.Address, Owner: want.Owner}, Exposes: true})
	case left != nil:
		steps = append(steps, cloud.Step{Order: cloud.Create, Kind: "assign address", ID: left.ID, Detail: left.Addr.String(), Payload: assignAddress{Ref: left.ID, Owner: want.Owner}, Exposes: true})
	default:
		steps = append(steps, createAddressSteps(want, s)...)
	}
	return steps
}

// planRemake removes a load balancer that cannot be changed into what it should be.
// Its floating IP stays, and is there for the next one.
func planRemake(b *balancer, why string, loses bool) cloud.Plan {
	return cloud.Plan{{Order: cloud.Remove, Kind: "remove load balancer", ID: b.ID, Detail: "to make it anew: " + why, Payload: dropBalancer{ID: b.ID}, Destructive: loses, Exposes: true}}
}

// misplaced says what of a load balancer is not where it should be, and cannot be
// changed; empty for nothing.
func misplaced(want cloud.LBSpec, b *balancer) string {
	switch {
	case !b.Subnet.is(want.Subnet):
		return fmt.Sprintf("it is in subnet %s, not %s", b.Subnet.ID, want.Subnet)
	case !b.Network.is(want.Network):
		return fmt.Sprintf("it is in network %s, not %s", b.Network.ID, want.Network)
	case !b.Flavor.is(want.Type):
		return fmt.Sprintf("its flavor is %q, not %s", b.Flavor.ID, want.Type)
	case want.Location != "" && b.Zone != want.Location:
		return fmt.Sprintf("its availability zone is %q, not %s", b.Zone, want.Location)
	}
	return ""
}

// planMarks says whose a load balancer is. Of one that was there before, the name and
// what people say of it are left to them; what another controller has made for this
// Service is as if it had been made here.
func planMarks(want cloud.LBSpec, b *balancer, from maker) cloud.Plan {
	was := readTags(b.Tags)
	is := marks{Owner: want.Owner, Adopted: was.Adopted || was.none() && !from.made(b)}
	do := markBalancer{ID: b.ID, Name: b.Name, Description: b.Description, Tags: is.tags(b.Tags)}
	if !is.Adopted {
		do.Tags = slices.DeleteFunc(do.Tags, func(t string) bool { return t == from.balancer() })
	}
	switch {
	case want.Title != "":
		do.Name = want.Title
	case !is.Adopted:
		do.Name = want.Owner.ResourceName()
	}
	if !is.Adopted || b.Description == "" || strings.HasPrefix(b.Description, described) {
		do.Description = is.String()
	}
	var steps cloud.Plan
	switch {
	case !slices.Equal(do.Tags, b.Tags) || do.Description != b.Description:
		steps = append(steps, cloud.Step{Order: cloud.Mark, Kind: "mark load balancer", ID: b.ID, Detail: want.Owner.Key(), Payload: do})
	case do.Name != b.Name:
		steps = append(steps, cloud.Step{Order: cloud.Change, Kind: "rename load balancer", ID: b.ID, Detail: do.Name, Payload: do})
	}
	for _, f := range b.Addresses {
		if f.Mark.none() && f.Description == from.address() {
			steps = append(steps, addressMarks(f, marks{Owner: want.Owner}, cloud.Mark)...)
		}
		theirs := !f.Mark.none() && f.Mark.Owner.Same(was.Owner)
		if theirs && (!f.Mark.Owner.Same(want.Owner) || f.Mark.Retained) {
			steps = append(steps, markAddressSteps(f, want.Owner)...)
		}
	}
	return steps
}
