package cloud_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// inWorld runs a test with a cloud that is made up, in time of its own.
func inWorld(t *testing.T, name string, f func(*testing.T, *cloudtest.World)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, cloudtest.NewWorld(cloudtest.FakeLab(t))) })
	})
}

func TestLimits(t *testing.T) {
	several := func(t *testing.T, w *cloudtest.World, n int) (made int) {
		t.Helper()
		errs := make(chan error, n)
		for i := range n {
			svc := cloudtest.Service(fmt.Sprint("s", i), types.UID(fmt.Sprint("uid-", i)), 80)
			w.Put(svc)
			go func() {
				_, err := w.Ensure(t.Context(), svc, w.Nodes(2))
				errs <- err
			}()
		}
		for range n {
			err := <-errs
			switch {
			case err == nil:
				made++
			case !cloud.Is(err, cloud.Quota):
				t.Errorf("Ensure() = %v", err)
			}
		}
		return made
	}
	inWorld(t, "no more load balancers than may be, whoever asks at once (O9)", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxLoadBalancers = 3
		if made := several(t, w, 10); made != 3 || len(w.All()) != 3 {
			t.Errorf("%d made, and there are %v", made, w.All())
		}
		if w.Heard(cloud.ReasonLimit) != 7 {
			t.Errorf("Events %v", w.Events)
		}
	})
	inWorld(t, "nor for more than may be (O9)", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxMonthlyCost = 11 // two of 5.39
		if made := several(t, w, 5); made != 2 || len(w.All()) != 2 {
			t.Errorf("%d made, and there are %v", made, w.All())
		}
	})
	inWorld(t, "nor for more than may be, with addresses (O9)", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxMonthlyCost = 8 // an address of 3.00, and not one of 5.39 as well
		svc, _, _ := floating(t, w)
		if made := several(t, w, 1); made != 0 || len(w.All()) != 0 {
			t.Errorf("%d made beside an address, and there are %v", made, w.All())
		}
		w.End(t, svc)
		if made := several(t, w, 1); made != 1 {
			t.Errorf("%d made without it", made)
		}
	})
	inWorld(t, "nor for namespaces that may not, without a call (O9)", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.AllowedNamespaces = []string{"other"}
		if made := several(t, w, 1); made != 0 {
			t.Errorf("%d made", made)
		}
		if _, writes := w.Calls(); writes != 0 {
			t.Errorf("%d writes", writes)
		}
	})
	inWorld(t, "what is within them goes on to be changed", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxLoadBalancers = 1
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		svc.Spec.Ports[0].NodePort++
		w.Serve(t, svc, w.Nodes(2))
	})
	inWorld(t, "what was made a moment ago counts once", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxLoadBalancers = 4
		for i := range 4 {
			w.Serve(t, cloudtest.Service(fmt.Sprint("s", i), types.UID(fmt.Sprint("uid-", i)), 80), w.Nodes(2))
		}
	})
	inWorld(t, "what could not be made does not count", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxLoadBalancers = 1
		w.Fault(func(call string, _ bool) error {
			if call == "create" {
				return &cloud.Error{Class: cloud.Quota, Text: "the project is full"}
			}
			return nil
		})
		svc := cloudtest.Service("first", "uid-first", 80)
		w.Put(svc)
		_, _ = w.Ensure(t.Context(), svc, w.Nodes(2))
		w.Fault(nil)
		w.Serve(t, cloudtest.Service("second", "uid-second", 80), w.Nodes(2))
	})
	for name, limit := range map[string]cloud.Limits{"number": {MaxLoadBalancers: 1}, "cost": {MaxMonthlyCost: 8}} {
		inWorld(t, "what has gone does not count, by its "+name, func(t *testing.T, w *cloudtest.World) {
			w.Engine.Config.Limits = limit
			for i := range 5 {
				svc := cloudtest.Service(fmt.Sprint("s", i), types.UID(fmt.Sprint("uid-", i)), 80)
				w.Serve(t, svc, w.Nodes(2))
				w.End(t, svc)
			}
		})
	}
	inWorld(t, "replacing is not one more", func(t *testing.T, w *cloudtest.World) {
		w.Engine.Config.Limits.MaxLoadBalancers = 1
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Annotations[cloud.Prefix+"location"] = "fsn1"
		w.Serve(t, svc, w.Nodes(2))
		svc.Annotations[cloud.Prefix+"location"], svc.Annotations[cloud.Prefix+"allow-recreate"] = "nbg1", "true"
		w.Serve(t, svc, w.Nodes(2))
	})
	inWorld(t, "its creation says what it costs (O9)", func(t *testing.T, w *cloudtest.World) {
		w.Serve(t, cloudtest.Service("web", "uid-web", 80), w.Nodes(2))
		if w.Heard(cloud.ReasonCreated) != 1 || !strings.Contains(w.Events[0], "5.39 EUR a month") {
			t.Errorf("Events %v", w.Events)
		}
	})
}

func TestWhatMayNotBe(t *testing.T) {
	inWorld(t, "open to all is not made, and what is there gets no more ports (T4, C7)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
		if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 0 {
			t.Errorf("Ensure() = %v, and there are %v", err, w.All())
		}
		svc.Spec.LoadBalancerSourceRanges = nil
		w.Serve(t, svc, w.Nodes(2))
		svc.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: 443, NodePort: 30443})
		_, err := w.Ensure(t.Context(), svc, w.Nodes(2))
		if spec := w.All()[0].Raw.(cloud.LBSpec); !cloud.Is(err, cloud.Terminal) || len(spec.Listeners) != 1 {
			t.Errorf("Ensure() = %v, and its listeners are %v", err, spec.Listeners)
		}
	})
	inWorld(t, "nor does one that was internal become public (T4)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Annotations[cloud.Prefix+"internal"] = "true"
		w.Serve(t, svc, w.Nodes(1))
		delete(svc.Annotations, cloud.Prefix+"internal")
		svc.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
		_, err := w.Ensure(t.Context(), svc, w.Nodes(2))
		if spec := w.All()[0].Raw.(cloud.LBSpec); !cloud.Is(err, cloud.Terminal) || !spec.Internal || len(spec.Targets) != 2 {
			t.Errorf("Ensure() = %v, and it is %+v", err, spec)
		}
	})
	inWorld(t, "replacing is not done unasked, and the rest is (O11)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Annotations[cloud.Prefix+"location"] = "fsn1"
		w.Serve(t, svc, w.Nodes(2))
		svc.Annotations[cloud.Prefix+"location"] = "nbg1"
		svc.Spec.Ports[0].NodePort = 31000
		st, err := w.Ensure(t.Context(), svc, w.Nodes(2))
		spec := w.All()[0].Raw.(cloud.LBSpec)
		if !cloud.Is(err, cloud.Unsafe) || st == nil || spec.Location != "fsn1" || spec.Listeners[0].NodePort != 31000 || w.Heard(cloud.ReasonRecreate) != 1 {
			t.Errorf("Ensure() = %v, %v; Events %v; it is %+v", st, err, w.Events, spec)
		}
		svc.Annotations[cloud.Prefix+"allow-recreate"] = "true"
		w.Serve(t, svc, w.Nodes(2))
		if spec := w.All()[0].Raw.(cloud.LBSpec); spec.Location != "nbg1" {
			t.Errorf("it is %+v", spec)
		}
	})
	inWorld(t, "two of one Service: the one that clients know stays (I1)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		first := w.All()[0]
		w.Lab.Driver.(*cloudtest.Fake).Add("twin", first.Owner)
		w.Lab.Driver.(*cloudtest.Fake).Edit("2", func(f *cloud.Found, _ *cloud.LBSpec) { f.Created = first.Created.Add(-time.Hour) })
		time.Sleep(time.Minute)
		w.Serve(t, svc, w.Nodes(2))
		if all := w.All(); len(all) != 1 || all[0].ID != first.ID || w.Heard(cloud.ReasonDuplicate) != 1 {
			t.Errorf("there are %v; Events %v", all, w.Events)
		}
	})
	inWorld(t, "protected by people: released, and said (O5)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		w.Lab.Driver.(*cloudtest.Fake).Edit("1", func(f *cloud.Found, _ *cloud.LBSpec) { f.Protected = true })
		w.End(t, svc)
		if all := w.All(); len(all) != 1 || all[0].Owner != (cloud.Owner{}) || w.Heard(cloud.ReasonProtected) != 1 {
			t.Errorf("there are %v; Events %v", all, w.Events)
		}
	})
	inWorld(t, "a dry run by annotation deletes nothing, twins and the gone included (O10)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		w.Lab.Driver.(*cloudtest.Fake).Add("twin", w.All()[0].Owner)
		svc.Annotations[cloud.Prefix+"dry-run"] = "true"
		time.Sleep(time.Minute)
		_, _ = w.Ensure(t.Context(), svc, w.Nodes(2))
		err := w.Delete(t.Context(), svc)
		if !errors.Is(err, cloud.ErrDryRun) || len(w.All()) != 2 {
			t.Errorf("Delete() = %v, and there are %v", err, w.All())
		}
	})
	inWorld(t, "nor does it stop an address from moving (O10)", func(t *testing.T, w *cloudtest.World) {
		svc, _, _ := floating(t, w)
		svc.Annotations[cloud.Prefix+"dry-run"] = "true"
		if err := w.Delete(t.Context(), svc); !errors.Is(err, cloud.ErrDryRun) || !w.Floats(svc) || len(w.Addresses()) != 1 {
			t.Errorf("Delete() = %v; it floats: %t; there are %v", err, w.Floats(svc), w.Addresses())
		}
		delete(svc.Annotations, cloud.Prefix+"dry-run")
		if w.End(t, svc); w.Floats(svc) || len(w.Addresses()) != 0 {
			t.Errorf("it floats: %t; there are %v", w.Floats(svc), w.Addresses())
		}
	})
	inWorld(t, "what cannot be marked is not retained, and said (O5)", func(t *testing.T, w *cloudtest.World) {
		w.Lab.Driver.(*cloudtest.Fake).Can.Retains = false
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		svc.Annotations[cloud.Prefix+"deletion-policy"] = "Retain"
		if err := w.Delete(t.Context(), svc); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 1 {
			t.Errorf("Delete() = %v, and there are %v", err, w.All())
		}
	})
	inWorld(t, "another provider is asked for (§5.7)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Put(svc)
		svc.Annotations[cloud.Prefix+"provider"] = "other"
		if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !errors.Is(err, cloud.ErrElsewhere) || len(w.All()) != 0 {
			t.Errorf("Ensure() = %v, and there are %v", err, w.All())
		}
	})
	inWorld(t, "several ports that cannot be served are one Event (§5.6)", func(t *testing.T, w *cloudtest.World) {
		w.Lab.Driver.(*cloudtest.Fake).Can.Protocols = []corev1.Protocol{corev1.ProtocolTCP}
		svc := cloudtest.Service("web", "uid-web", 80)
		for _, port := range []int32{53, 123} {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolUDP, Port: port, NodePort: 30000 + port})
		}
		for range 10 {
			w.Serve(t, svc, w.Nodes(2))
		}
		if n := w.Heard(cloud.ReasonProtocol); n != 1 {
			t.Errorf("said %d times: %v", n, w.Events)
		}
	})
	inWorld(t, "what takes the cloud longer than one waits is said to be made, and paid for", func(t *testing.T, w *cloudtest.World) {
		w.Lab.Driver.(*cloudtest.Fake).Busy = 40 * time.Second
		w.Serve(t, cloudtest.Service("web", "uid-web", 80), w.Nodes(2))
		if n := w.Heard(cloud.ReasonCreated); n != 1 {
			t.Errorf("said %d times: %v", n, w.Events)
		}
	})
	inWorld(t, "each repair is said", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Serve(t, svc, w.Nodes(2))
		for range 3 {
			w.Poke("1")
			time.Sleep(time.Minute)
			if _, err := w.Ensure(cloud.WithLane(t.Context(), cloud.Drifting), svc, w.Nodes(2)); err != nil {
				t.Error(err)
			}
		}
		if n := w.Heard(cloud.ReasonDriftRepaired); n != 3 {
			t.Errorf("said %d times: %v", n, w.Events)
		}
	})
	inWorld(t, "an update neither takes over nor replaces (A6)", func(t *testing.T, w *cloudtest.World) {
		w.Lab.Add("by-hand")
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Put(svc)
		svc.Annotations[cloud.Prefix+"adopt"] = "by-hand"
		if err := w.Update(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.NotFound) || w.All()[0].Owner != (cloud.Owner{}) {
			t.Errorf("Update() = %v, and there are %v", err, w.All())
		}
	})
	inWorld(t, "the same is said once, and again when it comes back (§5.6)", func(t *testing.T, w *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web", 80)
		w.Put(svc)
		for _, port := range []int32{0, 0, 30080, 0, 0} {
			svc.Spec.Ports[0].NodePort = port
			_, _ = w.Ensure(t.Context(), svc, w.Nodes(2))
		}
		if n := w.Heard(cloud.ReasonNodePort); n != 2 {
			t.Errorf("said %d times: %v", n, w.Events)
		}
	})
}

// Whatever an API answers, wrong or nothing, nothing is deleted for it (A6).
func TestFaultsDeleteNothing(t *testing.T) {
	for _, class := range []cloud.Class{cloud.Retryable, cloud.Locked, cloud.NotFound, cloud.Conflict, cloud.Quota, cloud.Auth, cloud.RateLimited, cloud.Terminal} {
		for _, failing := range []string{"Find", "List", "Poll", "Instances", "add target", "update listener"} {
			inWorld(t, fmt.Sprintf("%s is %s", failing, class), func(t *testing.T, w *cloudtest.World) {
				svc := cloudtest.Service("web", "uid-web", 80)
				w.Serve(t, svc, w.Nodes(2))
				before := w.All()[0]
				deleted := 0
				w.Fault(func(call string, after bool) error {
					if call == "delete" || call == "release" || strings.HasPrefix(call, "remove") {
						deleted++
					}
					if call == failing && !after {
						return &cloud.Error{Class: class, Text: failing + " has failed"}
					}
					return nil
				})
				time.Sleep(time.Minute)
				svc.Spec.Ports[0].NodePort = 31000
				for range 3 {
					_, _ = w.Ensure(t.Context(), svc, w.Nodes(3))
				}
				_ = w.Audit(t.Context(), []*corev1.Service{svc}, 0)
				if all := w.All(); deleted != 0 || len(all) != 1 || all[0].ID != before.ID {
					t.Errorf("%d deletions, and there are %v", deleted, all)
				}
				w.Fault(nil)
				w.Serve(t, svc, w.Nodes(3))
			})
		}
	}
}

func TestAudit(t *testing.T) {
	// three wanted, one gone
	setup := func(t *testing.T, w *cloudtest.World) (wanted []*corev1.Service, gone *corev1.Service) {
		for i := range 4 {
			svc := cloudtest.Service(fmt.Sprint("s", i), types.UID(fmt.Sprint("uid-", i)), 80)
			w.Serve(t, svc, w.Nodes(2))
			wanted = append(wanted, svc)
		}
		gone = wanted[3]
		w.Remove(gone)
		return wanted[:3], gone
	}
	audit := func(t *testing.T, w *cloudtest.World, services []*corev1.Service) {
		t.Helper()
		for range 3 {
			if err := w.Audit(t.Context(), services, 0); err != nil {
				t.Error(err)
			}
			time.Sleep(40 * time.Minute)
		}
	}
	tests := []struct {
		name     string
		edit     func(*cloudtest.World, *[]*corev1.Service)
		left     int
		reported int
	}{
		{"reported, once, and kept (O8)", nil, 4, 1},
		{"deleted, where that is said", func(w *cloudtest.World, _ *[]*corev1.Service) { w.Engine.Config.GC.Mode = cloud.GCDelete }, 3, 1},
		{"not when no Service is known", func(w *cloudtest.World, s *[]*corev1.Service) { w.Engine.Config.GC.Mode, *s = cloud.GCDelete, nil }, 4, 1},
		{"not when it is more than one may lose at once", func(w *cloudtest.World, s *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			for _, svc := range *s {
				w.Remove(svc)
			}
			*s = (*s)[:0:0]
		}, 4, 4},
		{"not when the API server still has it", func(w *cloudtest.World, s *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			w.Put(cloudtest.Service("s3", "uid-3", 80))
		}, 4, 0},
		{"released, not deleted, what was there before", func(w *cloudtest.World, _ *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			w.Lab.Driver.(*cloudtest.Fake).Edit("4", func(f *cloud.Found, _ *cloud.LBSpec) { f.Adopted = true })
		}, 4, 1},
		{"addresses are reported, and hinder nothing", func(w *cloudtest.World, _ *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			f := w.Lab.Driver.(*cloudtest.Fake)
			for i := range 5 {
				f.Edit(f.Add(fmt.Sprint("ip-", i), w.All()[3].Owner), func(f *cloud.Found, _ *cloud.LBSpec) { f.Kind = cloud.Address })
			}
		}, 8, 6},
		{"of a Service that is of another type by now", func(w *cloudtest.World, _ *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			svc := cloudtest.Service("s3", "uid-3", 80)
			svc.Spec.Type = corev1.ServiceTypeClusterIP
			w.Put(svc)
		}, 3, 1},
		{"what was kept on purpose is no orphan", func(w *cloudtest.World, _ *[]*corev1.Service) {
			w.Engine.Config.GC.Mode = cloud.GCDelete
			w.Lab.Driver.(*cloudtest.Fake).Edit("4", func(f *cloud.Found, _ *cloud.LBSpec) { f.Retained = true })
		}, 4, 0},
	}
	for _, tt := range tests {
		inWorld(t, tt.name, func(t *testing.T, w *cloudtest.World) {
			wanted, _ := setup(t, w)
			if tt.edit != nil {
				tt.edit(w, &wanted)
			}
			audit(t, w, wanted)
			if all := w.All(); len(all) != tt.left || w.Heard(cloud.ReasonOrphan) != tt.reported {
				t.Errorf("%d reported, left are %v", w.Heard(cloud.ReasonOrphan), all)
			}
		})
	}
}

// floating is a Service that is served with an address, and the first node.
func floating(t *testing.T, w *cloudtest.World) (*corev1.Service, netip.Addr, cloud.Target) {
	t.Helper()
	svc := cloudtest.Service("web", "uid-web", 80)
	svc.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
	addr := netip.MustParseAddr(w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP)
	known, _, err := w.Lab.Driver.Instances(t.Context(), w.Nodes(1), cloud.LBSpec{})
	if err != nil {
		t.Fatal(err)
	}
	return svc, addr, known[0]
}

// Some clouds take a minute to route an address: that is not too long, and nobody is asked
// four times a second meanwhile.
func TestASlowCloudIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cloudtest.FakeLab(t)
		l.Driver.(*cloudtest.Fake).Busy = 50 * time.Second
		w := cloudtest.NewWorld(l)
		svc, addr, to := floating(t, w)
		m := cloud.Mover{Engine: w.Engine, Driver: l.Driver.(cloud.AddressDriver), Services: func(netip.Addr) []*corev1.Service { return []*corev1.Service{svc} }}
		want := map[netip.Addr]cloud.Placement{addr: {To: to, Able: map[string]bool{to.Instance.ID: true}}}
		_, before := w.Calls()
		for began := time.Now(); time.Since(began) < 70*time.Second; {
			again, err := m.Move(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(min(again, 10*time.Second))
		}
		if _, writes := w.Calls(); writes-before != 1 || m.Routed()[addr] != to.Instance || w.Heard(cloud.ReasonNotMoved) != 0 {
			t.Errorf("%d writes; it is at %v; %v", writes-before, m.Routed()[addr], w.Events)
		}
	})
}

// A list that hangs holds up no address that has to move.
func TestAListThatHangsHoldsUpNoMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := cloudtest.FakeLab(t)
		w := cloudtest.NewWorld(l)
		svc, addr, to := floating(t, w)
		time.Sleep(time.Hour) // another Ensure asks anew, and so would a Mover
		hang, ended := make(chan struct{}), make(chan struct{})
		l.Fault(func(call string, after bool) error {
			if call == "ListAddresses" && !after {
				<-hang
			}
			return nil
		})
		go func() {
			defer close(ended)
			_, _ = w.Ensure(t.Context(), svc, w.Nodes(2))
		}()
		synctest.Wait()
		m := cloud.Mover{Engine: w.Engine, Driver: l.Driver.(cloud.AddressDriver)}
		if _, err := m.Move(t.Context(), map[netip.Addr]cloud.Placement{addr: {To: to}}); err != nil {
			t.Error(err)
		}
		if got := l.Addresses()[0].Instance; got != to.Instance {
			t.Errorf("it is at %+v", got)
		}
		close(hang)
		<-ended
	})
}
