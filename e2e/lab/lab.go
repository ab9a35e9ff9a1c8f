package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// T is what a Lab needs of a testing.TB.
type T interface {
	Helper()
	Name() string
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Options say how a Lab differs from the usual one.
type Options struct {
	Nodes int    // 3 unless said otherwise
	Steer string // --steer of the speakers; auto unless said otherwise
	// NoNodes is for stories of the controller: there are no nodes, and
	// so no speakers. They are skipped in User-Mode Linux.
	NoNodes bool
	// Controllers is how many replicas there are; 1 unless said otherwise.
	Controllers int
	// Idle labs start neither controllers nor speakers.
	Idle bool
	// Namespace is the Kubernetes namespace to use. The usual one is made for
	// the lab, and deleted with it.
	Namespace string
	// Flags are given to controllers and speakers beside their usual ones,
	// SpeakerFlags to speakers only.
	Flags, SpeakerFlags []string
}

// A Lab is one story's network and cluster.
type Lab struct {
	Client      *Host     // 192.168.50.100
	Router      *Host     // 192.168.50.1
	Far         *Host     // 198.51.100.7, behind the router
	Controller  *Daemon   // the first of Controllers
	Controllers []*Daemon // replicas, one of which leads
	Namespace   string    // the Kubernetes namespace that the story plays in

	t       T
	ctx     context.Context
	cp      *ControlPlane
	options Options
	name    string // begins the names of files
	net     *network
	nodes   []*Node
	spaces  []string // Kubernetes namespaces that were made for it
	pods    int      // that were ever started
	running []*Pod
	clouds  []*Daemon
	beats   sync.WaitGroup
	rest    context.CancelFunc // ends the beats
}

// Start builds a Lab on the control plane and takes it down when t ends.
func (cp *ControlPlane) Start(t T, o Options) *Lab {
	t.Helper()
	if s, ok := t.(interface{ Skip(...any) }); ok && o.NoNodes && InGuest() {
		s.Skip("it has no nodes, so that their kernel does not matter")
	}
	if o.Nodes == 0 && !o.NoNodes {
		o.Nodes = 3
	}
	o.Controllers = max(o.Controllers, 1)
	if o.Steer == "" {
		o.Steer = "auto"
	}
	l := &Lab{t: t, ctx: context.WithoutCancel(t.Context()), cp: cp, options: o, Namespace: o.Namespace}
	l.name = cp.nextName()
	t.Cleanup(l.close)
	if l.Namespace == "" {
		l.Namespace = l.name
	}
	if err := l.build(); err != nil {
		t.Fatalf("building the lab: %v", err)
	}
	if !o.Idle {
		l.StartHerald()
	}
	return l
}

func (l *Lab) build() (err error) {
	if l.net, err = newNetwork(l.cp.prefix, l.cp.hub, l.options.Nodes); err != nil {
		return err
	}
	l.Client, l.Router, l.Far = l.net.client, l.net.router, l.net.far
	for i := range l.options.Controllers {
		l.Controllers = append(l.Controllers, l.newController(i+1))
	}
	l.Controller = l.Controllers[0]
	for i, h := range l.net.nodes {
		n := &Node{Host: h, Name: fmt.Sprintf("n%d", i+1), lab: l, index: i + 1}
		n.Speaker = l.newSpeaker(n)
		l.nodes = append(l.nodes, n)
		if err := os.MkdirAll(n.StateDir(), 0o755); err != nil {
			return err
		}
	}
	return l.register()
}

// register makes the story's namespace and nodes known to the API, and keeps
// the nodes alive as their kubelets would.
func (l *Lab) register() error {
	if l.options.Namespace == "" {
		if err := l.newNamespace(l.Namespace, nil); err != nil {
			return err
		}
	}
	for _, n := range l.nodes {
		if err := l.cp.API.createNode(l.ctx, n.object()); err != nil {
			return err
		}
	}
	var ctx context.Context
	ctx, l.rest = context.WithCancel(l.ctx)
	l.beats.Go(func() { l.beat(ctx) })
	return nil
}

// beat renews the nodes' leases until ctx ends.
func (l *Lab) beat(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		for _, n := range l.nodes {
			if err := l.cp.API.renewNode(ctx, n.Name); err != nil && ctx.Err() == nil {
				l.t.Logf("renewing the lease of %s: %v", n.Name, err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// StartHerald starts the controllers and all speakers, and waits for them.
func (l *Lab) StartHerald() {
	l.t.Helper()
	all := slices.Clone(l.Controllers)
	for _, n := range l.nodes {
		all = append(all, n.Speaker)
	}
	for _, d := range all {
		d.Start()
	}
	for _, d := range all {
		d.WaitReady()
	}
}

// Node returns node i; the first is 1.
func (l *Lab) Node(i int) *Node { return l.nodes[i-1] }

// Nodes returns all nodes.
func (l *Lab) Nodes() []*Node { return l.nodes }

// Owner returns the node that answers for addr on the segment.
func (l *Lab) Owner(addr netip.Addr) (*Node, error) {
	mac, err := l.Client.Find(addr)
	if err != nil {
		return nil, err
	}
	for _, n := range l.nodes {
		if n.mac.String() == mac.String() {
			return n, nil
		}
	}
	return nil, fmt.Errorf("asking for %s: answered by %s, which is none of the nodes", addr, mac)
}

// Eventually waits until cond has nothing to complain of. What names it.
func (l *Lab) Eventually(what string, cond func() error) {
	l.t.Helper()
	l.Within(settleWithin, what, cond)
}

// Within is Eventually for what may take longer.
func (l *Lab) Within(limit time.Duration, what string, cond func() error) {
	l.t.Helper()
	if err := poll(l.t.Context(), limit, cond); err != nil {
		l.t.Fatalf("waiting until %s: %v", what, err)
	}
}

// close takes the lab down, and says what stayed.
func (l *Lab) close() {
	l.t.Helper()
	if l.t.Failed() {
		l.dump()
	}
	if l.rest != nil {
		l.rest()
		l.beats.Wait()
	}
	l.endDaemons()
	for _, p := range l.running {
		p.server.close()
	}
	errs := []error{l.cp.API.wipe(l.ctx, l.Namespace, l.spaces)}
	for _, n := range l.nodes {
		errs = append(errs, unmountBelow(n.StateDir()), os.RemoveAll(n.StateDir()))
	}
	if l.net != nil {
		errs = append(errs, l.net.close())
	}
	if err := errors.Join(errs...); err != nil {
		l.t.Errorf("taking the lab down: %v", err)
	}
}

// endDaemons ends every program, and looks whether one ended in a panic.
func (l *Lab) endDaemons() {
	l.t.Helper()
	for _, d := range l.daemons() {
		d.proc.kill()
		if d.panicked() {
			l.t.Errorf("%s has panicked:\n%s", d.name, tail(d.LogFile(), 8192))
		}
	}
}

// daemons returns the programs that were ever started.
func (l *Lab) daemons() []*Daemon {
	var ds []*Daemon
	for _, c := range l.Controllers {
		if c.proc != nil {
			ds = append(ds, c)
		}
	}
	for _, c := range l.clouds {
		if c.proc != nil {
			ds = append(ds, c)
		}
	}
	for _, n := range l.nodes {
		if n.Speaker.proc != nil {
			ds = append(ds, n.Speaker)
		}
		if n.KubeProxy != nil {
			ds = append(ds, n.KubeProxy)
		}
	}
	return ds
}
