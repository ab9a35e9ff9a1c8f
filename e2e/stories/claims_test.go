package stories

import (
	"fmt"
	"slices"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// claim returns an AddressClaim with the fields of spec.
func claim(name, spec string) string {
	return fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: AddressClaim, metadata: {name: %s}, spec: {%s}}", name, spec)
}

// waitClaim waits until a claim has these addresses, and all it asks for.
func waitClaim(l *lab.Lab, name string, want ...string) {
	l.Eventually(fmt.Sprintf("claim %s has %v", name, want), func() error {
		addrs, ready := l.Claim(name)
		var have []string
		for _, a := range addrs {
			have = append(have, a.String())
		}
		if ready.Status != "True" || !slices.Equal(have, want) {
			return fmt.Errorf("it has %v, and is %+v", have, ready)
		}
		return nil
	})
}

// waitClaimReason waits until a claim is not ready for a reason.
func waitClaimReason(l *lab.Lab, name, reason string) {
	l.Eventually(fmt.Sprintf("claim %s is not ready: %s", name, reason), func() error {
		addrs, ready := l.Claim(name)
		if ready.Status != "False" || ready.Reason != reason {
			return fmt.Errorf("it has %v, and is %+v", addrs, ready)
		}
		return nil
	})
}

func TestAnAddressClaimOutlivesItsServices(t *testing.T) {
	const fixed, next = "192.0.2.0", "192.0.2.1"
	l := lab.Start(t, lab.Options{NoNodes: true})
	other := l.NewNamespace("other", nil)
	l.Apply(pool("lan", "192.0.2.0/28"))
	l.Apply(claim("fixed", ""))
	waitClaim(l, "fixed", fixed)
	waitFree(l, "lan", 15)

	t.Run("who does not ask for it gets another", func(t *testing.T) {
		l.Apply(asking("any").String())
		waitAddrs(l, "any", next)
		l.DeleteService("any")
	})
	t.Run("who names it has it, one after the other", func(t *testing.T) {
		for _, name := range []string{"first", "second", "first"} {
			l.Apply(asking(name, "claim", "fixed").String())
			waitAddrs(l, name, fixed)
			waitVerdict(l, name, assigned())
			l.DeleteService(name)
			l.Apply(asking("any").String())
			waitAddrs(l, "any", next)
			l.DeleteService("any")
		}
	})
	t.Run("so has who asks for its address", func(t *testing.T) {
		l.Apply(asking("by-address", "addresses", fixed).String())
		waitAddrs(l, "by-address", fixed)
		l.Apply(asking("too-late", "claim", "fixed").String())
		waitVerdict(l, "too-late", refusal("AddressTaken", fixed, l.Namespace+"/by-address"))
		l.DeleteService("by-address")
		waitAddrs(l, "too-late", fixed)
		l.DeleteService("too-late")
	})
	t.Run("another namespace does not get it", func(t *testing.T) {
		l.Apply(asking("by-address", "addresses", fixed).in(other).String())
		waitVerdict(l, other+"/by-address", refusal("AddressTaken", fixed, "claim "+l.Namespace+"/fixed"))
		l.Apply(asking("by-name", "claim", "fixed").in(other).String())
		waitVerdict(l, other+"/by-name", refusal("ClaimUnknown", "fixed", other))
		l.DeleteService(other + "/by-name")
	})
	t.Run("a restart of the controller changes nothing", func(t *testing.T) {
		l.Controller.Kill()
		l.Apply(asking("any").String())
		l.Controller.Start()
		waitAddrs(l, "any", next)
		waitClaim(l, "fixed", fixed)
	})
	t.Run("when it is deleted its user keeps the address", func(t *testing.T) {
		l.Apply(asking("web", "claim", "fixed").String())
		waitAddrs(l, "web", fixed)
		l.Delete(claim("fixed", ""))
		waitVerdict(l, "web", kept("ClaimUnknown", fixed, `"fixed"`))
		if err := stays(l, "web", fixed); err != nil {
			t.Error(err)
		}
	})
	t.Run("and after that anybody may have it", func(t *testing.T) {
		l.DeleteService("web")
		waitAddrs(l, other+"/by-address", fixed)
	})
}

func TestAClaimAndItsServiceMeetInEitherOrder(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(asking("web", "claim", "fixed").String())
	waitVerdict(l, "web", refusal("ClaimUnknown"))
	l.Apply(claim("fixed", `addresses: ["192.0.2.7"]`))
	waitClaimReason(l, "fixed", "NotInPool")
	waitVerdict(l, "web", refusal("ClaimEmpty", `"fixed"`))
	l.Apply(pool("lan", "192.0.2.0/28", "2001:db8::/124"))
	waitClaim(l, "fixed", "192.0.2.7")
	waitAddrs(l, "web", "192.0.2.7")

	// A Service that had an address before it named the claim moves to it.
	l.Apply(asking("mover").String())
	waitAddrs(l, "mover", "192.0.2.0")
	l.Apply(claim("both", "families: [IPv4, IPv6]"))
	waitClaim(l, "both", "192.0.2.1", "2001:db8::")
	annotate(l, "mover", "claim", "both")
	waitAddrs(l, "mover", "192.0.2.1")

	// Sharers may use one claim together.
	one, two := asking("one", "claim", "fixed", "share", "k"), asking("two", "claim", "fixed", "share", "k")
	two.ports = "{name: tls, port: 443}"
	l.DeleteService("web")
	l.Apply(objects(one, two))
	waitAddrs(l, "one", "192.0.2.7")
	waitAddrs(l, "two", "192.0.2.7")
}

func TestAServiceKeepsItsAddressByAClaimMadeLater(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28"))
	l.Apply(asking("web").String())
	addr := l.WaitAddress("web").String()
	l.Apply(claim("keep", fmt.Sprintf("addresses: [%q]", addr)))
	waitClaim(l, "keep", addr)
	if err := stays(l, "web", addr); err != nil {
		t.Error(err)
	}
	l.DeleteService("web")
	l.Apply(asking("other").String())
	if got := l.WaitAddress("other").String(); got == addr {
		t.Errorf("%s has gone to a service that does not name the claim", got)
	}
	l.Apply(asking("web", "claim", "keep").String())
	waitAddrs(l, "web", addr)
}

func TestLabelsOfANamespaceAdmitServicesAndClaims(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	other := l.NewNamespace("other", nil)
	l.Apply(poolSpec("lan", "addresses: [192.0.2.0/28], namespaceSelector: {matchLabels: {team: net}}"))
	l.Apply(asking("web").in(other).String())
	waitVerdict(l, other+"/web", refusal("NotEligible", "lan"))
	l.Apply(fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: AddressClaim, metadata: {name: c, namespace: %s}}", other))
	waitClaimReason(l, other+"/c", "NotEligible")
	// Both wait: claims are served before those to whom any address will do.
	l.LabelNamespace(other, "team", "net")
	waitClaim(l, other+"/c", "192.0.2.0")
	waitAddrs(l, other+"/web", "192.0.2.1")
}
