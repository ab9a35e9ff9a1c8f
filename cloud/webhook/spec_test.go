package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

var web = cloud.Owner{Cluster: "c1", UID: "6f3c2f6e-0001", Namespace: "shop", Name: "web"}

func webSpec() cloud.LBSpec {
	return cloud.LBSpec{
		Owner:    web,
		Families: []corev1.IPFamily{corev1.IPv4Protocol},
		Listeners: []cloud.Listener{{Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080,
			Health: cloud.HealthCheck{HTTP: true, Port: 10256, Path: "/healthz", Interval: 15 * time.Second, Timeout: 10 * time.Second, Retries: 3}}},
		Targets: []cloud.Target{{Node: "n1", Instance: cloud.Instance{ID: "i-1", Name: "n1"}, Addr: netip.MustParseAddr("10.0.0.1")}},
	}
}

// randomSpec returns any load balancer that the sample can make.
func randomSpec(rnd *rand.Rand, uid string) cloud.LBSpec {
	pick := func(all ...string) string { return all[rnd.IntN(len(all))] }
	w := cloud.LBSpec{
		Owner: cloud.Owner{Cluster: "c1", UID: types.UID(uid), Namespace: "ns", Name: "svc"},
		Title: pick("", "Shop"), Type: pick("", "small"), Location: pick("", "fsn1", "hel1"), Network: pick("", "lan"),
		UsePrivateIP: rnd.IntN(2) == 0, Internal: rnd.IntN(4) == 0,
		Families:    []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}[:1+rnd.IntN(2)],
		Algorithm:   pick("", "RoundRobin"),
		IdleTimeout: time.Duration(rnd.IntN(3)) * 1500 * time.Millisecond, AllowRecreate: rnd.IntN(2) == 0,
	}
	for i := range rnd.IntN(4) {
		w.Listeners = append(w.Listeners, cloud.Listener{Protocol: corev1.ProtocolTCP, Port: int32(80 + i), NodePort: int32(30000 + rnd.IntN(9)),
			Proxy:  cloud.ProxyProtocol(pick("", "v1", "v2")),
			Health: cloud.HealthCheck{HTTP: rnd.IntN(2) == 0, Port: 10256, Path: pick("/", "/healthz"), Interval: time.Duration(rnd.IntN(9)) * time.Second, Retries: rnd.IntN(3)}})
	}
	for i := range rnd.IntN(4) {
		name := fmt.Sprintf("n%d", i)
		w.Targets = append(w.Targets, cloud.Target{Node: name, Instance: cloud.Instance{ID: name}, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(9))})})
	}
	if rnd.IntN(2) == 0 {
		w.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	return w
}
