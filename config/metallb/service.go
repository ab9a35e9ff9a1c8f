package metallb

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"

	"github.com/herald-lb/herald/ipam"
)

// The annotations of Services: Herald's, and MetalLB's without their prefix.
const (
	ours      = "herald-lb.io/"
	shareWith = ours + "share-with"
	allocated = "ip-allocated-from-pool"
)

// prefixes are those of MetalLB's annotations. The first wins.
var prefixes = []string{"metallb.io/", "metallb.universe.tf/"}

// equivalents are Herald's annotations by MetalLB's.
var equivalents = map[string]string{
	"address-pool":    ours + "pool",
	"loadBalancerIPs": ours + "addresses",
	"allow-shared-ip": ours + "share",
}

// Annotations returns the herald-lb.io/ annotations of a Service with the given
// ones: its own, and what MetalLB's say. Its own win.
func Annotations(all map[string]string) map[string]string {
	out := map[string]string{}
	for i := len(prefixes) - 1; i >= 0; i-- {
		for theirs, mine := range equivalents {
			if value := all[prefixes[i]+theirs]; value != "" {
				out[mine] = value
			}
		}
	}
	for key, value := range all {
		if strings.HasPrefix(key, ours) {
			out[key] = value
		}
	}
	return out
}

// IsAnnotation reports whether key is one of MetalLB's annotations that
// Annotations reads.
func IsAnnotation(key string) bool {
	for _, p := range prefixes {
		if name, ok := strings.CutPrefix(key, p); ok && equivalents[name] != "" {
			return true
		}
	}
	return false
}

// metallbKeys returns those of annotations that are MetalLB's, sorted.
func metallbKeys(annotations map[string]string) []string {
	var keys []string
	for key := range annotations {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// A service is a Service of type LoadBalancer, or one with MetalLB's annotations.
type service struct {
	origin
	object   corev1.Service
	manifest map[string]any
}

// A Service is a Service whose annotations were MetalLB's.
type Service struct {
	Namespace, Name string
	Set             map[string]string // Herald's annotations that it needs
	Remove          []string          // MetalLB's annotations, once MetalLB is gone
	Manifest        map[string]any    // the object, with the one instead of the other
}

func (in *input) service(o origin, doc []byte) error {
	s := service{origin: o}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &s.object); err != nil {
		return err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &s.manifest); err != nil {
		return err
	}
	if s.object.Spec.Type == corev1.ServiceTypeLoadBalancer || len(metallbKeys(s.object.Annotations)) > 0 {
		in.services = append(in.services, s)
	}
	return nil
}

// sharers returns the namespaces that use each sharing key.
func (in *input) sharers() map[string][]string {
	out := map[string][]string{}
	for _, s := range in.services {
		if key := Annotations(s.object.Annotations)[ours+"share"]; key != "" {
			out[key] = append(out[key], s.object.Namespace)
		}
	}
	for key, namespaces := range out {
		slices.Sort(namespaces)
		out[key] = slices.Compact(namespaces)
	}
	return out
}

// translateService returns s with Herald's annotations; ok is false if it has
// none of MetalLB's.
func (in *input) translateService(s service, sharers map[string][]string) (out Service, ok bool) {
	annotations := s.object.Annotations
	out = Service{Namespace: s.object.Namespace, Name: s.object.Name, Remove: metallbKeys(annotations)}
	if len(out.Remove) == 0 {
		return out, false
	}
	in.noteAnnotations(s, out.Remove)
	out.Set = Annotations(annotations)
	maps.DeleteFunc(out.Set, func(key, value string) bool { return annotations[key] == value })
	if now, ok := in.renamed[out.Set[ours+"pool"]]; ok {
		out.Set[ours+"pool"] = now
	}
	maps.DeleteFunc(out.Set, func(_, value string) bool { return unprintable(value) })
	in.share(s, &out, sharers)
	out.Manifest = rewritten(s.manifest, out)
	return out, true
}

func unprintable(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

func field(annotation string) string { return "metadata.annotations[" + annotation + "]" }

func (in *input) noteAnnotations(s service, keys []string) {
	annotations := s.object.Annotations
	effective := Annotations(annotations)
	for _, key := range keys {
		_, theirs, _ := strings.Cut(key, "/")
		mine, known := equivalents[theirs]
		switch {
		case theirs == allocated:
			in.add(Done, s.origin, field(key), "is written by MetalLB: left out")
		case !known:
			in.add(Missing, s.origin, field(key), "no equivalent: this annotation is not known, and not translated")
		case unprintable(annotations[key]):
			in.add(Missing, s.origin, field(key), "no equivalent: the value has control characters; write another one, the same for all that share")
		case annotations[key] == "":
			in.add(Done, s.origin, field(key), "is empty: left out")
		case effective[mine] != annotations[key]:
			in.add(Attention, s.origin, field(key), "left out: another annotation, which wins, makes %s %q", mine, effective[mine])
		default:
			in.add(Done, s.origin, field(key), "translated to %s", mine)
		}
	}
}

// share lets the Services share that MetalLB lets share: it asks for the same
// key only, Herald for the consent of other namespaces, too.
func (in *input) share(s service, out *Service, sharers map[string][]string) {
	key := out.Set[ours+"share"]
	if key == "" {
		return
	}
	if _, said := s.object.Annotations[shareWith]; said {
		return
	}
	others := slices.DeleteFunc(slices.Clone(sharers[key]), func(ns string) bool { return ns == s.object.Namespace || ns == "" })
	if len(others) == 0 {
		in.add(Done, s.origin, field(shareWith), "not written: all Services of the input with this key are in one namespace; Herald shares within it only")
		return
	}
	out.Set[shareWith] = strings.Join(others, ",")
	in.add(Attention, s.origin, field(shareWith), "is %s: with MetalLB every namespace may share, with Herald those that are named; "+
		"remove it if they should not share", out.Set[shareWith])
}

// serverSet are fields that the API server sets, and status controllers.
var serverSet = []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}

// rewritten returns m with the annotations of s.
func rewritten(m map[string]any, s Service) map[string]any {
	m = maps.Clone(m)
	delete(m, "status")
	meta, _ := m["metadata"].(map[string]any)
	meta = maps.Clone(meta)
	for _, f := range serverSet {
		delete(meta, f)
	}
	old, _ := meta["annotations"].(map[string]any)
	annotations := maps.Clone(old)
	for _, key := range append(s.Remove, "kubectl.kubernetes.io/last-applied-configuration") {
		delete(annotations, key)
	}
	for key, value := range s.Set {
		annotations[key] = value
	}
	meta["annotations"] = annotations
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
	m["metadata"] = meta
	return m
}

// noteClasses notes the load balancer classes that Herald does not serve by itself.
func (in *input) noteClasses() {
	users := map[string]int{}
	for _, s := range in.services {
		if c := s.object.Spec.LoadBalancerClass; c != nil && s.object.Spec.Type == corev1.ServiceTypeLoadBalancer {
			users[*c]++
		}
	}
	delete(users, ours+"herald")
	for _, class := range slices.Sorted(maps.Keys(users)) {
		in.add(Attention, origin{object: "Service"}, "spec.loadBalancerClass",
			"%q, which is asked for by %d: if it was MetalLB's (--lb-class), give Herald's controller and speakers --class=%s", class, users[class], class)
	}
}

// noteStrays notes the addresses that MetalLB has assigned and none of ranges has.
func (in *input) noteStrays(ranges []ipam.Range) {
	for _, s := range in.services {
		byMetalLB := slices.ContainsFunc(prefixes, func(p string) bool { return s.object.Annotations[p+allocated] != "" })
		for i, ingress := range s.object.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(ingress.IP)
			if err != nil || !byMetalLB || slices.ContainsFunc(ranges, func(r ipam.Range) bool { return r.Contains(addr.Unmap()) }) {
				continue
			}
			in.add(Attention, s.origin, fmt.Sprintf("status.loadBalancer.ingress[%d]", i),
				"%s is in no pool of the output: Herald will take it for foreign and leave the Service alone; add it to a pool to keep it", addr)
		}
	}
}

func compareServices(a, b service) int {
	return cmp.Or(cmp.Compare(a.object.Namespace, b.object.Namespace), cmp.Compare(a.object.Name, b.object.Name))
}
