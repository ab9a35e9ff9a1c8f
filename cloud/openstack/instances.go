package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// instanceID is the annotation that names a node's server where its providerID does
// not.
const instanceID = "herald-lb.io/instance-id"

// Instances implements [cloud.Driver]. Octavia needs a node's address and nothing
// else, which the node says itself: nobody is asked. A node that is said to be in
// another cloud has none here.
func (d *driver) Instances(_ context.Context, nodes []*corev1.Node, want cloud.LBSpec) (known []cloud.Target, unknown map[string]string, err error) {
	unknown = map[string]string{}
	for _, n := range nodes {
		id, why := instanceOf(n)
		addr := internalIP(n, want)
		switch {
		case why != "":
			unknown[n.Name] = why
		case !addr.IsValid():
			unknown[n.Name] = fmt.Sprintf("it has no InternalIP for a Service of %v", want.NodeFamilies)
		default:
			known = append(known, cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: id, Name: n.Name}, Addr: addr})
		}
	}
	slices.SortFunc(known, func(a, b cloud.Target) int { return cmp.Compare(a.Node, b.Node) })
	return known, unknown, nil
}

// instanceOf returns the ID of a node's server, if there is one, or why it cannot be
// of this cloud. A providerID is openstack:///ID or openstack://region/ID.
func instanceOf(n *corev1.Node) (id, why string) {
	if path, ok := strings.CutPrefix(n.Spec.ProviderID, "openstack://"); ok {
		return path[strings.LastIndex(path, "/")+1:], ""
	}
	if id := n.Annotations[instanceID]; id != "" {
		return id, ""
	}
	if n.Spec.ProviderID != "" {
		return "", "its providerID " + n.Spec.ProviderID + " is not openstack:///ID, and it has no annotation " + instanceID
	}
	return "", ""
}

// internalIP is a node's first one at which it serves: of the family that the cluster
// prefers, if the Service has that.
func internalIP(n *corev1.Node, want cloud.LBSpec) netip.Addr {
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && want.Serves(addr) {
			return addr.Unmap()
		}
	}
	return netip.Addr{}
}
