package hetzner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// Labels by which a thing is known as ours. Cluster and UID say whose it is, the
// others are for people, and for finding again what belonged to a Service that was
// made anew. Lists go on in ports-1, ports-2 where 63 characters are too few.
const (
	labelPrefix    = "herald-lb.io/"
	labelCluster   = labelPrefix + "cluster"
	labelUID       = labelPrefix + "uid"
	labelNamespace = labelPrefix + "service-namespace"
	labelService   = labelPrefix + "service-name"
	labelTitle     = labelPrefix + "name"
	labelAdopted   = labelPrefix + "adopted"
	labelRetained  = labelPrefix + "retained"
	labelFamily    = labelPrefix + "family"
	labelPorts     = labelPrefix + "ports"
	labelTargets   = labelPrefix + "targets"

	// labelCCM is how hcloud-cloud-controller-manager marks a load balancer.
	labelCCM = "hcloud-ccm/service-uid"
)

const longestValue = 63

var validValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$`)

// labelValue returns s where a label may have it, and else the part of it that a
// label may have, with a hash of the whole.
func labelValue(s string) string {
	if len(s) <= longestValue && validValue.MatchString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	hash := hex.EncodeToString(sum[:5])
	clean := strings.Map(func(r rune) rune {
		if r < 128 && validValue.MatchString(string(r)) {
			return r
		}
		return '-'
	}, s)
	clean = strings.Trim(clean[:min(len(clean), longestValue-len(hash)-1)], "-")
	return strings.TrimPrefix(clean+"-"+hash, "-")
}

// marks is what our labels say of a load balancer.
type marks struct {
	owner   cloud.Owner
	title   string
	adopted bool
	// retained is whether it was kept on purpose when its Service went.
	retained bool
	ports    []int    // listen ports of the services that we made; ascending
	targets  []string // keys of the targets that we made; only where adopted
}

// ownerLabels are those by which everything of a Service is found.
func ownerLabels(o cloud.Owner) map[string]string {
	return map[string]string{
		labelCluster:   labelValue(o.Cluster),
		labelUID:       labelValue(string(o.UID)),
		labelNamespace: labelValue(o.Namespace),
		labelService:   labelValue(o.Name),
	}
}

// selector finds what belongs to a Service, or to a cluster if o has no UID.
func selector(o cloud.Owner) string {
	s := labelCluster + "=" + labelValue(o.Cluster)
	if o.UID != "" {
		s += "," + labelUID + "=" + labelValue(string(o.UID))
	}
	return s
}

// owned is whether labels name o.
func owned(labels map[string]string, o cloud.Owner) bool {
	return labels[labelCluster] == labelValue(o.Cluster) && labels[labelUID] == labelValue(string(o.UID))
}

// ownerOf returns whose marks are among labels; zero for nobody's, also if they are
// but some of ours.
func ownerOf(labels map[string]string) cloud.Owner {
	if labels[labelCluster] == "" || labels[labelUID] == "" {
		return cloud.Owner{}
	}
	return cloud.Owner{Cluster: labels[labelCluster], UID: types.UID(labels[labelUID]), Namespace: labels[labelNamespace], Name: labels[labelService]}
}

// labels is m as labels; none if nobody owns it.
func (m marks) labels() map[string]string {
	if m.owner == (cloud.Owner{}) {
		return map[string]string{}
	}
	l := ownerLabels(m.owner)
	if m.title != "" {
		l[labelTitle] = labelValue(m.title)
	}
	if m.adopted {
		l[labelAdopted] = "true"
		putList(l, labelTargets, slices.Sorted(slices.Values(m.targets)))
	}
	if m.retained {
		l[labelRetained] = "true"
	}
	putList(l, labelPorts, ranges(m.ports))
	return l
}

// marksOf reads what labels say.
func marksOf(labels map[string]string) marks {
	return marks{
		owner:   ownerOf(labels),
		title:   labels[labelTitle],
		adopted: labels[labelAdopted] == "true", retained: labels[labelRetained] == "true",
		ports:   portsOf(list(labels, labelPorts)),
		targets: list(labels, labelTargets),
	}
}

// relabel returns labels with ours replaced by those of m.
func relabel(labels map[string]string, m marks) map[string]string {
	next := maps.Clone(labels)
	maps.DeleteFunc(next, func(key, value string) bool {
		// What the other controller has marked for this Service is ours now; it would
		// go on changing it.
		return strings.HasPrefix(key, labelPrefix) || m.owner.UID != "" && key == labelCCM && value == string(m.owner.UID)
	})
	if next == nil {
		next = map[string]string{}
	}
	maps.Copy(next, m.labels())
	return next
}

// putList writes items under key, and under key-1, key-2 what has no room there.
func putList(labels map[string]string, key string, items []string) {
	name, value := key, ""
	for part, item := 1, 0; item < len(items); item++ {
		if value != "" && len(value)+1+len(items[item]) > longestValue {
			labels[name] = value
			name, value = key+"-"+strconv.Itoa(part), ""
			part++
		}
		if value != "" {
			value += "."
		}
		value += items[item]
	}
	if value != "" {
		labels[name] = value
	}
}

func list(labels map[string]string, key string) (items []string) {
	for part, name := 1, key; labels[name] != ""; part++ {
		items = append(items, strings.Split(labels[name], ".")...)
		name = key + "-" + strconv.Itoa(part)
	}
	return items
}

// ranges writes ascending numbers, runs of them as first-last.
func ranges(numbers []int) (items []string) {
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		item := strconv.Itoa(numbers[i])
		if j > i {
			item += "-" + strconv.Itoa(numbers[j])
		}
		items = append(items, item)
		i = j + 1
	}
	return items
}

// portsOf reads ranges. What people have made unreadable names no port: what is
// not marked is left alone.
func portsOf(items []string) (ports []int) {
	for _, item := range items {
		first, last, found := strings.Cut(item, "-")
		if !found {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if cmp.Or(errA, errB) != nil || a < 1 || b > 65535 {
			continue
		}
		for p := a; p <= b; p++ {
			ports = append(ports, p)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// key is how a label names a target: a server's ID, an IPv4 address with dashes, or
// an IPv6 address in 32 hexadecimal digits. A label may hold no colon.
func (t target) key() string {
	switch {
	case t.server != 0:
		return strconv.FormatInt(t.server, 10)
	case t.ip.Is4():
		return strings.ReplaceAll(t.ip.String(), ".", "-")
	}
	b := t.ip.As16()
	return hex.EncodeToString(b[:])
}

// A target is whither a load balancer sends traffic: a server, or an address.
type target struct {
	server  int64
	ip      netip.Addr
	private bool // over the network; of servers only
}

func (t target) String() string {
	switch {
	case t.server == 0:
		return "address " + t.ip.String()
	case t.private:
		return "server " + strconv.FormatInt(t.server, 10) + " over the network"
	}
	return "server " + strconv.FormatInt(t.server, 10)
}
