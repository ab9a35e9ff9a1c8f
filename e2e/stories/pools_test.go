package stories

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/e2e/lab"
)

// poolSpec returns an AddressPool with the fields of spec.
func poolSpec(name, spec string) string {
	return fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: AddressPool, metadata: {name: %s}, spec: {%s}}", name, spec)
}

// A probe is what a new Service gets: an address of a range, or none and why.
type probe struct {
	within string // a range, or
	reason string // of the condition
}

func TestAnAssignedAddressOutlivesEveryEditOfItsPool(t *testing.T) {
	const lan, spare = "addresses: [192.0.2.0/28]", "addresses: [198.51.100.0/24], priority: -1"
	fromLAN, fromSpare := probe{within: "192.0.2.0/28"}, probe{within: "198.51.100.0/24"}
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("lan", lan))
	l.Apply(poolSpec("spare", spare))
	r := keepRegister(t, l)
	const services = 6
	if _, err := createAll(l, "web", services); err != nil {
		t.Fatal(err)
	}
	l.Eventually("all have an address", r.allAssigned(services))
	// Each edit is made to a pool that all of them have their address from;
	// what a new Service gets shows that it has been seen.
	edits := []struct {
		name  string
		apply string // or
		drop  string // the pool's name
		next  probe
	}{
		{"the pool is shrunk to other addresses", poolSpec("lan", "addresses: [192.0.2.12-192.0.2.14]"), "", probe{within: "192.0.2.12/30"}},
		{"and grows again", poolSpec("lan", lan), "", fromLAN},
		{"its addresses are excluded", poolSpec("lan", lan+", exclude: [192.0.2.0/28]"), "", fromSpare},
		{"it is given out on request only", poolSpec("lan", lan+", assign: OnRequest"), "", fromSpare},
		{"another has a higher priority", poolSpec("spare", "addresses: [198.51.100.0/24], priority: 1"), "", fromSpare},
		{"and a lower one again", poolSpec("spare", spare), "", fromSpare},
		{"it selects no namespace that there is", poolSpec("lan", lan+", namespaceSelector: {matchLabels: {team: none}}"), "", fromSpare},
		{"it selects no service that there is", poolSpec("lan", lan+", serviceSelector: {matchLabels: {tier: none}}"), "", fromSpare},
		{"it is announced elsewhere", poolSpec("lan", lan+", announce: {}"), "", fromLAN},
		{"it is deleted", "", "lan", fromSpare},
		{"so is the other one", "", "spare", probe{reason: "NoPool"}},
		{"it is made again under another name", poolSpec("office", lan), "", fromLAN},
		{"and deleted", "", "office", probe{reason: "NoPool"}},
		{"it is made again", poolSpec("lan", lan), "", fromLAN},
	}
	had := addressesOf(t, r, services)
	for i, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			if e.drop != "" {
				l.Delete(poolSpec(e.drop, lan))
			} else {
				l.Apply(e.apply)
			}
			e.next.try(t, l, fmt.Sprintf("probe-%d", i))
			r.check(t)
			if now := addressesOf(t, r, services); !maps.Equal(now, had) {
				t.Errorf("the addresses are %v, and were %v", now, had)
			}
		})
	}
	for name := range had {
		waitVerdict(l, name, assigned())
	}
}

func addressesOf(t *testing.T, r *register, services int) map[string]netip.Addr {
	t.Helper()
	all := map[string]netip.Addr{}
	for i := range services {
		name := fmt.Sprintf("web-%d", i)
		addr, ok := r.address(name)
		if !ok {
			t.Errorf("%s has no address", name)
		}
		all[name] = addr
	}
	return all
}

// try makes Services until one gets what the probe says: an edit may not have
// been seen when the first is made. They are deleted again.
func (p probe) try(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	l.Eventually("a new service gets what the edit says", func() error {
		s, err := create(l, plain(name))
		if err != nil {
			return err
		}
		defer l.DeleteService(s.Name)
		l.Eventually("it is decided upon", func() error {
			if l.Condition(s.Name).Type == "" {
				return fmt.Errorf("it has no condition")
			}
			return nil
		})
		return p.met(l.Service(s.Name))
	})
}

func (p probe) met(s *corev1.Service) error {
	addrs := lab.Addresses(s)
	if p.within != "" {
		if len(addrs) == 1 && netip.MustParsePrefix(p.within).Contains(addrs[0]) {
			return nil
		}
	} else if len(addrs) == 0 && s.Status.Conditions[0].Reason == p.reason {
		return nil
	}
	return fmt.Errorf("it has %v, %+v, want %+v", addrs, s.Status.Conditions, p)
}

func TestALabelOfANamespaceThatChangesWritesNothingToWhatStays(t *testing.T) {
	const services = 100
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/24"))
	r := keepRegister(t, l)
	// Each waits for a pool that selects the namespace by a label it has not.
	for i, team := range []string{"shop", "bank"} {
		l.Apply(poolSpec(team, fmt.Sprintf("addresses: [198.51.100.%d], assign: OnRequest, namespaceSelector: {matchLabels: {team: %s}}", i, team)))
		waiting := plain(team)
		waiting.Annotations = map[string]string{"herald-lb.io/pool": team}
		if _, err := create(l, waiting); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := createAll(l, "web", services); err != nil {
		t.Fatal(err)
	}
	l.Eventually("all but those two have an address", func() error {
		if have, all := r.assigned(); have != services || all != services+2 {
			return fmt.Errorf("%d of %d have", have, all)
		}
		for _, team := range []string{"shop", "bank"} {
			s := l.Service(team)
			if len(s.Status.Conditions) == 0 || r.versions()[team] != s.ResourceVersion {
				return fmt.Errorf("%s is not decided upon, or not as it is noted", team)
			}
		}
		return nil
	})
	for _, team := range []string{"shop", "bank"} {
		before, writes := r.versions(), l.StatusWrites()
		label(t, l, "team", team)
		l.Eventually(team+" has the address it waited for", r.hasAddress(team))
		after := r.versions()
		delete(before, team)
		delete(after, team)
		if !maps.Equal(before, after) {
			t.Errorf("the label %s has changed what it does not concern: versions\n%v\nand before\n%v", team, after, before)
		}
		if n := l.StatusWrites().Done - writes.Done; n != 1 {
			t.Errorf("the label %s made %d writes, want 1: that of the service that waited", team, n)
		}
	}
	r.check(t) // shop keeps its address, though its pool selects it no more
}

// label gives the story's namespace a label.
func label(t testing.TB, l *lab.Lab, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
	_, err := l.API().CoreV1().Namespaces().Patch(t.Context(), l.Namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("labelling the namespace: %v", err)
	}
}
