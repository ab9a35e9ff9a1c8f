package stories

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestANamespaceHasNoMoreAddressesThanItsQuota(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	other := l.NewNamespace("other", nil)
	l.Apply(poolSpec("lan", "addresses: [192.0.2.0/28], quotaPerNamespace: 2"))
	tls := asking("tls", "share", "k")
	tls.ports = "{name: tls, port: 443}"
	l.Apply(objects(asking("a", "share", "k"), tls, asking("b")))
	waitAddrs(l, "a", "192.0.2.0")
	waitAddrs(l, "tls", "192.0.2.0") // an address that two share counts once
	waitAddrs(l, "b", "192.0.2.1")
	l.Apply(asking("c").String())
	waitVerdict(l, "c", refusal("QuotaExceeded", l.Namespace, `"lan"`, "quotaPerNamespace"))
	l.Eventually("an event says so", hasEvent(l, "c", "QuotaExceeded", l.Namespace))
	l.Apply(asking("by-address", "addresses", "192.0.2.9").String())
	waitVerdict(l, "by-address", refusal("QuotaExceeded", l.Namespace))
	l.DeleteService("by-address")
	l.Apply(asking("web").in(other).String())
	waitAddrs(l, other+"/web", "192.0.2.2")

	l.DeleteService("a") // its address is still that of tls
	if err := stays(l, "c"); err != nil {
		t.Error(err)
	}
	l.DeleteService("b")
	waitAddrs(l, "c", "192.0.2.1")
	// Nobody loses an address when the quota is lowered.
	l.Apply(poolSpec("lan", "addresses: [192.0.2.0/28], quotaPerNamespace: 1"))
	l.Apply(asking("d").String())
	waitVerdict(l, "d", refusal("QuotaExceeded"))
	for name, addr := range map[string]string{"tls": "192.0.2.0", "c": "192.0.2.1"} {
		if err := hasAddrs(l.Service(name), addr); err != nil {
			t.Errorf("after the quota was lowered %s should have %s: %v", name, addr, err)
		}
	}
	l.Apply(poolSpec("lan", "addresses: [192.0.2.0/28], quotaPerNamespace: 3"))
	waitAddrs(l, "d", "192.0.2.3")
}

func TestAFreedAddressRestsUnlessItsOwnerReturns(t *testing.T) {
	const addr = "192.0.2.7"
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("lan", "addresses: [192.0.2.7], reuseAfter: 1h"))
	l.Apply(asking("web").String())
	waitAddrs(l, "web", addr)

	l.DeleteService("web")
	l.Apply(asking("other").String())
	waitVerdict(l, "other", refusal("Resting", `"lan"`, "reuseAfter"))
	l.Apply(asking("by-address", "addresses", addr).String())
	waitVerdict(l, "by-address", refusal("Resting", addr))
	l.DeleteService("by-address")
	l.Apply(asking("web").String())
	waitAddrs(l, "web", addr)
	waitVerdict(l, "other", refusal("PoolFull"))

	l.Apply(poolSpec("lan", "addresses: [192.0.2.7], reuseAfter: 5s"))
	waitInUse(l, "lan")
	began := time.Now()
	l.DeleteService("web")
	waitVerdict(l, "other", refusal("Resting"))
	// Nothing happens from here on but that time passes.
	waitAddrs(l, "other", addr)
	t.Logf("given to another %s after it was freed", time.Since(began).Round(time.Millisecond))
	l.Eventually("nothing rests any more", func() error {
		resting, err := l.Resting("lan")
		if err == nil && len(resting) > 0 {
			err = fmt.Errorf("there are %v", resting)
		}
		return err
	})
}

func TestAddressesRestWhileNoControllerRuns(t *testing.T) {
	const addr = "192.0.2.7"
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("lan", "addresses: [192.0.2.7], reuseAfter: 1h"))
	l.Apply(asking("web").String())
	waitAddrs(l, "web", addr)
	l.DeleteService("web")
	l.Eventually("the pool's status says who had the address", func() error {
		resting, err := l.Resting("lan")
		if want := map[string]string{addr: l.Namespace + "/web"}; err == nil && !maps.Equal(resting, want) {
			err = fmt.Errorf("it says %v, want %v", resting, want)
		}
		return err
	})
	waitFree(l, "lan", 0)
	l.Controller.Kill()
	l.Apply(asking("other").String())
	l.Controller.Start()
	waitVerdict(l, "other", refusal("Resting"))
	l.Apply(asking("web").String())
	waitAddrs(l, "web", addr)
	l.DeleteService("web")
	waitVerdict(l, "other", refusal("Resting"))
	l.Apply(poolSpec("lan", "addresses: [192.0.2.7, 192.0.2.9], reuseAfter: 1h"))
	waitAddrs(l, "other", "192.0.2.9")
}

func TestFirstAndLastAddressesAreSkipped(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(poolSpec("lan", "addresses: [192.0.2.254-192.0.3.1], skipFirstLast: true"))
	l.Apply(objects(asking("a"), asking("b"), asking("c")))
	waitAddrs(l, "a", "192.0.2.254")
	waitAddrs(l, "b", "192.0.3.1")
	waitVerdict(l, "c", refusal("PoolFull", `"lan"`))
	l.Apply(asking("by-address", "addresses", "192.0.2.255").String())
	waitVerdict(l, "by-address", refusal("NotInPool", "192.0.2.255", "skipFirstLast"))
	l.Apply(poolSpec("lan", "addresses: [192.0.2.254-192.0.3.1]"))
	waitAddrs(l, "by-address", "192.0.2.255")
	waitAddrs(l, "c", "192.0.3.0")
}

func TestAPoolMayMoveServicesWhenItShrinks(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/29"))
	l.Apply(objects(asking("a"), asking("b"), asking("fixed", "addresses", "192.0.2.7")))
	waitAddrs(l, "a", "192.0.2.0")
	waitAddrs(l, "b", "192.0.2.1")
	waitAddrs(l, "fixed", "192.0.2.7")

	l.Apply(pool("lan", "192.0.2.64/29"))
	waitVerdict(l, "a", kept("OutsidePools", "192.0.2.0"))
	waitVerdict(l, "b", kept("OutsidePools", "192.0.2.1"))
	l.Apply(poolSpec("lan", "addresses: [192.0.2.64/29], onShrink: Reassign"))
	waitAddrs(l, "a", "192.0.2.64")
	waitAddrs(l, "b", "192.0.2.65")
	waitVerdict(l, "a", assigned())
	// Who has asked for an address by name gets no other one.
	if err := stays(l, "fixed", "192.0.2.7"); err != nil {
		t.Error(err)
	}
	waitVerdict(l, "fixed", kept("OutsidePools", "192.0.2.7"))

	// One who finds no room stays where it is, until there is some.
	l.Apply(poolSpec("lan", "addresses: [192.0.2.128], onShrink: Reassign"))
	waitAddrs(l, "a", "192.0.2.128")
	waitVerdict(l, "b", kept("OutsidePools", "192.0.2.65"))
	l.DeleteService("a")
	waitAddrs(l, "b", "192.0.2.128")
}

func TestReassignMovesAServiceOnceForEachText(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/30"))
	l.Apply(objects(asking("a-web"), asking("neighbour")))
	waitAddrs(l, "a-web", "192.0.2.0")
	waitAddrs(l, "neighbour", "192.0.2.1")

	annotate(l, "a-web", "reassign", "monday")
	waitAddrs(l, "a-web", "192.0.2.2")
	waitVerdict(l, "a-web", assigned())
	l.Eventually("an event tells of it", hasEvent(l, "a-web", "Assigned", "192.0.2.2"))
	if err := stays(l, "a-web", "192.0.2.2"); err != nil {
		t.Error(err)
	}
	l.Controller.Kill()
	l.Controller.Start()
	if err := stays(l, "a-web", "192.0.2.2"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	annotate(l, "a-web", "reassign", "")
	if err := stays(l, "a-web", "192.0.2.2"); err != nil {
		t.Errorf("after the annotation was taken away: %v", err)
	}
	annotate(l, "a-web", "reassign", "tuesday")
	waitAddrs(l, "a-web", "192.0.2.0")
	waitAddrs(l, "neighbour", "192.0.2.1")
	if err := stays(l, "a-web", "192.0.2.0"); err != nil {
		t.Error(err)
	}
}

func TestReassignWaitsForAnAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/31"))
	l.Apply(objects(asking("a-web"), asking("neighbour")))
	waitAddrs(l, "a-web", "192.0.2.0")
	waitAddrs(l, "neighbour", "192.0.2.1")
	annotate(l, "a-web", "reassign", "now")
	waitVerdict(l, "a-web", kept("PoolFull", "192.0.2.0"))
	l.DeleteService("neighbour")
	waitAddrs(l, "a-web", "192.0.2.1")
	waitVerdict(l, "a-web", assigned())

	// A new Service has nothing to move from.
	l.Apply(asking("late", "reassign", "now").String())
	waitAddrs(l, "late", "192.0.2.0")
	l.Apply(pool("lan", "192.0.2.0/29"))
	waitInUse(l, "lan")
	if err := stays(l, "late", "192.0.2.0"); err != nil {
		t.Error(err)
	}
}

func TestTheAddressOfANodeIsNeverGiven(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Stranger("k1", "192.0.2.1", "2001:db8::1")
	l.Apply(pool("lan", "192.0.2.0/29"))
	waitFree(l, "lan", 7)
	l.Apply(objects(asking("a"), asking("b"), asking("by-address", "addresses", "192.0.2.1")))
	waitAddrs(l, "a", "192.0.2.0")
	waitAddrs(l, "b", "192.0.2.2")
	waitVerdict(l, "by-address", refusal("ReservedAddress", "192.0.2.1", "node k1", `"lan"`))

	// A node that comes later takes nothing away.
	l.Stranger("k2", "192.0.2.0")
	l.Eventually("the service says that it has the address of a node", func() error {
		c := l.Condition("a")
		if c.Status != "True" || c.Message == "192.0.2.0 from pool lan" {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	if err := stays(l, "a", "192.0.2.0"); err != nil {
		t.Error(err)
	}
	l.DeleteService("a")
	l.Apply(asking("c").String())
	waitAddrs(l, "c", "192.0.2.3")
	l.DeleteNode("k1")
	waitAddrs(l, "by-address", "192.0.2.1")
}
