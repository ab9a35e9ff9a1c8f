package stories

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/e2e/lab"
)

// dual returns a Service with an ipFamilyPolicy.
func dual(name, policy string, annotations ...string) service {
	s := asking(name, annotations...)
	s.more += ", ipFamilyPolicy: " + policy
	return s
}

func setPolicy(l *lab.Lab, name string, p corev1.IPFamilyPolicy) {
	l.Edit(name, func(s *corev1.Service) { s.Spec.IPFamilyPolicy = ptr.To(p) })
}

const (
	four = "addresses: [192.0.2.0/30]"
	six  = `addresses: ["2001:db8::/126"]`
)

func TestTheSecondFamilyComesWhenItCan(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("four", four))
	l.Apply(objects(dual("prefer", "PreferDualStack"), dual("require", "RequireDualStack"), asking("single")))
	waitAddrs(l, "prefer", "192.0.2.0")
	waitVerdict(l, "prefer", kept("PartlyAssigned", "192.0.2.0", "IPv6"))
	waitAddrs(l, "single", "192.0.2.1")
	waitVerdict(l, "require", refusal("WrongFamily", "IPv6"))
	if err := stays(l, "require"); err != nil {
		t.Errorf("all or nothing: %v", err)
	}

	// One address: the older one has it.
	l.Apply(poolSpec("six", `addresses: ["2001:db8::"]`))
	waitAddrs(l, "prefer", "192.0.2.0", "2001:db8::")
	waitVerdict(l, "prefer", assigned())
	waitVerdict(l, "require", refusal("PoolFull", "IPv6", `"six"`))
	l.Apply(poolSpec("six", six))
	waitAddrs(l, "require", "192.0.2.2", "2001:db8::1")
	waitVerdict(l, "require", assigned())
	if err := stays(l, "single", "192.0.2.1"); err != nil {
		t.Error(err)
	}
}

func TestAChangeOfPolicyKeepsTheAddressThatStays(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("four", four))
	l.Apply(poolSpec("six", six))
	l.Apply(dual("web", "RequireDualStack").String())
	waitAddrs(l, "web", "192.0.2.0", "2001:db8::")
	first := dual("first-six", "PreferDualStack")
	first.more += ", ipFamilies: [IPv6, IPv4]"
	l.Apply(first.String())
	waitAddrs(l, "first-six", "2001:db8::1", "192.0.2.1")

	setPolicy(l, "web", corev1.IPFamilyPolicySingleStack)
	waitAddrs(l, "web", "192.0.2.0")
	waitVerdict(l, "web", assigned())
	setPolicy(l, "first-six", corev1.IPFamilyPolicySingleStack)
	waitAddrs(l, "first-six", "2001:db8::1")

	// What they have left is free again.
	l.Apply(dual("next", "RequireDualStack").String())
	waitAddrs(l, "next", "192.0.2.1", "2001:db8::")
	setPolicy(l, "web", corev1.IPFamilyPolicyPreferDualStack)
	waitAddrs(l, "web", "192.0.2.0", "2001:db8::2")
	setPolicy(l, "web", corev1.IPFamilyPolicyRequireDualStack)
	if err := stays(l, "web", "192.0.2.0", "2001:db8::2"); err != nil {
		t.Error(err)
	}
	// A pool of one family that goes takes none of the other with it.
	l.Delete(poolSpec("six", six))
	waitVerdict(l, "web", kept("OutsidePools", "2001:db8::2"))
	if err := stays(l, "web", "192.0.2.0", "2001:db8::2"); err != nil {
		t.Error(err)
	}
}

func TestBothFamiliesMayBeAskedFor(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("four", four))
	l.Apply(poolSpec("six", six))
	l.Apply(objects(
		dual("both", "RequireDualStack", "addresses", "2001:db8::3, 192.0.2.3"),
		dual("one", "PreferDualStack", "addresses", "192.0.2.2"),
		asking("wrong", "addresses", "2001:db8::2"),
		dual("taken", "RequireDualStack", "addresses", "192.0.2.3,2001:db8::2")))
	waitAddrs(l, "both", "192.0.2.3", "2001:db8::3")
	waitAddrs(l, "one", "192.0.2.2", "2001:db8::")
	waitVerdict(l, "wrong", refusal("WrongFamily", "2001:db8::2"))
	waitVerdict(l, "taken", refusal("AddressTaken", "192.0.2.3", "/both"))
	l.DeleteService("both")
	waitAddrs(l, "taken", "192.0.2.3", "2001:db8::2")
}
