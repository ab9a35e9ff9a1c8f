package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/arp"
	"github.com/herald-lb/herald/speaker/bfd"
	"github.com/herald-lb/herald/speaker/bgp"
	"github.com/herald-lb/herald/speaker/healthport"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/liveness"
	"github.com/herald-lb/herald/speaker/memory"
	"github.com/herald-lb/herald/speaker/ndp"
	"github.com/herald-lb/herald/speaker/probe"
	"github.com/herald-lb/herald/speaker/steer"
)

// handOver is how long a speaker that has said it is leaving goes on to answer,
// so that its successors have claimed its addresses before it falls silent.
const handOver = time.Second

// speakerFlags are the flags of the speaker.
type speakerFlags struct {
	common
	path        pathFlags
	classes     kube.Classes
	node        string
	proxy       bool
	audit       time.Duration
	healthPorts string
	memory      string // directory
}

// resync is how often a pass is run although nothing has changed: often enough
// for the audits, which are a part of passes.
func (f speakerFlags) resync() time.Duration {
	return min(resync, max(f.audit, time.Second))
}

func speakerCommand() *cobra.Command {
	var f speakerFlags
	cmd := &cobra.Command{
		Use:   "speaker",
		Short: "Announce addresses and steer their traffic on this node",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runSpeaker(cmd.Context(), f) },
	}
	f.flags(cmd, "127.0.0.1:7473")
	classFlags(cmd, &f.classes)
	f.path.flags(cmd)
	memoryDirFlag(cmd, &f.memory)
	cmd.Flags().StringVar(&f.path.steer, "steer", "auto", "auto, ipvs or nft: auto takes nft where the kernel has no IPVS")
	cmd.Flags().StringVar(&f.node, "node-name", os.Getenv("NODE_NAME"), "name of this node's Node object (default $NODE_NAME)")
	cmd.Flags().StringVar(&f.healthPorts, "health-check-node-ports", string(healthport.Auto), "auto, on or off: whether to answer on the health check node ports of Services with externalTrafficPolicy Local; auto does while kube-proxy is not there")
	cmd.Flags().DurationVar(&f.audit, "audit-interval", time.Minute, "how often the kernel's tables are compared with what they should be, and repaired")
	cmd.Flags().BoolVar(&f.proxy, "service-proxy", false, "steer ClusterIPs, external IPs and node ports as well, in place of kube-proxy; run it on every node, and no kube-proxy")
	return cmd
}

func runSpeaker(ctx context.Context, f speakerFlags) error {
	debug.SetGCPercent(50) // until slim: a start makes much garbage, but its pod has a limit
	log, err := f.logger()
	if err != nil {
		return err
	}
	if f.node == "" {
		return errors.New("--node-name is empty: give the name of this node's Node object, or set NODE_NAME")
	}
	clients, err := f.clients()
	if err != nil {
		return err
	}
	log = log.With("node", f.node)
	path, err := choosePath(ctx, f.path, log)
	if err != nil {
		return err
	}
	defer path.close(log)
	d, err := newDaemon(f, clients, path, log)
	if err != nil {
		return err
	}
	return d.run(ctx)
}

// A daemon is a speaker with everything it is made of.
type daemon struct {
	source  *kube.Source
	bell    loop.Bell
	l2      []*l2.Announcer // ARP and NDP
	bgp     *bgp.Speaker
	routers *liveness.Guard // of bgp
	peers   *liveness.Watcher
	hello   *kube.Hello
	report  *kube.Reporter
	ports   *healthport.Server
	prober  *probe.Prober
	memory  *memory.Keeper // nil if there is none
	damper  l2.Damper
	node    *speaker.Node
	health  *health
	read    sync.Once     // what is there has been
	first   sync.Once     // pass
	drains  atomic.Bool   // whether the last pass has found this node drained
	resync  time.Duration // of passes
	log     *slog.Logger
}

func newDaemon(f speakerFlags, clients kube.Clients, path dataPath, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{bell: loop.NewBell(), log: log, health: &health{address: f.health}, resync: f.resync()}
	self := func() (snapshot.Speaker, error) { return d.self(path.speaker(f.node)) }
	options := kube.Options{
		Classes: f.classes, Namespace: f.namespace, Node: f.node, ServiceProxy: f.proxy, Ring: d.bell.Ring, Log: log,
	}
	if f.memory != "" {
		d.memory = memory.New(f.memory, f.node, log)
		options.Memory = kube.Memory{
			Load: func() (snapshot.Snapshot, error) { return memory.Load(f.memory, f.node) },
			Self: self,
		}
	}
	d.source, err = kube.NewSource(clients, options)
	if err != nil {
		return nil, err
	}
	said, changed := loop.NewBell(), loop.NewBell()
	wire := l2.Options{Log: log, Changed: said.Ring}
	d.l2 = []*l2.Announcer{arp.New(wire), ndp.New(wire)}
	d.bgp = bgp.New(bgp.Options{Log: log, Changed: func() {
		said.Ring()
		d.peers.Look()
	}})
	var hears []string
	d.peers = liveness.New(f.node, func(contacts map[string]snapshot.Contact) {
		d.source.Meet(contacts)
		said.Ring()
		if now := liveness.Hears(contacts); !slices.Equal(now, hears) {
			hears = now
			changed.Ring() // those who do not hear it should read it soon
		}
	}, log)
	d.routers = d.peers.Guard(d.bgp, said.Ring)
	d.report = &kube.Reporter{
		Clients: clients, Node: f.node, Changed: said, Log: log,
		Facts: func() (snapshot.Report, error) { return d.facts(path.speaker(f.node)) },
	}
	d.hello = &kube.Hello{
		Client: clients.Core, Namespace: f.namespace, Node: f.node,
		Facts: self,
		Peers: d.source.Peers, Changed: changed, Log: log,
	}
	d.damper.Ring = d.linksChanged
	d.health.metrics = metrics(speakerMetrics{d.report.Facts, d.l2})
	d.prober = probe.New(probe.ICMP{}, d.bell.Ring, log)
	d.ports, err = healthport.New(healthport.Options{Node: f.node, Mode: healthport.Mode(f.healthPorts), Ring: d.bell.Ring, Log: log})
	if err != nil {
		return nil, err
	}
	d.node = &speaker.Node{
		Name: f.node, Take: d.take, Followers: []speaker.Follower{d.peers, d.ports}, Passed: d.passed,
		Router: d.routers, Ring: d.bell.Ring, Rerouted: said.Ring,
	}
	if d.memory != nil {
		d.node.Followers = append(d.node.Followers, d.memory)
	}
	for _, a := range d.l2 {
		d.node.Announcers = append(d.node.Announcers, a)
	}
	if path.kernel != nil {
		d.node.Steer = &steer.Syncer{Kernel: path.kernel, Audit: f.audit, Log: log}
	}
	return d, nil
}

// passed notes that a pass did what it should.
func (d *daemon) passed() {
	d.health.pass()
	if is := d.node.Draining(); d.drains.Swap(is) != is {
		d.report.Changed.Ring()
	}
	d.first.Do(slim)
}

// slim comes after the first pass, which is by far the largest: what it took is given
// back to the system. A speaker that is settled does little, so it may collect garbage
// more often from now on, and be smaller.
func slim() {
	debug.SetGCPercent(25)
	debug.FreeOSMemory()
}

// take returns the cluster as it is now, with what is known of the nodes whose
// speakers are lost.
func (d *daemon) take() (snapshot.Snapshot, bool) {
	s, ok := d.source.Take()
	if ok {
		d.read.Do(debug.FreeOSMemory) // the API's lists, which are several times what is kept of them
		s.Lost = d.prober.Judge(s.Lost, s.Nodes)
	}
	return s, ok
}

// self returns what this speaker can do just now, its links included.
func (d *daemon) self(sp snapshot.Speaker) (snapshot.Speaker, error) {
	h, err := netlink.NewHandle()
	if err != nil {
		return snapshot.Speaker{}, fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	links, err := l2.Links(h)
	sp.BFD, sp.Hears, sp.Links = true, d.peers.Hears(), d.damper.Mark(links, time.Now())
	return sp, err
}

// facts returns how this speaker is just now, of which sp is a part.
func (d *daemon) facts(sp snapshot.Speaker) (r snapshot.Report, err error) {
	r.Speaker, err = d.self(sp)
	r.Draining = d.drains.Load()
	for node, s := range d.peers.Sessions() {
		p := snapshot.PeerReport{
			Node: node, Addr: s.Addr, State: s.State.String(), Up: s.State == bfd.Up, Deaf: s.Contact == snapshot.Deaf, Since: s.Since, Losses: s.Losses,
		}
		switch {
		case p.Up:
		case p.Deaf:
			p.Err = cmp.Or(s.Err, "it does not hear us, and we hear it")
		default:
			p.Err = cmp.Or(s.Err, s.Diag.String())
		}
		r.Peers = append(r.Peers, p)
	}
	slices.SortFunc(r.Peers, func(a, b snapshot.PeerReport) int { return cmp.Compare(a.Node, b.Node) })
	sessions := d.routers.States()
	for _, b := range sessions {
		r.Routers = append(r.Routers, snapshot.RouterReport{
			Peer: b.Name, Addr: b.Addr, State: b.State, Up: b.Up, Since: b.Since, ASN: b.PeerASN, Flaps: b.Flaps, Err: b.Err, Sent: b.Sent,
			BFD: b.BFD, Offered: b.Offered,
		})
	}
	r.Told = d.node.Known(sessions)
	for _, a := range d.l2 {
		for _, c := range a.Answers() {
			r.Answers = append(r.Answers, snapshot.Answer{Addr: c.Addr, Link: c.Link, Since: c.Since})
		}
		stats := a.Stats()
		for _, w := range stats.Waits {
			r.Conflicts = append(r.Conflicts, snapshot.Conflict{Addr: w.Claim.Addr, Link: w.Claim.Link, MAC: w.MAC, Node: w.Node, Since: w.Since})
		}
		for _, c := range stats.Disputes {
			r.Conflicts = append(r.Conflicts, snapshot.Conflict{Addr: c.Claim.Addr, Link: c.Claim.Link, MAC: c.MAC, Answered: true, Since: c.Since})
		}
	}
	return r, err
}

// run ends some time after ctx has: a speaker that stops on purpose says so
// first, and goes on to answer until its successors have taken over. The rows
// stay in the kernel and steer on.
func (d *daemon) run(ctx context.Context) error {
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, rest := errgroup.WithContext(rest)
	g.Go(func() error { return d.source.Run(rest) })
	for _, a := range d.l2 {
		g.Go(func() error { return a.Run(rest) })
	}
	g.Go(func() error { return d.bgp.Run(rest) })
	g.Go(func() error { return d.peers.Run(rest) })
	g.Go(func() error { return d.hello.Run(rest) })
	g.Go(func() error { return d.report.Run(rest) })
	g.Go(func() error { return d.prober.Run(rest) })
	g.Go(func() error { return d.ports.Run(rest) })
	if d.memory != nil {
		g.Go(func() error { return d.memory.Run(rest) })
	}
	g.Go(func() error { return d.health.serve(rest) })
	g.Go(func() error {
		return l2.Watch(rest, d.linksChanged)
	})
	g.Go(func() error {
		defer stop()
		d.passes(ctx, rest)
		d.leave(rest)
		return nil
	})
	return g.Wait()
}

// linksChanged has everybody look who has to know the links.
func (d *daemon) linksChanged() {
	d.hello.Changed.Ring()
	d.report.Changed.Ring()
	d.bell.Ring()
}

// passes runs passes until it is told to stop, or something else has failed.
func (d *daemon) passes(ctx, rest context.Context) {
	both, cancel := context.WithCancel(rest)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	l := loop.Loop{Bell: d.bell, Pass: d.health.watch(d.node.Pass), Gap: time.Millisecond, Resync: d.resync, Retry: 200 * time.Millisecond, Log: d.log}
	l.Run(both)
}

// leave hands over. No pass is run any more, so what was announced still is.
func (d *daemon) leave(rest context.Context) {
	if rest.Err() != nil {
		return
	}
	d.log.Info("leaving: others take over what is announced here", "for", handOver)
	for _, a := range d.l2 {
		a.Yield()
	}
	if err := d.node.Yield(rest); err != nil {
		d.log.Warn("telling routers to find other ways", "err", err)
	}
	d.hello.Leave()
	d.peers.Leave()
	t := time.NewTimer(handOver)
	defer t.Stop()
	select {
	case <-t.C:
	case <-rest.Done():
	}
}
