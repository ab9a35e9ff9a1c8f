package ccm

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cloudprovider "k8s.io/cloud-provider"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

func init() {
	cloud.Register("made-up", func(cloud.Config, cloud.Env) (cloud.Driver, error) { return cloudtest.NewFake(), nil })
	Register("made-up")
}

func testLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// A provider is made without a word to anybody, and without a file (C14).
func TestFactory(t *testing.T) {
	for _, text := range []string{"", "provider: made-up\nclassOnly: true"} {
		var p cloudprovider.Interface
		var err error
		if text == "" {
			p, err = cloudprovider.GetCloudProvider("herald-made-up", nil)
		} else {
			p, err = cloudprovider.GetCloudProvider("herald-made-up", strings.NewReader(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, balances := p.LoadBalancer()
		_, instances := p.InstancesV2()
		if balances != (text == "") || instances || !p.HasClusterID() || p.ProviderName() != "herald-made-up" {
			t.Errorf("with %q: %+v", text, p)
		}
	}
	if _, err := cloudprovider.GetCloudProvider("herald-made-up", strings.NewReader("provider: other")); err == nil {
		t.Error("another provider's file was taken")
	}
}

func TestWhichNodes(t *testing.T) {
	now := metav1.Now()
	tests := []struct {
		name string
		edit func(*corev1.Node)
		want bool
	}{
		{"a node", func(*corev1.Node) {}, true},
		{"one that is not ready: its health is checked", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}, true},
		{"one that is cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, true},
		{"one that is to be left out", func(n *corev1.Node) { n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""} }, false},
		{"one that the autoscaler takes away", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: goingAway}} }, false},
		{"one that is being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, false},
	}
	for _, tt := range tests {
		n := cloudtest.Node("n1", "10.0.0.1")
		tt.edit(n)
		if got := eligible(n); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// What changes every few seconds at each node is nobody's concern (F9, F10).
func TestWhatMattersOfANode(t *testing.T) {
	tests := []struct {
		name string
		edit func(*corev1.Node)
		want bool
	}{
		{"its heartbeat", func(n *corev1.Node) {
			n.ResourceVersion, n.Status.Conditions = "2", []corev1.NodeCondition{{Type: corev1.NodeReady}}
		}, false},
		{"its images", func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{}} }, false},
		{"its address", func(n *corev1.Node) { n.Status.Addresses[0].Address = "10.0.0.9" }, true},
		{"its machine", func(n *corev1.Node) { n.Spec.ProviderID = "hcloud://7" }, true},
		{"its machine, by annotation", func(n *corev1.Node) { n.Annotations = map[string]string{cloud.InstanceAnnotation: "7"} }, true},
		{"its labels", func(n *corev1.Node) { n.Labels = map[string]string{"pool": "front"} }, true},
		{"whether it is to be left out", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: goingAway}} }, true},
	}
	for _, tt := range tests {
		was := cloudtest.Node("n1", "10.0.0.1")
		is := was.DeepCopy()
		tt.edit(is)
		if got := matters(was, is); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// A burst of changes is one pass when it is over, and one that does not end a pass
// every ten seconds (T3).
func TestBurst(t *testing.T) {
	for _, tt := range []struct {
		name          string
		every, lasts  time.Duration
		fewest, calls int64
	}{
		{"ten at once", 10 * time.Millisecond, 100 * time.Millisecond, 1, 1},
		{"for a minute", 500 * time.Millisecond, time.Minute, 5, 7},
		{"each on its own", 3 * time.Second, 9 * time.Second, 3, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				b := newBurst(nodeQuiet, nodeMax, func() { calls.Add(1) })
				ctx, cancel := context.WithCancel(t.Context())
				go b.run(ctx)
				for end := time.Now().Add(tt.lasts); time.Now().Before(end); time.Sleep(tt.every) {
					b.ring()
				}
				time.Sleep(time.Minute)
				if n := calls.Load(); n < tt.fewest || n > tt.calls {
					t.Errorf("%d passes, not %d to %d", n, tt.fewest, tt.calls)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// The two hosts never serve one Service both (C8).
func TestWhoServes(t *testing.T) {
	class := func(c string) *string { return &c }
	tests := []struct {
		name      string
		class     *string
		finalizer string
		classOnly bool
		loop, all bool // whether Herald's loop serves it, and whether drift looks at it
	}{
		{"without a class, new", nil, "", false, false, false},
		{"without a class, taken", nil, "service.kubernetes.io/load-balancer-cleanup", false, false, true},
		{"without a class, taken by another controller", nil, "service.kubernetes.io/load-balancer-cleanup", true, false, false},
		{"of Herald's class, new", class("herald-lb.io/made-up"), "", false, true, false},
		{"of Herald's class, taken", class("herald-lb.io/made-up"), cloud.Finalizer + "-made-up", false, true, true},
		{"of Herald's class for pools", class("herald-lb.io/herald"), "", false, false, false},
		{"of another's class", class("example.com/lb"), "", false, false, false},
	}
	for _, tt := range tests {
		p, err := New(strings.NewReader(fmt.Sprintf("provider: made-up\nclassOnly: %t", tt.classOnly)), "", testLog())
		if err != nil {
			t.Fatal(err)
		}
		svc := cloudtest.Service("web", "u1", 80)
		svc.Spec.LoadBalancerClass = tt.class
		if tt.finalizer != "" {
			svc.Finalizers = []string{tt.finalizer}
		}
		h := &host{Provider: p}
		if h.ours(svc) != tt.loop || h.served(svc) != tt.all {
			t.Errorf("%s: loop %t, drift %t", tt.name, h.ours(svc), h.served(svc))
		}
	}
}
