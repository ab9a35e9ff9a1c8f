package hetzner

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/herald-lb/herald/cloud"
)

// steps turn what there is into what should be.
func (ch *change) steps() steps {
	var s steps
	first, last := ch.markSteps()
	s = append(s, first...)
	s = append(s, ch.typeSteps()...)
	s = append(s, ch.networkSteps()...)
	s = append(s, ch.serviceSteps()...)
	s = append(s, ch.targetSteps()...)
	if a := ch.want.algorithm; a != "" && a != ch.lb.Algorithm.Type {
		s = append(s, ch.step(cloud.Change, "change algorithm", string(a), changeAlgorithm{a}))
	}
	return append(s, last...)
}

func (ch *change) step(o cloud.Order, kind, detail string, payload any) cloud.Step {
	return cloud.Step{Order: o, Kind: kind, ID: ch.id, Detail: detail, Payload: payload}
}

// exposing is a step by which traffic gets in that did not before.
func exposing(s cloud.Step) cloud.Step {
	s.Exposes = true
	return s
}

// markSteps set marks before what they name is made, and taken away after it is gone: a
// listener of ours is at no time without. Those of targets are kept only on load
// balancers that were adopted; on others all targets are ours.
func (ch *change) markSteps() (first, last steps) {
	now := ch.marks
	after := ch.want.marks
	if after.title != "" {
		after.title = labelValue(after.title)
	}
	after.adopted = ch.adopted
	after.ports = ch.wantedPorts()
	if ch.adopted {
		for _, t := range ch.want.targets {
			after.targets = append(after.targets, t.key())
		}
	}
	if ch.keeps() {
		after.targets = now.targets
	}
	during := after
	for _, p := range now.ports {
		if _, stands := ch.services[p]; stands {
			during.ports = append(slices.Clone(during.ports), p)
		}
	}
	slices.Sort(during.ports)
	during.ports = slices.Compact(during.ports)
	for _, key := range now.targets {
		if _, stands := ch.targets[key]; stands && ch.adopted && !slices.Contains(during.targets, key) {
			during.targets = append(slices.Clone(during.targets), key)
		}
	}
	if !says(ch.lb.Labels, during, now) {
		first = steps{ch.step(cloud.Mark, "mark", markDetail(during), mark{from: now.owner, to: during})}
		now = during
	}
	if !sameLists(now, after) {
		last = steps{ch.step(cloud.RemoveListener, "mark", markDetail(after), mark{from: after.owner, to: after})}
	}
	return first, last
}

// says is whether labels say all of m. They may name more that is ours.
func says(labels map[string]string, m, now marks) bool {
	for key, value := range ownerLabels(m.owner) {
		if labels[key] != value {
			return false
		}
	}
	if labels[labelCCM] == string(m.owner.UID) {
		return false
	}
	return now.title == m.title && now.adopted == m.adopted && now.retained == m.retained && containsAll(now.ports, m.ports) && containsAll(now.targets, m.targets)
}

func containsAll[T comparable](all, some []T) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

func sameLists(a, b marks) bool {
	return containsAll(a.ports, b.ports) && containsAll(b.ports, a.ports) && containsAll(a.targets, b.targets) && containsAll(b.targets, a.targets)
}

func markDetail(m marks) string {
	detail := fmt.Sprintf("%s, ports %v", m.owner.Key(), ranges(m.ports))
	if m.adopted {
		detail += fmt.Sprintf(", adopted, targets %v", m.targets)
	}
	return detail
}

// typeSteps change the size. One that has no room for the targets there are is
// destructive.
func (ch *change) typeSteps() steps {
	now, next := ch.lb.LoadBalancerType.Name, ch.typ()
	to, ok := ch.catalogue.byName(next)
	from, _ := ch.catalogue.byName(now)
	if !ok || to.name == now || ch.keeps() && ch.drops() {
		return nil
	}
	order := cloud.Grow
	if to.services < from.services || to.targets < from.targets {
		order = cloud.Shrink
	}
	s := ch.step(order, "change type", now+" → "+to.name, changeType{to.name})
	s.Destructive = ch.drops()
	s.Cost = ch.catalogue.cost(to.name, ch.lb.Location.Name)
	s.Cost.Milli -= ch.catalogue.cost(now, ch.lb.Location.Name).Milli
	return steps{s}
}

// networkSteps attach and detach. What targets are reached by comes before them, and
// goes after them; if they may not be moved it stays.
func (ch *change) networkSteps() (s steps) {
	w, lb := ch.want, ch.lb
	shrink := func(kind, detail string, payload call) cloud.Step {
		step := ch.step(cloud.Shrink, kind, detail, payload)
		step.Destructive = ch.movesAll()
		return step
	}
	if w.network.id != 0 && len(lb.PrivateNet) == 0 {
		s = append(s, ch.step(cloud.Grow, "attach to network", w.network.name, attach{w.network.id, w.subnet}))
	}
	stays := ch.keeps()
	if w.network.id == 0 && !ch.adopted && !stays {
		for _, n := range lb.PrivateNet {
			s = append(s, shrink("detach from network", strconv.FormatInt(n.Network.ID, 10), detach{n.Network.ID}))
		}
	}
	switch {
	case w.internal && lb.PublicNet.Enabled && !stays:
		s = append(s, shrink("disable public interface", "", publicInterface{false}))
	case !w.internal && !lb.PublicNet.Enabled && !ch.adopted:
		s = append(s, exposing(ch.step(cloud.Grow, "enable public interface", "", publicInterface{true})))
	}
	return s
}

// serviceSteps touch what is wanted and what bears our mark. Where the type has no
// room for new ones beside the old, an old one makes room for each.
func (ch *change) serviceSteps() steps {
	var add, update, remove steps
	for _, w := range ch.want.services {
		is, stands := ch.services[w.port]
		switch {
		case !stands:
			add = append(add, exposing(ch.step(cloud.AddListener, "add listener", listener(w), addService{w})))
		case is != w:
			update = append(update, ch.step(cloud.Change, "update listener", listener(w), updateService{w}))
		}
	}
	for _, p := range ch.marks.ports {
		if _, stands := ch.services[p]; stands && !ch.ports[p] {
			remove = append(remove, ch.step(cloud.RemoveListener, "remove listener", fmt.Sprintf("tcp/%d", p), deleteService{p}))
		}
	}
	room := len(add)
	if t, ok := ch.catalogue.byName(ch.roomiest()); ok {
		room = t.services - len(ch.lb.Services)
	}
	return append(swap(add, remove, room, cloud.AddListener), update...)
}

// roomiest is the type while listeners and targets change: the larger one of now and
// then.
func (ch *change) roomiest() string {
	now, okNow := ch.catalogue.byName(ch.lb.LoadBalancerType.Name)
	next, okNext := ch.catalogue.byName(ch.typ())
	if okNow && okNext && next.services >= now.services && next.targets >= now.targets {
		return next.name
	}
	return ch.lb.LoadBalancerType.Name
}

func listener(s service) string { return fmt.Sprintf("tcp/%d → %d", s.port, s.nodePort) }

// swap adds first and removes then, as far as there is room; what has none is added
// after one was removed. Those then are of the same order.
func swap(add, remove steps, room int, order cloud.Order) (s steps) {
	room = max(0, min(room, len(add)))
	s = append(s, add[:room]...)
	for _, a := range add[room:] {
		if len(remove) > 0 {
			r := remove[0]
			r.Order = order
			s, remove = append(s, r), remove[1:]
		}
		a.Order = order
		s = append(s, a)
	}
	return append(s, remove...)
}

// targetSteps add before they remove. A target that is to be reached another way has
// to be removed and added again: one at a time, so that others serve meanwhile. If
// there are no others nobody serves for a moment, which has to be allowed.
func (ch *change) targetSteps() steps {
	var add, remove, again steps
	for _, t := range ch.want.targets {
		is, stands := ch.targets[t.key()]
		switch {
		case !stands:
			add = append(add, ch.step(cloud.AddTarget, "add target", t.String(), addTarget{t}))
		case is != t:
			again = append(again,
				ch.step(cloud.Change, "remove target", is.String(), removeTarget{is}),
				ch.step(cloud.Change, "add target", t.String(), addTarget{t}))
		}
	}
	for key, t := range ch.targets {
		if ch.ours(key) && !ch.keys[key] && !ch.keeps() {
			remove = append(remove, ch.step(cloud.RemoveTarget, "remove target", t.String(), removeTarget{t}))
		}
	}
	slices.SortFunc(remove, func(a, b cloud.Step) int {
		return byKey(a.Payload.(removeTarget).target, b.Payload.(removeTarget).target)
	})
	for i := range again {
		again[i].Destructive = ch.movesAll()
	}
	room := len(add)
	if t, ok := ch.catalogue.byName(ch.roomiest()); ok {
		room = t.targets - len(ch.lb.Targets)
	}
	// Where one makes room for another, what fails ends it: or else all would go.
	return append(swap(add, remove, room, cloud.Change), again...)
}

// movesAll is whether the one target there is has to be removed and added again, and
// no other is added first.
func (ch *change) movesAll() bool {
	if len(ch.lb.Targets) != 1 || len(ch.want.targets) != 1 {
		return false
	}
	t := ch.want.targets[0]
	is, stands := ch.targets[t.key()]
	return stands && is != t
}

// keeps is whether the targets there are stay, for there are no others: a list of
// nodes that is empty is no reason to cut everybody off.
func (ch *change) keeps() bool { return len(ch.want.targets) == 0 && len(ch.targets) > 0 }
