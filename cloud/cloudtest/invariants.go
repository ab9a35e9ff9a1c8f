package cloudtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// syncs is how often each Service is looked at before all has to be well.
const syncs = 5

// quiet ends all that goes wrong, has people mend what is wrong with Services, and has
// controllers go on for a while. What they write is what is to be written (I5).
func (s *soak) quiet() {
	s.tell("quiet")
	s.calm()
	if len(s.nodes) == 0 {
		s.nodes = []int{0}
	}
	for _, name := range s.names() {
		s.mend(name)
	}
	time.Sleep(time.Hour) // what is under way ends, and calls may be made again
	most := s.distance()
	_, writes := s.count(func() {
		for range syncs {
			s.syncAll()
			s.look()
			s.note()
			time.Sleep(time.Minute)
		}
	})
	if writes > most {
		s.t.Errorf("I5: %d writes when all was quiet, and %d should do", writes, most)
	}
}

// extras is how many writes a load balancer takes beside those for each listener and
// target: marks before and after, its type, its algorithm, or to be deleted and made.
const extras = 6

// distance is how many writes lead from what there is to what should be, at most.
func (s *soak) distance() (most int) {
	for _, f := range s.All() {
		if svc := s.serviceOf(f); svc == nil {
			most += extras // it goes
		} else if wants(svc) {
			want, has := s.wanted(svc), s.Has(f.ID)
			most += len(differ(want.Listeners, has.Listeners)) + len(differ(want.Targets, has.Targets))
		}
	}
	return most + extras*len(s.services)
}

func wants(svc *corev1.Service) bool {
	return svc.DeletionTimestamp == nil && svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// serviceOf is whose a load balancer is; nil for nobody's.
func (s *soak) serviceOf(f cloud.Found) *corev1.Service {
	for _, svc := range s.services {
		if f.Owner.Cluster == Cluster && f.Owner.UID == svc.UID {
			return svc
		}
	}
	return nil
}

// differ are those of which only one list has them.
func differ(a, b []string) (all []string) {
	for _, v := range a {
		if !slices.Contains(b, v) {
			all = append(all, "want "+v)
		}
	}
	for _, v := range b {
		if !slices.Contains(a, v) {
			all = append(all, "has "+v)
		}
	}
	return all
}

// invariants are what holds once all is quiet, each by its name.
func (s *soak) invariants() {
	for _, name := range s.names() {
		if svc := s.services[name]; wants(svc) {
			s.served(svc)
		} else if svc.DeletionTimestamp != nil || len(svc.Finalizers) > 0 {
			s.t.Errorf("I2: %s still waits for what it had in the cloud: %v", name, s.mine(svc))
		}
	}
	s.noOthers()
	s.untouched()
	_, writes := s.count(func() {
		for _, name := range s.names() {
			if svc := s.services[name]; wants(svc) {
				if _, err := s.Ensure(s.t.Context(), svc, s.list()); err != nil {
					s.t.Errorf("I6: %s: one more Ensure() = %v", name, err)
				}
			}
		}
	})
	if writes != 0 {
		s.t.Errorf("I6: %d writes where all is as it should be", writes)
	}
	s.bill()
	s.gather()
	s.secrets()
}

// mine are a Service's load balancers: one of the other cluster has its UID, too.
func (s *soak) mine(svc *corev1.Service) []cloud.Found {
	return slices.DeleteFunc(s.Owned(svc), func(f cloud.Found) bool { return f.Owner.Cluster != Cluster })
}

// served is I1 and I3.
func (s *soak) served(svc *corev1.Service) {
	owned := s.mine(svc)
	if len(owned) != 1 {
		s.t.Errorf("I1: Service %s has %v, not one load balancer", svc.Name, owned)
		return
	}
	f := owned[0]
	if st := svc.Status.LoadBalancer.Ingress; len(st) == 0 || st[0].IP != "" && !slices.Contains(texts(f), st[0].IP) {
		s.t.Errorf("I3: the status of %s is %+v, of %v", svc.Name, st, f)
	}
	want, has := s.wanted(svc), s.Has(f.ID)
	if s.guests[f.ID] {
		has.Listeners = slices.DeleteFunc(has.Listeners, guest)
	}
	if was := s.before[f.ID]; f.Adopted { // what it had before its Service stays
		has.Listeners = without(has.Listeners, was.Listeners, want.Listeners)
		has.Targets = without(has.Targets, was.Targets, want.Targets)
	}
	diff := append(differ(want.Listeners, has.Listeners), differ(want.Targets, has.Targets)...)
	for _, pair := range [][2]string{{want.Type, has.Type}, {want.Location, has.Location}} {
		if pair[0] != "" && pair[1] != "" {
			diff = append(diff, differ(pair[:1], pair[1:])...)
		}
	}
	if len(diff) > 0 {
		s.t.Errorf("I3: the load balancer of %s (%s): %s", svc.Name, f.ID, strings.Join(diff, "; "))
	}
}

// without returns all but those of some that are not kept.
func without(all, some, kept []string) []string {
	return slices.DeleteFunc(all, func(v string) bool { return slices.Contains(some, v) && !slices.Contains(kept, v) })
}

func texts(f cloud.Found) (all []string) {
	for _, a := range f.Addrs {
		all = append(all, a.String())
	}
	return all
}

// noOthers is I2: what there is is a Service's that wants it, or was kept for a reason.
func (s *soak) noOthers() {
	var orphans, mine []cloud.Found
	for _, f := range s.All() {
		svc := s.serviceOf(f)
		switch p := s.uids[s.owners[f.ID]]; {
		case s.theirs[f.ID] != "", svc != nil && wants(svc):
			mine = append(mine, f)
		case f.Owner == (cloud.Owner{}) && (p == nil || p.release || s.kept[f.ID]):
		case f.Owner.Cluster == Cluster && f.Retained && p != nil && p.retain:
		case f.Owner.Cluster == Cluster && svc == nil:
			orphans = append(orphans, f)
		default:
			s.t.Errorf("I2: load balancer %s (%s) of %s: nobody wants it", f.Name, f.ID, f.Owner.Key())
		}
	}
	// What would be too much to be removed at once is kept until people have looked.
	if n := len(orphans); n > 0 && n <= s.Engine.Config.GC.MaxPerRun && 2*n <= len(mine)-len(s.theirs) {
		s.t.Errorf("I2: left behind: %v", orphans)
	}
}

// untouched is I4.
func (s *soak) untouched() {
	there := map[string]bool{}
	for _, f := range s.All() {
		there[f.ID] = true
		if s.guests[f.ID] && !slices.ContainsFunc(s.Has(f.ID).Listeners, guest) {
			s.t.Errorf("I4: people's listener on %s is gone", f.ID)
		}
	}
	for id, was := range s.theirs {
		if !there[id] {
			s.t.Errorf("I4: load balancer %s, which is not ours, is gone", id)
		} else if is := s.Show(id); is != was {
			s.t.Errorf("I4: load balancer %s, which is not ours, was\n%s\nand is\n%s", id, was, is)
		}
	}
}

// bill is I7: nothing is paid for but what there is.
func (s *soak) bill() {
	var want int64
	for _, f := range s.All() {
		want += f.Cost.Milli
	}
	if rate := s.Rate(); rate != want {
		s.t.Errorf("I7: %d thousandths are paid in a month, and what there is costs %d", rate, want)
	}
}

// secrets is A5.
func (s *soak) secrets() {
	s.mu.Lock()
	events := strings.Join(s.Events, "\n")
	s.mu.Unlock()
	for what, text := range map[string]string{"a log, an error or a metric": s.out.all.String(), "an Event": events, "a status": fmt.Sprint(s.services)} {
		if i := strings.Index(text, s.Secret); s.Secret != "" && i >= 0 {
			s.t.Errorf("A5: %s tells the token: %s", what, text[max(0, i-100):i])
		}
	}
}
