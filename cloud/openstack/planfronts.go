package openstack

import (
	"fmt"
	"slices"

	"github.com/herald-lb/herald/cloud"
)

// planFronts returns what is to be done about listeners and pools. A pool has its
// members before a listener sends to it. What another controller has made for this
// Service is used, under a new name.
func planFronts(fs []front, b *balancer, from maker) (cloud.Plan, error) {
	var steps cloud.Plan
	used := map[string]bool{} // pools, by ID
	kept := map[string]bool{} // listeners, by ID
	for _, f := range fs {
		l, err := listenerFor(f, b.Listeners, from)
		if err != nil {
			return nil, err
		}
		kept[l.ID] = true
		i := slices.IndexFunc(b.Pools, func(p pool) bool { return p.Name == f.to.Name && p.Protocol == f.to.Protocol && !used[p.ID] })
		if i < 0 {
			i = slices.IndexFunc(b.Pools, func(p pool) bool { return p.ID == l.Pool && p.Protocol == f.to.Protocol && from.inside(p.Name) })
			if i >= 0 {
				steps = append(steps, renamePoolStep(b.ID, b.Pools[i], f.to.Name))
			}
		}
		if i < 0 {
			steps = append(steps, newPool(b.ID, f)...)
			steps = append(steps, listenerSteps(b.ID, f, l, "")...)
			continue
		}
		p := b.Pools[i]
		used[p.ID] = true
		steps = append(steps, poolSteps(b.ID, f, p, l.Pool != p.ID)...)
		steps = append(steps, listenerSteps(b.ID, f, l, p.ID)...)
	}
	for _, l := range b.Listeners {
		if (made(l.Name) || from.inside(l.Name)) && !kept[l.ID] {
			steps = append(steps, dropListenerStep(b.ID, l))
		}
	}
	for _, p := range b.Pools {
		if (made(p.Name) || from.inside(p.Name)) && !used[p.ID] {
			steps = append(steps, dropPoolStep(b.ID, p))
		}
	}
	return steps, nil
}

// listenerFor returns the one that is there for a front, or none. Of those that
// people made, one at the same port is in the way: HTTP and the like are TCP, too.
func listenerFor(f front, all []listener, from maker) (listener, error) {
	datagrams := func(protocol string) bool { return protocol == "UDP" || protocol == "SCTP" }
	for _, l := range all {
		if l.Port != f.Port || l.Protocol != f.Protocol && (datagrams(l.Protocol) || datagrams(f.Protocol)) {
			continue
		}
		if !made(l.Name) && !from.inside(l.Name) || l.Protocol != f.Protocol {
			return listener{}, cloud.Refuse("OwnershipConflict", "the load balancer has a listener at %s port %d, %s, that is not ours", l.Protocol, l.Port, l.ID)
		}
		return l, nil
	}
	return listener{}, nil
}

// newPool makes one with members and monitor, in three calls: in one it can be made
// only with its load balancer.
func newPool(lb string, f front) cloud.Plan {
	steps := cloud.Plan{{Order: cloud.AddListener, Kind: "add pool", ID: lb, Detail: f.to.Name, Payload: addPool{LB: lb, Name: f.to.Name, Protocol: f.to.Protocol, Algorithm: f.to.Algorithm}}}
	if len(f.to.Members) > 0 {
		steps = append(steps, membersStep(lb, "", f, cloud.AddListener))
	}
	return append(steps, cloud.Step{Order: cloud.AddListener, Kind: "add monitor", ID: lb, Detail: f.to.Name, Payload: addMonitor{LB: lb, PoolName: f.to.Name, Probe: f.to.Probe}})
}

func membersStep(lb, id string, f front, o cloud.Order) cloud.Step {
	return cloud.Step{Order: o, Kind: "set members", ID: lb, Detail: fmt.Sprintf("%s: %d", f.to.Name, len(f.to.Members)),
		Payload: setMembers{LB: lb, Pool: id, PoolName: f.to.Name, Members: f.to.Members}}
}

// poolSteps changes a pool. One that is unused so far is made ready first.
func poolSteps(lb string, f front, p pool, unused bool) cloud.Plan {
	var steps cloud.Plan
	order := func(o cloud.Order) cloud.Order {
		if unused {
			return cloud.AddListener
		}
		return o
	}
	if !slices.Equal(p.Members, f.to.Members) {
		steps = append(steps, membersStep(lb, p.ID, f, order(membersOrder(p.Members, f.to.Members))))
	}
	if p.Algorithm != f.to.Algorithm {
		steps = append(steps, cloud.Step{Order: order(cloud.Change), Kind: "set algorithm", ID: lb, Detail: p.Name + " → " + f.to.Algorithm, Payload: setAlgorithm{LB: lb, Pool: p.ID, Algorithm: f.to.Algorithm}})
	}
	add := cloud.Step{Order: order(cloud.Change), Kind: "add monitor", ID: lb, Detail: p.Name, Payload: addMonitor{LB: lb, Pool: p.ID, PoolName: p.Name, Probe: f.to.Probe}}
	switch {
	case p.Monitor == "":
		steps = append(steps, add)
	case p.Probe.Type != f.to.Probe.Type: // which is for good
		drop := cloud.Step{Order: order(cloud.Change), Kind: "remove monitor", ID: lb, Detail: p.Name, Payload: dropMonitor{LB: lb, ID: p.Monitor}}
		steps = append(steps, drop, add)
	case p.Probe != f.to.Probe:
		steps = append(steps, cloud.Step{Order: order(cloud.Change), Kind: "set monitor", ID: lb, Detail: p.Name, Payload: setMonitor{LB: lb, ID: p.Monitor, Probe: f.to.Probe}})
	}
	return steps
}

// membersOrder is when all members of a pool are set, in one call: as early as the
// first that is new is due.
func membersOrder(have, want []member) cloud.Order {
	in := func(all []member, m member) bool {
		return slices.ContainsFunc(all, func(o member) bool { return o.at() == m.at() })
	}
	switch {
	case slices.ContainsFunc(want, func(m member) bool { return !in(have, m) }):
		return cloud.AddTarget
	case slices.ContainsFunc(have, func(m member) bool { return !in(want, m) }):
		return cloud.RemoveTarget
	}
	return cloud.Change
}

// listenerSteps adds a listener to a pool or changes it; the pool has no ID if it is
// to be made.
func listenerSteps(lb string, f front, have listener, pool string) cloud.Plan {
	detail := fmt.Sprintf("%s/%d", f.Protocol, f.Port)
	do := setListener{LB: lb, ID: have.ID, Listener: f.listener, PoolName: f.to.Name}
	do.Listener.Pool = pool
	switch {
	case have.ID == "":
		return cloud.Plan{{Order: cloud.AddListener, Kind: "add listener", ID: lb, Detail: detail, Payload: addListener(do), Exposes: true}}
	case have.Name != f.Name || have.Pool != pool || pool == "" || have.CIDRs != f.CIDRs || have.Idle != f.Idle:
		return cloud.Plan{{Order: cloud.Change, Kind: "set listener", ID: lb, Detail: detail, Payload: do}}
	}
	return nil
}

func renamePoolStep(lb string, p pool, name string) cloud.Step {
	return cloud.Step{Order: cloud.Change, Kind: "rename pool", ID: lb, Detail: p.Name + " → " + name, Payload: renamePool{LB: lb, Pool: p.ID, Name: name}}
}

func dropListenerStep(lb string, l listener) cloud.Step {
	return cloud.Step{Order: cloud.RemoveListener, Kind: "remove listener", ID: lb, Detail: fmt.Sprintf("%s/%d", l.Protocol, l.Port), Payload: dropListener{LB: lb, ID: l.ID}}
}

func dropPoolStep(lb string, p pool) cloud.Step {
	return cloud.Step{Order: cloud.RemoveListener, Kind: "remove pool", ID: lb, Detail: p.Name, Payload: dropPool{LB: lb, ID: p.ID}}
}
