package openstack

import (
	"cmp"
	"slices"

	"github.com/herald-lb/herald/cloud"
)

// planRemoval returns what removes a resource, or releases it, or marks it to be
// kept. Addresses go first: when the load balancer is gone nothing says any more that
// there was one. Where it has a twin, that may need the address; if not, the address
// is found by itself in the end.
func planRemoval(f cloud.Found, policy cloud.Policy) cloud.Plan {
	addresses, b := []floating{}, (*balancer)(nil)
	switch raw := f.Raw.(type) {
	case floating:
		addresses = append(addresses, raw)
	case *balancer:
		b = raw
		for _, a := range b.Addresses {
			if !a.Mark.none() && a.Mark.Owner.Same(f.Owner) && !b.Twin {
				addresses = append(addresses, a)
			}
		}
	}
	var steps cloud.Plan
	for _, a := range addresses {
		switch {
		case policy == cloud.PolicyRelease:
			steps = append(steps, releaseAddress(a)...)
		case policy == cloud.PolicyRetain && !a.Mark.Retained:
			m := a.Mark
			m.Retained = true
			steps = append(steps, addressMarks(a, m, cloud.Change)...)
		case policy == cloud.PolicyDelete:
			step := dropAddressStep(a, true)
			step.Order = cloud.Unassign
			steps = append(steps, step)
		}
	}
	if b != nil && f.State != cloud.Deleting {
		steps = append(steps, removeBalancer(b, policy)...)
	}
	slices.SortStableFunc(steps, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) })
	return steps
}

func removeBalancer(b *balancer, policy cloud.Policy) cloud.Plan {
	m := readTags(b.Tags)
	switch {
	case policy == cloud.PolicyRelease:
		return releaseBalancer(b, m.Adopted)
	case policy == cloud.PolicyRetain && !m.Retained:
		m.Retained = true
		do := markBalancer{ID: b.ID, Name: b.Name, Description: b.Description, Tags: m.tags(b.Tags)}
		if !readDescription(b.Description).none() {
			do.Description = m.String()
		}
		return cloud.Plan{{Order: cloud.Remove, Kind: "retain load balancer", ID: b.ID, Detail: b.Name, Payload: do}}
	case policy == cloud.PolicyDelete:
		return cloud.Plan{{Order: cloud.Remove, Kind: "remove load balancer", ID: b.ID, Detail: b.Name, Payload: dropBalancer{ID: b.ID}, Destructive: true}}
	}
	return nil
}

// releaseAddress leaves an address to people. The description is its mark, and goes
// last: half done it can be done again.
func releaseAddress(f floating) cloud.Plan {
	steps := cloud.Plan{}
	if tags := unmark(f.Tags); len(tags) < len(f.Tags) {
		steps = append(steps, cloud.Step{Order: cloud.Unassign, Kind: "untag address", ID: f.ID, Detail: f.Addr.String(), Payload: tagAddress{ID: f.ID, Tags: tags}})
	}
	if !readDescription(f.Description).none() {
		steps = append(steps, cloud.Step{Order: cloud.Unassign, Kind: "release address", ID: f.ID, Detail: f.Addr.String(), Payload: describeAddress{ID: f.ID}})
	}
	return steps
}

// releaseBalancer leaves a load balancer to people. From one that was there before,
// what was added goes: it sends to ports that are no more.
func releaseBalancer(b *balancer, adopted bool) cloud.Plan {
	var steps cloud.Plan
	if adopted {
		for _, l := range b.Listeners {
			if made(l.Name) {
				steps = append(steps, dropListenerStep(b.ID, l))
			}
		}
		for _, p := range b.Pools {
			if made(p.Name) {
				steps = append(steps, dropPoolStep(b.ID, p))
			}
		}
	}
	do := markBalancer{ID: b.ID, Name: b.Name, Description: b.Description, Tags: unmark(b.Tags)}
	if !readDescription(b.Description).none() {
		do.Description = ""
	}
	return append(steps, cloud.Step{Order: cloud.Remove, Kind: "release load balancer", ID: b.ID, Detail: b.Name, Payload: do})
}
