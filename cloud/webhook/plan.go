package webhook

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/herald-lb/herald/cloud"
)

// seen is the Raw of a load balancer.
type seen struct {
	lb       loadBalancer
	adoption bool // whether the server can give it an owner
}

// call is the Payload of a Step: the request, and what is to come of it.
type call struct {
	request
	want  goal
	owner cloud.Owner
}

// goal is what to wait for after a change.
type goal string

const (
	serves goal = "ready" // GET of the path says that it is ready
	gone   goal = "gone"  // GET of the path finds nothing
	done   goal = ""      // nothing
)

func lbPath(key string) string      { return "/v1/loadbalancers/" + url.PathEscape(key) }
func addressPath(key string) string { return "/v1/addresses/" + url.PathEscape(key) }

// Plan implements [cloud.Driver].
//
// A load balancer is made, and changed, by one PUT that says all of it. Where a
// change may cost the address it is a PUT of its own after another for the rest,
// so that the rest can be had without.
func (d *Driver) Plan(want cloud.LBSpec, found *cloud.Found) (cloud.Plan, error) {
	spec := specOut(want)
	if found == nil {
		return cloud.Plan{put(cloud.Create, "create load balancer", "", want, spec)}, nil
	}
	s, ok := found.Raw.(seen)
	if !ok || found.Kind != cloud.LoadBalancer {
		return nil, cloud.Refuse("", "webhook: %s %s is no load balancer of this server", found.Kind, quote(found.ID))
	}
	if found.State == cloud.Deleting {
		return nil, &cloud.Error{Class: cloud.Locked, After: s.lb.after(), Text: fmt.Sprintf("webhook: load balancer %s is being deleted", quote(found.ID))}
	}
	var plan cloud.Plan
	if !found.Owner.Same(want.Owner) {
		if !s.adoption {
			return nil, cloud.Refuse("OwnershipConflict", "webhook: load balancer %s is not of %s, and the server cannot give it another owner", quote(found.ID), want.Owner.Key())
		}
		plan = append(plan, adopt(s.lb, want.Owner))
	}
	return append(plan, converge(want, spec, s.lb)...), nil
}

// converge returns what makes a load balancer as it should be.
func converge(want cloud.LBSpec, spec lbSpec, lb loadBalancer) cloud.Plan {
	if lb.Spec == nil { // nothing is known of it: it was never asked for anything
		return cloud.Plan{put(cloud.AddListener, "set load balancer", lb.ID, want, spec)}
	}
	if len(spec.Targets) == 0 { // a list of nodes that is empty is no reason to cut everybody off
		spec.Targets = lb.Spec.Targets
	}
	var plan cloud.Plan
	moved := spec.placed != lb.Spec.placed
	if rest := spec; !moved || !want.AllowRecreate {
		rest.placed = lb.Spec.placed
		if !equal(rest, *lb.Spec) || lb.State == string(cloud.Failed) {
			order := cloud.Change
			if opens(rest, *lb.Spec) {
				order = cloud.AddListener
			}
			plan = append(plan, put(order, "change load balancer", lb.ID, want, rest))
		}
	}
	if moved {
		s := put(cloud.Change, "move load balancer", lb.ID, want, spec)
		s.Destructive, s.Exposes = true, opens(spec, *lb.Spec)
		s.Detail = fmt.Sprintf("%+v → %+v", lb.Spec.placed, spec.placed)
		plan = append(plan, s)
	}
	return plan
}

// opens is whether a change lets traffic in that did not get in before: by another port,
// by an address of another family, or from outside.
func opens(want, have lbSpec) bool {
	return have.Internal && !want.Internal ||
		slices.ContainsFunc(want.Families, func(f string) bool { return !slices.Contains(have.Families, f) }) ||
		slices.ContainsFunc(want.Listeners, func(l listener) bool {
			return !slices.ContainsFunc(have.Listeners, func(h listener) bool { return h.Protocol == l.Protocol && h.Port == l.Port })
		})
}

// put is the request that says all of it. By what it adds, traffic gets in.
func put(order cloud.Order, kind, id string, want cloud.LBSpec, spec lbSpec) cloud.Step {
	r := request{Method: http.MethodPut, Path: lbPath(key(want.Owner)), Body: lbRequest{Owner: ownerOut(want.Owner), Spec: spec}}
	return cloud.Step{Order: order, Kind: kind, ID: id, Payload: call{request: r, want: serves, owner: want.Owner}, Exposes: order == cloud.Create || order == cloud.AddListener,
		Detail: fmt.Sprintf("%s, %d listeners, %d targets", want.Owner.Key(), len(spec.Listeners), len(spec.Targets))}
}

func adopt(lb loadBalancer, o cloud.Owner) cloud.Step {
	r := request{Method: http.MethodPost, Path: lbPath(lb.ID) + "/adopt",
		Body: adoption{Key: key(o), Owner: ownerOut(o), Previous: lb.Owner}}
	return cloud.Step{Order: cloud.Mark, Kind: "adopt load balancer", ID: lb.ID, Detail: o.Key(), Payload: call{request: r, want: done, owner: o}}
}

// PlanRemoval implements [cloud.Driver]. What is nobody's is left alone, and
// what somebody has protected is only released.
func (d *Driver) PlanRemoval(f cloud.Found, p cloud.Policy) cloud.Plan {
	if f.Owner.Cluster == "" || f.Owner.UID == "" || f.State == cloud.Deleting {
		return nil
	}
	path := lbPath(key(f.Owner))
	if a, ok := f.Raw.(address); ok && f.Kind == cloud.Address {
		path = addressPath(addressKey(f.Owner, a.Family))
	} else if _, ok := f.Raw.(seen); !ok || f.Kind != cloud.LoadBalancer {
		return nil
	}
	switch {
	case p == cloud.PolicyDelete && !f.Protected:
		r := request{Method: http.MethodDelete, Path: path}
		return cloud.Plan{{Order: cloud.Remove, Kind: "delete " + string(f.Kind), ID: f.ID, Detail: f.Owner.Key(), Destructive: true, Payload: call{request: r, want: gone, owner: f.Owner}}}
	case p == cloud.PolicyDelete || p == cloud.PolicyRelease:
		r := request{Method: http.MethodDelete, Path: path + "?keep=true"}
		return cloud.Plan{{Order: cloud.Remove, Kind: "release " + string(f.Kind), ID: f.ID, Detail: f.Owner.Key(), Payload: call{request: r, want: done, owner: f.Owner}}}
	}
	return nil
}
