package lab

import (
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Claim returns the addresses of an AddressClaim of the story and its condition
// Ready, of which there is none before Herald has seen it.
func (l *Lab) Claim(name string) ([]netip.Addr, metav1.Condition) {
	l.t.Helper()
	namespace, name := l.locate(name)
	claim, err := l.cp.API.dynamic.Resource(claimsResource).Namespace(namespace).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		l.t.Fatalf("getting AddressClaim %s: %v", name, err)
	}
	texts, _, err := unstructured.NestedStringSlice(claim.Object, "status", "addresses")
	if err != nil {
		l.t.Fatalf("reading AddressClaim %s: %v", name, err)
	}
	var addrs []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			l.t.Fatalf("reading AddressClaim %s: %v", name, err)
		}
		addrs = append(addrs, a)
	}
	ready, err := conditionOf(claim, "Ready")
	if err != nil {
		ready = metav1.Condition{}
	}
	return addrs, ready
}

// Resting returns the addresses of a pool that rest, by its status, each with
// who had it.
func (l *Lab) Resting(pool string) (map[string]string, error) {
	o, err := l.cp.API.dynamic.Resource(poolsResource).Get(l.ctx, pool, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, _, err := unstructured.NestedSlice(o.Object, "status", "resting")
	if err != nil {
		return nil, err
	}
	owners := map[string]string{}
	for _, one := range list {
		fields, ok := one.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("reading AddressPool %s: %v is no object", pool, one)
		}
		owners[fmt.Sprint(fields["address"])] = fmt.Sprint(fields["service"])
	}
	return owners, nil
}

// conditionOf returns a condition of an object of Herald's own kinds that is of
// the object as it is now written.
func conditionOf(o *unstructured.Unstructured, kind string) (metav1.Condition, error) {
	list, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		return metav1.Condition{}, err
	}
	for _, fields := range list {
		var c metav1.Condition
		if err := convert(fields, &c); err != nil {
			return c, fmt.Errorf("reading the conditions of %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if c.Type == kind && c.ObservedGeneration == o.GetGeneration() {
			return c, nil
		}
	}
	return metav1.Condition{}, fmt.Errorf("%s %s has no condition %s that is up to date", o.GetKind(), o.GetName(), kind)
}
