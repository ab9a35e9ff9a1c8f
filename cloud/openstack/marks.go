package openstack

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// A marks is what marks say of a resource.
type marks struct {
	Owner    cloud.Owner
	Adopted  bool // it was there before its Service
	Retained bool // it was kept when its Service went
}

// none is whether a resource is nobody's.
func (m marks) none() bool { return m.Owner.UID == "" }

// Tags of what is ours. Octavia's are up to 255 characters long.
const (
	tagCluster  = "herald-cluster="
	tagUID      = "herald-uid="
	tagService  = "herald-service=" // namespace/name
	tagAdopted  = "herald-adopted"
	tagRetained = "herald-retained"

	// shortTag is how long Neutron's tags were before 2023.2.
	shortTag = 60
)

// tags returns those that have marks, and others that were there, in order.
func (m marks) tags(have []string) []string {
	res := append(unmark(have), tagCluster+m.Owner.Cluster, tagUID+string(m.Owner.UID), tagService+m.Owner.Key())
	if m.Adopted {
		res = append(res, tagAdopted)
	}
	if m.Retained {
		res = append(res, tagRetained)
	}
	slices.Sort(res)
	return res
}

// shortTags is tags for Neutron. What is too long stands in the description only.
func (m marks) shortTags(have []string) []string {
	return slices.DeleteFunc(m.tags(have), func(t string) bool { return len(t) > shortTag && strings.HasPrefix(t, "herald-") })
}

// unmark returns the tags that are not ours.
func unmark(have []string) []string {
	return slices.DeleteFunc(slices.Clone(have), func(t string) bool {
		return t == tagAdopted || t == tagRetained || strings.HasPrefix(t, tagCluster) || strings.HasPrefix(t, tagUID) || strings.HasPrefix(t, tagService)
	})
}

// readTags is the reverse of tags. An owner without cluster or UID is none.
func readTags(tags []string) (m marks) {
	for _, t := range tags {
		if v, ok := strings.CutPrefix(t, tagCluster); ok {
			m.Owner.Cluster = v
		} else if v, ok := strings.CutPrefix(t, tagUID); ok {
			m.Owner.UID = types.UID(v)
		} else if v, ok := strings.CutPrefix(t, tagService); ok {
			m.Owner.Namespace, m.Owner.Name, _ = strings.Cut(v, "/")
		}
	}
	if m.Owner.Cluster == "" || m.Owner.UID == "" {
		return marks{}
	}
	m.Adopted, m.Retained = slices.Contains(tags, tagAdopted), slices.Contains(tags, tagRetained)
	return m
}

// described begins the descriptions of what is ours: then come the cluster, the UID,
// namespace/name and, where they are true, the words adopted and retained, between
// colons.
const described = "herald:"

func (m marks) String() string {
	text := described + m.Owner.Cluster + ":" + string(m.Owner.UID) + ":" + m.Owner.Key()
	if m.Adopted {
		text += ":adopted"
	}
	if m.Retained {
		text += ":retained"
	}
	return text
}

// readDescription is the reverse of String. A cluster may be called what has colons.
func readDescription(text string) (m marks) {
	rest, ok := strings.CutPrefix(text, described)
	if !ok {
		return marks{}
	}
	rest, m.Retained = strings.CutSuffix(rest, ":retained")
	rest, m.Adopted = strings.CutSuffix(rest, ":adopted")
	parts := strings.Split(rest, ":")
	n := len(parts)
	if n < 3 {
		return marks{}
	}
	namespace, name, ok := strings.Cut(parts[n-1], "/")
	m.Owner = cloud.Owner{Cluster: strings.Join(parts[:n-2], ":"), UID: types.UID(parts[n-2]), Namespace: namespace, Name: name}
	if !ok || m.Owner.Cluster == "" || m.Owner.UID == "" {
		return marks{}
	}
	return m
}

// prefix begins the names of listeners and pools that were made here. Whose they
// are is said by the load balancer that they are in, so that it may change in one
// call.
const prefix = "herald-"

func made(name string) bool { return strings.HasPrefix(name, prefix) }
