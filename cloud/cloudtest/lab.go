package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// A Lab is a cloud with a driver for it, and hands on both.
type Lab struct {
	Driver cloud.Driver
	// Open makes a driver that remembers nothing; nil where there is nothing to remember.
	Open func() cloud.Driver
	// Edits are how many calls some edits may take that change something, by the name that
	// Promises has for them, where a cloud needs more of them than others.
	Edits map[string]int
	// Slow is whether calls take long, as those of real servers do.
	Slow  bool
	Calls func() (reads, writes int)
	All   func() []cloud.Found // what there is, whosever it is
	// Fault sets what is asked before each call of the API, and after each that has
	// succeeded; what it returns is the answer.
	Fault func(func(call string, after bool) error)
	// Hide has one read be answered as if there was nothing, after some that are answered
	// well; after none of less than zero.
	Hide func(after int)
	// Add makes a load balancer as somebody else would, Drop deletes one; Poke takes a
	// target away, or a listener, as people do in a console.
	Add  func(name string) (id string)
	Drop func(id string)
	Poke func(id string)
	// Addresses are those that there are, whosever they are; AddAddress reserves one as
	// somebody else would, Reroute has one be routed to a machine as people do. They are nil
	// where there are none.
	Addresses  func() []cloud.FoundAddress
	AddAddress func(name string) cloud.FoundAddress
	Remarks    string // why an address cannot be given to another Service; "" if it can
	Reroute    func(id string, to cloud.Instance)
	// Node makes the i-th node, one that the cloud knows.
	Node func(i int) *corev1.Node
}

// FakeLab is a lab with a cloud that is made up.
func FakeLab(*testing.T) *Lab {
	f := NewFake()
	f.Busy = 2 * time.Second
	return &Lab{
		Driver: f, Calls: f.Calls, All: f.All,
		Fault: func(fault func(string, bool) error) { f.Fault = fault }, Hide: f.Hide,
		Add:  func(name string) string { return f.Add(name, cloud.Owner{}) },
		Drop: f.Drop,
		Poke: func(id string) {
			f.Edit(id, func(_ *cloud.Found, s *cloud.LBSpec) { s.Targets = nil })
		},
		Addresses: f.Addresses, AddAddress: f.AddAddress, Reroute: f.Reroute,
		Node: func(i int) *corev1.Node { return Node(fmt.Sprintf("n%d", i), fmt.Sprintf("10.0.0.%d", i)) },
	}
}

// Node is a node with an address.
func Node(name, addr string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}},
	}
}

// Service is one of type LoadBalancer with ports of TCP.
func Service(name string, uid types.UID, ports ...int32) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid, Annotations: map[string]string{}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
	}
	for _, p := range ports {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Protocol: corev1.ProtocolTCP, Port: p, NodePort: 30000 + p})
	}
	return svc
}

// Cluster is the ID of the cluster of a World.
const Cluster = "11111111-2222-3333-4444-555555555555"

// A World is a lab with an engine, and the Services there are.
type World struct {
	*Lab
	*cloud.Engine

	mu     sync.Mutex
	live   map[string]*corev1.Service
	Events []string // reason and text

	machines map[int]cloud.Target // of nodes, as the driver has said it once
}

// NewWorld makes a world of a lab.
func NewWorld(lab *Lab) *World {
	w := &World{Lab: lab, live: map[string]*corev1.Service{}, machines: map[int]cloud.Target{}}
	w.Restart()
	return w
}

// Config is that of a world's engine.
func Config() cloud.Config {
	c, err := cloud.ParseConfig(strings.NewReader("provider: test"), "")
	if err != nil {
		panic(err) // the defaults are wrong
	}
	return c
}

// Restart makes an engine that remembers nothing.
func (w *World) Restart() {
	c := Config()
	if w.Engine != nil {
		c = w.Engine.Config
	}
	if w.Open != nil {
		w.Lab.Driver = w.Open()
	}
	w.Engine = &cloud.Engine{Driver: w.Lab.Driver, Config: c, Cluster: Cluster, Live: w.get, Tell: w.hear, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func (w *World) get(_ context.Context, namespace, name string) (*corev1.Service, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live[namespace+"/"+name], nil
}

// Put has the API server have a Service.
func (w *World) Put(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live[svc.Namespace+"/"+svc.Name] = svc
}

// Remove has the API server not have it any more.
func (w *World) Remove(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.live, svc.Namespace+"/"+svc.Name)
}

func (w *World) hear(_ *corev1.Service, _ bool, reason, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Events = append(w.Events, reason+": "+text)
}

// Heard is how many Events of a reason there were.
func (w *World) Heard(reason string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.Events {
		if strings.HasPrefix(e, reason+":") {
			n++
		}
	}
	return n
}

// Nodes are the first n.
func (w *World) Nodes(n int) (all []*corev1.Node) {
	for i := range n {
		all = append(all, w.Node(i+1))
	}
	return all
}

// Serve ensures until it succeeds, as a controller would, and returns the status.
func (w *World) Serve(t *testing.T, svc *corev1.Service, nodes []*corev1.Node) *corev1.LoadBalancerStatus {
	t.Helper()
	w.Put(svc)
	st, err := Until(t, func() (*corev1.LoadBalancerStatus, error) { return w.Ensure(t.Context(), svc, nodes) })
	if err != nil {
		t.Fatalf("Ensure(%s/%s) = %v", svc.Namespace, svc.Name, err)
	}
	svc.Status.LoadBalancer = *st
	return st
}

// End deletes until it succeeds.
func (w *World) End(t *testing.T, svc *corev1.Service) {
	t.Helper()
	if _, err := Until(t, func() (any, error) { return nil, w.Delete(t.Context(), svc) }); err != nil {
		t.Fatalf("Delete(%s/%s) = %v", svc.Namespace, svc.Name, err)
	}
	w.Remove(svc)
}

// Until tries again what fails, as often as a controller would within minutes.
func Until[T any](t *testing.T, try func() (T, error)) (v T, err error) {
	t.Helper()
	for range 20 {
		if v, err = try(); err == nil || cloud.Is(err, cloud.Terminal) {
			return v, err
		}
		wait := 5 * time.Second
		var why *cloud.Error
		if errors.As(err, &why) && why.After > 0 {
			wait = min(why.After, time.Minute)
		}
		time.Sleep(wait)
	}
	return v, err
}

// Owned are the load balancers and addresses that are a Service's.
func (w *World) Owned(svc *corev1.Service) []cloud.Found {
	return slices.DeleteFunc(w.All(), func(f cloud.Found) bool { return f.Owner.UID != svc.UID })
}
