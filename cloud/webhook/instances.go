package webhook

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// instanceAnnotation is what a node's machine is called, where it has no
// providerID.
const instanceAnnotation = "herald-lb.io/instance-id"

// Instances implements [cloud.Driver]. It asks nobody: the server is told what
// the node says of itself, and has to know its machines by that.
func (d *Driver) Instances(_ context.Context, nodes []*corev1.Node, want cloud.LBSpec) ([]cloud.Target, map[string]string, error) {
	var known []cloud.Target
	unknown := map[string]string{}
	for _, n := range nodes {
		addr, ok := nodeAddr(n, want)
		if !ok {
			unknown[n.Name] = "it has no address of the wanted type and family"
			continue
		}
		known = append(known, cloud.Target{Node: n.Name, Instance: cloud.Instance{ID: instanceOf(n), Name: n.Name}, Addr: addr})
	}
	return known, unknown, nil
}

func instanceOf(n *corev1.Node) string {
	if n.Spec.ProviderID != "" {
		return n.Spec.ProviderID
	}
	if id := n.Annotations[instanceAnnotation]; id != "" {
		return id
	}
	return n.Name
}

// nodeAddr returns the first internal address of a node at which it serves, if it is to
// be reached in private; else the first external one or, for nodes in a house of one's own
// have none, the first internal one as well.
func nodeAddr(n *corev1.Node, want cloud.LBSpec) (netip.Addr, bool) {
	types := []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP}
	if want.UsePrivateIP {
		types = types[1:]
	}
	for _, t := range types {
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == t && want.Serves(addr) {
				return addr.Unmap().WithZone(""), true
			}
		}
	}
	return netip.Addr{}, false
}
