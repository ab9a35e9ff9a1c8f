package stories

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

// asking returns a Service without pods that asks by annotations: pairs of a
// key and a value. A key without a prefix is one of Herald's.
func asking(name string, annotations ...string) service {
	return service{name: name, app: "none", more: "allocateLoadBalancerNodePorts: false", meta: annotated(annotations...)}
}

// annotated returns annotations as they stand in metadata.
func annotated(pairs ...string) string {
	var lines []string
	for pair := range slices.Chunk(pairs, 2) {
		lines = append(lines, fmt.Sprintf("%s: %q", heralds(pair[0]), pair[1]))
	}
	return "annotations: {" + strings.Join(lines, ", ") + "}"
}

func heralds(key string) string {
	if strings.Contains(key, "/") {
		return key
	}
	return "herald-lb.io/" + key
}

// in returns s in another Kubernetes namespace.
func (s service) in(namespace string) service {
	s.meta = fmt.Sprintf("namespace: %s, %s", namespace, s.meta)
	return s
}

// annotate changes an annotation of a Service: "" takes it away.
func annotate(l *lab.Lab, name, key, value string) {
	l.Edit(name, func(s *corev1.Service) {
		if value == "" {
			delete(s.Annotations, heralds(key))
			return
		}
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[heralds(key)] = value
	})
}

// waitAddrs waits until a Service has these addresses, in this order.
func waitAddrs(l *lab.Lab, name string, want ...string) {
	l.Eventually(fmt.Sprintf("service %s has %v", name, want), func() error { return hasAddrs(l.Service(name), want...) })
}

func hasAddrs(s *corev1.Service, want ...string) error {
	var have []string
	for _, a := range lab.Addresses(s) {
		have = append(have, a.String())
	}
	if !slices.Equal(have, want) {
		return fmt.Errorf("it has %v, its conditions are %+v", have, s.Status.Conditions)
	}
	return nil
}

// waitOther waits until a Service has one address, and another one than addr.
func waitOther(l *lab.Lab, name string, addr netip.Addr) (now netip.Addr) {
	l.Eventually(fmt.Sprintf("service %s has another address than %s", name, addr), func() error {
		addrs := lab.Addresses(l.Service(name))
		if len(addrs) != 1 || addrs[0] == addr {
			return fmt.Errorf("it has %v", addrs)
		}
		now = addrs[0]
		return nil
	})
	return now
}

// A verdict is what Herald's condition says of a Service.
type verdict struct {
	status string // "True" or "False"
	reason string
	texts  []string // that the message holds
}

func assigned() verdict { return verdict{"True", "Assigned", nil} }

func kept(reason string, texts ...string) verdict { return verdict{"True", reason, texts} }

func refusal(reason string, texts ...string) verdict { return verdict{"False", reason, texts} }

// waitVerdict waits until the condition of a Service is v.
func waitVerdict(l *lab.Lab, name string, v verdict) {
	l.Eventually(fmt.Sprintf("service %s is %s: %s, for %q", name, v.status, v.reason, v.texts), func() error {
		c := l.Condition(name)
		if string(c.Status) != v.status || c.Reason != v.reason {
			return fmt.Errorf("the condition is %+v", c)
		}
		for _, text := range v.texts {
			if !strings.Contains(c.Message, text) {
				return fmt.Errorf("the message %q does not hold %q", c.Message, text)
			}
		}
		return nil
	})
}

// waitSeen waits until Herald has seen, and acted upon, what was done to
// Services so far. The Service that shows it never has an address.
func waitSeen(l *lab.Lab) {
	const name = "seen"
	l.Apply(asking(name, "pool", "none").String())
	waitVerdict(l, name, refusal("PoolUnknown"))
	l.DeleteService(name)
}

// stays waits until Herald has seen everything, and says if a Service has other
// addresses by then.
func stays(l *lab.Lab, name string, want ...string) error {
	waitSeen(l)
	if err := hasAddrs(l.Service(name), want...); err != nil {
		return fmt.Errorf("%s should have kept %v: %w", name, want, err)
	}
	return nil
}

// hasEvent says whether an Event about a Service has the reason and the text.
func hasEvent(l *lab.Lab, name, reason, text string) func() error {
	return func() error {
		events := l.Events(name)
		if !slices.ContainsFunc(events, func(e string) bool {
			return strings.HasPrefix(e, reason+": ") && strings.Contains(e, text)
		}) {
			return fmt.Errorf("the events are %q", events)
		}
		return nil
	}
}

// waitFree waits until the status of a pool says that so many of its IPv4
// addresses are free.
func waitFree(l *lab.Lab, pool string, free int64) {
	l.Eventually(fmt.Sprintf("pool %s has %d free addresses", pool, free), func() error {
		c, err := l.PoolCount(pool)
		if err == nil && c.Free != free {
			err = fmt.Errorf("its status says %+v", c)
		}
		return err
	})
}

// waitInUse waits until a pool is in use as it is written now.
func waitInUse(l *lab.Lab, pool string) {
	l.Eventually("pool "+pool+" is in use", func() error {
		c, err := l.PoolCondition(pool, "Ready")
		if err == nil && c.Status != "True" {
			err = errors.New(c.Message)
		}
		return err
	})
}
