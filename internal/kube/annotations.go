package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/metallb"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
)

// Annotations that Herald reads on a Service.
const (
	prefix              = "herald-lb.io/"
	annotationPool      = prefix + "pool"       // name of an AddressPool
	annotationWanted    = prefix + "addresses"  // one address of each family, separated by a comma
	annotationClaim     = prefix + "claim"      // name of an AddressClaim of the same namespace
	annotationShare     = prefix + "share"      // key: Services with the same may have one address
	annotationWith      = prefix + "share-with" // other namespaces that may share it, separated by commas; * for all
	annotationReassign  = prefix + "reassign"   // any text; each new one asks for another address, once
	annotationScheduler = prefix + "scheduler"  // an IPVS scheduler and its flags, separated by commas
	annotationAvoid     = prefix + "avoid"      // nodes that announce it only where no other can, separated by commas
)

// annotationDrain on a Node makes it announce only what no other can, whatever
// its text.
const annotationDrain = prefix + "drain"

// known are the annotations that mean something.
var known = []string{
	annotationPool, annotationWanted, annotationClaim, annotationShare, annotationWith, annotationReassign, annotationScheduler, annotationAvoid,
}

// heralds returns the annotations of svc that are for Herald to read: its own,
// and with fromMetalLB what MetalLB's mean in Herald's words.
func heralds(svc *corev1.Service, fromMetalLB bool) map[string]string {
	if fromMetalLB {
		return metallb.Annotations(svc.Annotations)
	}
	own := map[string]string{}
	for name, text := range svc.Annotations {
		if strings.HasPrefix(name, prefix) {
			own[name] = text
		}
	}
	return own
}

// annotate reads a Service's requests into s. What cannot be read is said in
// s.Invalid, never passed over.
func annotate(s *snapshot.Service, svc *corev1.Service, fromMetalLB bool) {
	a := heralds(svc, fromMetalLB)
	s.Pool, s.Claim, s.Share, s.Reassign = a[annotationPool], a[annotationClaim], a[annotationShare], a[annotationReassign]
	s.ShareWith, s.Avoid = words(a[annotationWith]), words(a[annotationAvoid])
	field, text := "spec.loadBalancerIP", svc.Spec.LoadBalancerIP
	if wanted, ok := a[annotationWanted]; ok {
		field, text = "annotation "+annotationWanted, wanted
	}
	var invalid, schedulerInvalid string
	s.Want, invalid = requested(field, text)
	s.Scheduler, s.SchedulerFlags, schedulerInvalid = scheduler(a)
	s.Invalid = cmp.Or(invalid, unknown(a), schedulerInvalid)
	if len(s.ShareWith) > 0 && s.Share == "" && s.Invalid == "" {
		s.Invalid = fmt.Sprintf("annotation %s says nothing without %s; add the key to share under, or remove it", annotationWith, annotationShare)
	}
}

// words returns what stands between commas.
func words(text string) (list []string) {
	for _, w := range strings.Split(text, ",") {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}

// unknown says which of the annotations is not known; "" if all are.
func unknown(annotations map[string]string) (invalid string) {
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if !slices.Contains(known, name) {
			return fmt.Sprintf("annotation %s is not known; write one of %s, or remove it", name, strings.Join(known, ", "))
		}
	}
	return ""
}

// scheduler returns the scheduler that annotations ask for, and what is wrong
// with what they say; without a name that of the pool stays.
func scheduler(annotations map[string]string) (name string, flags config.SchedulerFlags, invalid string) {
	text, ok := annotations[annotationScheduler]
	if !ok {
		return "", 0, ""
	}
	name, flags, err := v1alpha1.ParseScheduler(text)
	if err != nil {
		return "", 0, fmt.Sprintf("annotation %s: %v", annotationScheduler, err)
	}
	return name, flags, ""
}

// requested returns the addresses that text asks for, and what is wrong with it.
func requested(field, text string) (want []netip.Addr, invalid string) {
	if text == "" {
		return nil, ""
	}
	seen := map[bool]bool{}
	for _, word := range strings.Split(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(word))
		if err != nil || a.Zone() != "" {
			return nil, fmt.Sprintf("%s: %q is no IP address; write one address of each family, separated by a comma", field, word)
		}
		a = a.Unmap()
		if seen[a.Is4()] {
			return nil, fmt.Sprintf("%s: %q has two addresses of one family; write one of each at most", field, text)
		}
		seen[a.Is4()] = true
		want = append(want, a)
	}
	return want, ""
}

// trimAnnotations drops what nobody reads: kubectl keeps a copy of the whole
// manifest there.
func trimAnnotations(all map[string]string) map[string]string {
	read := map[string]string{}
	for name, text := range all {
		if strings.HasPrefix(name, prefix) || metallb.IsAnnotation(name) || name == annotationSources {
			read[name] = text
		}
	}
	return read
}
