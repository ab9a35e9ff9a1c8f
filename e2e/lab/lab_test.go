package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestLab tries the lab itself, without Herald.
func TestLab(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("REQUIRE_NETNS") == "" {
		t.Skip("making network namespaces takes root; REQUIRE_NETNS=1 makes this a failure")
	}
	prefix := fmt.Sprintf("herald-%d-t-", os.Getpid())
	cp := &ControlPlane{prefix: prefix, run: filepath.Join(t.TempDir(), "run")}
	t.Cleanup(func() {
		if err := cp.Close(); err != nil {
			t.Errorf("closing the control plane: %v", err)
		}
		if left := glob("/run/netns/" + prefix + "*"); len(left) > 0 {
			t.Errorf("namespaces stayed: %v", left)
		}
	})
	if err := cp.start(t.Context()); err != nil {
		t.Fatalf("starting the control plane: %v", err)
	}
	t.Run("nodes reach the pods of other nodes", func(t *testing.T) { testPods(t, cp) })
	t.Run("hosts answer for the addresses they have", func(t *testing.T) { testWhoHas(t, cp) })
	t.Run("a watch sees changes of Herald's table and of no other", func(t *testing.T) { testWatch(t, cp) })
	t.Run("ready pods, and only they, are ready endpoints", func(t *testing.T) { testEndpoints(t, cp) })
}

func testPods(t *testing.T, cp *ControlPlane) {
	l := cp.Start(t, Options{Idle: true})
	p := l.Pod(1, "web", PodSpec{})
	for _, n := range l.Nodes() {
		for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
			target := netip.AddrPortFrom(addr, 8080)
			body, err := n.Get("http://" + target.String())
			if err != nil || PodOf(body) != "web" {
				t.Errorf("%s asks %s over TCP: %q, %v", n.Name, target, body, err)
			}
			body, err = n.UDP(target)
			if err != nil || PodOf(body) != "web" {
				t.Errorf("%s asks %s over UDP: %q, %v", n.Name, target, body, err)
			}
		}
	}
	if body, err := l.Client.GetWithin("http://"+p.Addr4.String()+":8080", patience/10); err == nil {
		t.Errorf("the client reaches a pod: %q", body)
	}
	if out, err := l.Far.Exec("ping", "-c1", "-W2", "192.168.50.11"); err != nil {
		t.Errorf("the far host does not reach a node: %v: %s", err, out)
	}
}

func testWhoHas(t *testing.T, cp *ControlPlane) {
	l := cp.Start(t, Options{Idle: true})
	for _, tt := range []struct{ one, two, free string }{
		{"192.168.50.11", "192.168.50.12", "192.168.50.240"},
		{"fd50::11", "fd50::12", "fd50::240"},
	} {
		one, two, free := netip.MustParseAddr(tt.one), netip.MustParseAddr(tt.two), netip.MustParseAddr(tt.free)
		if owner, err := l.Owner(two); err != nil || owner != l.Node(2) {
			t.Errorf("owner of %s is %v, %v", two, owner, err)
		}
		if err := l.Silent(free); err != nil {
			t.Errorf("nobody has %s, but %v", free, err)
		}
		if err := l.Silent(free, one); err == nil {
			t.Errorf("node 1 has %s, but it seems silent", one)
		}
	}
}

func testWatch(t *testing.T, cp *ControlPlane) {
	l := cp.Start(t, Options{Idle: true, Nodes: 1})
	change := func(table string) string {
		w := l.Node(1).Watch()
		if _, err := l.Node(1).Exec("nft", "add table inet "+table+"; add set inet "+table+" s { type inet_service; }"); err != nil {
			t.Fatal(err)
		}
		return w.Stop()
	}
	if seen := change("other"); seen != "" {
		t.Errorf("the watch says %q of another table", seen)
	}
	if seen := change("herald"); !strings.Contains(seen, "add set inet herald s") {
		t.Errorf("the watch says %q of Herald's table", seen)
	}
}

func testEndpoints(t *testing.T, cp *ControlPlane) {
	l := cp.Start(t, Options{Idle: true, Nodes: 1})
	p := l.Pod(1, "web", PodSpec{Labels: App("web"), Unready: true})
	l.Apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}")
	ready := func(want bool) func() error {
		return func() error {
			list, err := l.API().DiscoveryV1().EndpointSlices(l.Namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, s := range list.Items {
				for _, e := range s.Endpoints {
					if *e.Conditions.Ready == want {
						return nil
					}
				}
			}
			return fmt.Errorf("no endpoint with ready: %t", want)
		}
	}
	l.Eventually("the endpoint is not ready", ready(false))
	p.Ready(true)
	l.Eventually("the endpoint is ready", ready(true))
}

func TestMentions(t *testing.T) {
	tests := []struct {
		name string
		text string
		want bool
	}{
		{"an address with a port", "-a -t 192.0.2.4:80 -r", true},
		{"an address at the end", "via 192.0.2.4", true},
		{"a longer address", "via 192.0.2.42", false},
		{"a longer address, then the address", "192.0.2.42 192.0.2.4", true},
		{"nothing", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mentions(tt.text, netip.MustParseAddr("192.0.2.4")); got != tt.want {
				t.Errorf("mentions(%q) = %t", tt.text, got)
			}
		})
	}
}

func TestHeraldTablesLeavesOutForeignTables(t *testing.T) {
	listing := "table ip filter {\n\tchain a { }\n}\ntable inet herald {\n\tset b { elements = { z, y } }\n}\n# Warning: iptables-nft\ntable inet herald-not {\n}\n"
	got := heraldTables(listing)
	if !strings.Contains(got, "inet herald {") || strings.Contains(got, "chain a") || strings.Contains(got, "iptables") || strings.Contains(got, "herald-not") {
		t.Errorf("heraldTables() = %q", got)
	}
	if swapped := heraldTables(strings.Replace(listing, "z, y", "y, z", 1)); swapped != got {
		t.Errorf("the order of elements matters:\n%s\n%s", got, swapped)
	}
}

func TestARPFrames(t *testing.T) {
	l4 := netip.MustParseAddr("192.0.2.1")
	me, you := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	frame := arpRequest(you, l4, netip.MustParseAddr("192.0.2.9"))
	if len(frame) != arpLen {
		t.Fatalf("a request of %d bytes, want %d", len(frame), arpLen)
	}
	if _, _, ok := arpReply(frame, me); ok {
		t.Error("a request is taken for a reply")
	}
	copy(frame, me)
	frame[21] = 2
	addr, mac, ok := arpReply(frame, me)
	if !ok || addr != l4 || mac.String() != "02:00:00:00:00:02" {
		t.Errorf("arpReply() = %v, %v, %t", addr, mac, ok)
	}
	if _, _, ok := arpReply(frame, you); ok {
		t.Error("a reply to somebody else is taken")
	}
	if _, _, ok := arpReply(frame[:arpLen-1], me); ok {
		t.Error("a reply that is cut short is taken")
	}
}

func TestOrphaned(t *testing.T) {
	for name, want := range map[string]bool{
		fmt.Sprintf("herald-%d-n1", os.Getpid()): false,
		"herald-4194999-n1":                      true, // above pid_max
		"herald-demo-n1":                         false,
	} {
		if got := orphaned(name); got != want {
			t.Errorf("orphaned(%q) = %t", name, got)
		}
	}
}
