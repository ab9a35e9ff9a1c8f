//go:build netns

package nft

import (
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// TestPodsAsClients asks a server that wants no SNAT, as a ClusterIP is.
func TestPodsAsClients(t *testing.T) {
	l := newLab(t)
	l.apply(t, kerneltest.Pods(steer.Add, "10.244.1.0/24"), kerneltest.Pods(steer.Add, "fd10:244:1::/64"))
	plain := steer.Server{Scheduler: "rr"}
	each(t, func(t *testing.T, w world, network string) {
		l.node.Serve(t, network, at(w.node, 8080))
		if network == "tcp" {
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
			for port, target := range map[uint16]string{81: w.targets[0], 82: w.targets[2], 83: w.node} {
				l.set(t, w.vip, port, plain, target)
			}
			l.set(t, w.vip, 84, steer.Server{Scheduler: "rr", SNAT: true}, w.targets[2])
		}
		tests := []struct {
			name string
			who  *nettest.Namespace
			port uint16
			want string // whom the endpoint sees; "" for any address of the node
		}{
			{"a pod that asks another of this node gets SNAT", l.pods[1], 81, w.gateway},
			{"a pod that asks itself gets SNAT", l.pods[0], 81, w.gateway},
			{"a pod that asks one of another node keeps its address", l.pods[0], 82, w.targets[0]},
			{"a pod that asks the node keeps its address", l.pods[0], 83, w.targets[0]},
			{"a pod gets SNAT where the server wants it", l.pods[0], 84, map[string]string{"v4": "172.16.0.1", "v6": "fd16::1"}[w.name]},
			{"the node asks a pod of its own", l.node, 81, w.gateway},
			{"the node asks a pod of another node", l.node, 82, ""},
			{"the node asks itself", l.node, 83, ""},
			{"a client keeps its address", l.client, 81, w.client},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) { ask(t, tt.who, network, at(w.vip, tt.port), 2, tt.want) })
		}
	})
}

// TestOthersNATIsLeftAlone leads by a table of somebody else's, with Herald's
// prefixes in place: what Herald has not led gets no SNAT.
func TestOthersNATIsLeftAlone(t *testing.T) {
	l := newLab(t)
	l.apply(t, kerneltest.Pods(steer.Add, "10.244.1.0/24"))
	l.node.Run(t, "nft", `table ip proxy { chain nat { type nat hook prerouting priority dstnat;
		ip daddr 10.96.0.9 dnat to 10.244.1.10; fib daddr type local tcp dport 30099 dnat to 10.244.1.10:8080; }; }`)
	// Without SNAT there is an answer only where the bridge tracks connections.
	for _, addr := range []string{"10.96.0.9:8080", "10.244.1.1:30099"} {
		if r, err := l.pods[1].Get("tcp", addr); err == nil && r.Peer.String() != "10.244.1.11" {
			t.Errorf("Get(%s) = %v, want the pod's own address", addr, r)
		}
	}
}
