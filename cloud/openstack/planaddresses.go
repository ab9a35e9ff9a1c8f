package openstack

import (
	"slices"

	"github.com/herald-lb/herald/cloud"
)

// planAddresses returns what is to be done about floating IPs. One that people put at
// the load balancer's port is as good as ours. An address that was ours is lost only
// by steps that are marked so.
func planAddresses(want cloud.LBSpec, b *balancer, s settings) cloud.Plan {
	var ours []floating
	for _, f := range b.Addresses {
		if !f.Mark.none() && (f.Mark.Owner.Same(want.Owner) || f.Mark.Owner.Same(b.owner())) {
			ours = append(ours, f)
		}
	}
	i := slices.IndexFunc(b.Addresses, func(f floating) bool { return f.Port == b.VIPPort })
	var at floating // at the port, if there is one
	if i >= 0 {
		at = b.Addresses[i]
	}
	switch {
	case !public(want, s) && want.Internal:
		return planWithdrawal(ours, at)
	case !public(want, s):
		return nil
	case want.Address != "":
		return planNamed(want, b, ours, at)
	case at.ID != "":
		return planKept(want, ours, at)
	case len(ours) > 0:
		return append(tagStep(ours[0], want.Owner), cloud.Step{Order: cloud.Change, Kind: "assign address", ID: ours[0].ID, Detail: ours[0].Addr.String(),
			Payload: assignAddress{Ref: ours[0].ID, LB: b.ID, Port: b.VIPPort, Owner: want.Owner}, Exposes: true})
	}
	return createAddressSteps(want, s)
}

// planWithdrawal takes ours away. The load balancer is out of reach at once; that the
// address is given back, too, is for people to say.
func planWithdrawal(ours []floating, at floating) cloud.Plan {
	var steps cloud.Plan
	for _, f := range ours {
		if f.ID == at.ID {
			steps = append(steps, unassignStep(f, cloud.Unassign))
		}
		steps = append(steps, dropAddressStep(f, true))
	}
	return steps
}

// planNamed puts the address before the load balancer that a Service names. It is
// not ours, and gets no mark. A port has one floating IP: another one goes first.
func planNamed(want cloud.LBSpec, b *balancer, ours []floating, at floating) cloud.Plan {
	var steps cloud.Plan
	if !at.is(want.Address) {
		if slices.ContainsFunc(ours, func(f floating) bool { return f.ID == at.ID }) {
			steps = append(steps, unassignStep(at, cloud.Change))
		}
		steps = append(steps, cloud.Step{Order: cloud.Change, Kind: "assign address", Detail: want.Address,
			Payload: assignAddress{Ref: want.Address, LB: b.ID, Port: b.VIPPort, Owner: want.Owner}, Exposes: at.ID == ""})
	}
	for _, f := range ours {
		if !f.is(want.Address) {
			steps = append(steps, dropAddressStep(f, true))
		}
	}
	return steps
}

// planKept leaves an address where it is. Ours beside it are of no use; where the one
// that is used is not ours, they may be what people want back.
func planKept(want cloud.LBSpec, ours []floating, at floating) cloud.Plan {
	used := slices.ContainsFunc(ours, func(f floating) bool { return f.ID == at.ID })
	var steps cloud.Plan
	for _, f := range ours {
		if f.ID == at.ID {
			steps = append(steps, tagStep(f, want.Owner)...)
			continue
		}
		steps = append(steps, dropAddressStep(f, !used))
	}
	return steps
}

// createAddressSteps makes one, described as ours from the start, and tags it. The
// load balancer may be made just before, and is looked for. Both steps are taken, or none.
func createAddressSteps(want cloud.LBSpec, s settings) cloud.Plan {
	return cloud.Plan{
		{Order: cloud.Create, Kind: "create address", Detail: "of network " + s.FloatingNetwork, Payload: makeAddress{Owner: want.Owner, Network: s.FloatingNetwork}, Exposes: true},
		{Order: cloud.Change, Kind: "tag address", Payload: tagAddress{Owner: want.Owner, Tags: marks{Owner: want.Owner}.shortTags(nil)}, Exposes: true},
	}
}

// tagStep tags an address of ours that has not all tags.
func tagStep(f floating, o cloud.Owner) cloud.Plan {
	tags := f.Mark.shortTags(f.Tags)
	if slices.Equal(tags, f.Tags) || !f.Mark.Owner.Same(o) || f.Mark.Retained {
		return nil
	}
	return cloud.Plan{{Order: cloud.Change, Kind: "tag address", ID: f.ID, Detail: f.Addr.String(), Payload: tagAddress{ID: f.ID, Owner: o, Tags: tags}}}
}

// markAddressSteps makes an address another Service's. What it is described as
// counts: it goes first.
func markAddressSteps(f floating, o cloud.Owner) cloud.Plan {
	return addressMarks(f, marks{Owner: o, Adopted: f.Mark.Adopted || f.Mark.none()}, cloud.Mark)
}

func addressMarks(f floating, m marks, o cloud.Order) cloud.Plan {
	return cloud.Plan{
		{Order: o, Kind: "mark address", ID: f.ID, Detail: f.Addr.String(), Payload: describeAddress{ID: f.ID, Description: m.String()}},
		{Order: o, Kind: "tag address", ID: f.ID, Detail: f.Addr.String(), Payload: tagAddress{ID: f.ID, Owner: m.Owner, Tags: m.shortTags(f.Tags)}},
	}
}

func unassignStep(f floating, o cloud.Order) cloud.Step {
	return cloud.Step{Order: o, Kind: "unassign address", ID: f.ID, Detail: f.Addr.String(), Payload: unassignAddress{ID: f.ID}}
}

func dropAddressStep(f floating, loses bool) cloud.Step {
	return cloud.Step{Order: cloud.Remove, Kind: "remove address", ID: f.ID, Detail: f.Addr.String(), Payload: dropAddress{ID: f.ID}, Destructive: loses}
}
