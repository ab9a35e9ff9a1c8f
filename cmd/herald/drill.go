package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/arp"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/ndp"
)

const (
	// drillEvery is how often a drill asks on the wire, and connects.
	drillEvery = 5 * time.Millisecond
	// drillOverlap is for how long both may answer: until the one has heard the
	// greeting of the other.
	drillOverlap = 50 * time.Millisecond
	// drillRest is how long it looks on before and after a move.
	drillRest = time.Second
	// drillConnect is how long one connection may take: longer than a lost SYN.
	drillConnect = 3 * time.Second
)

func drillCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "drill", Short: "Play what may happen, and measure what it costs"}
	var f drillFlags
	failover := &cobra.Command{
		Use:   "failover NAMESPACE/NAME",
		Short: "Hand a Service over to another node and back, and measure the outage",
		Long: `Has another node announce a Service, by the annotation herald-lb.io/avoid, and then
the first one again; meanwhile it asks on the wire for the address, and connects to
it, every 5 ms, and says how long nobody answered.

Run it as root on a host of the segment that neither announces the address nor is
about to: a third node, or a client. On a node connections are steered by itself
and say nothing of who announces; what is asked on the wire does. Without root it
only connects.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, ok := strings.Cut(args[0], "/")
			if !ok {
				namespace, name = "default", args[0]
			}
			return f.failover(cmd.Context(), cmd.OutOrStdout(), namespace, name)
		},
	}
	f.flags(failover)
	failover.Flags().DurationVar(&f.patience, "timeout", 15*time.Second, "how long to wait for a move")
	cmd.AddCommand(failover)
	return cmd
}

type drillFlags struct {
	person
	patience time.Duration
}

func (f *drillFlags) failover(ctx context.Context, out io.Writer, namespace, name string) (err error) {
	clients, err := f.clients()
	if err != nil {
		return err
	}
	svc, err := clients.Core.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Service %s/%s: %w", namespace, name, err)
	}
	if avoided := kube.Avoided(svc); avoided != "" {
		return fmt.Errorf("drilling Service %s/%s: it is to avoid %s already (annotation herald-lb.io/avoid), which the drill would take away: remove it first", namespace, name, avoided)
	}
	addr, port, err := drilled(svc)
	if err != nil {
		return err
	}
	first, err := f.moved(ctx, clients, addr, func(node string) bool { return node != "" })
	if err != nil {
		return fmt.Errorf("%s is announced by nobody: see condition herald-lb.io/Announced of Service %s/%s: %w", addr, namespace, name, err)
	}
	watch := newOutage(addr, port)
	watch.start(ctx)
	defer func() { err = errors.Join(err, watch.stop(out)) }()
	if err := hold(ctx, drillRest); err != nil {
		return err
	}
	defer func() { // whatever happens: it is not to stay so
		err = errors.Join(err, kube.Avoid(context.WithoutCancel(ctx), clients, namespace, name, ""))
	}()
	began := time.Now()
	if err := kube.Avoid(ctx, clients, namespace, name, first); err != nil {
		return err
	}
	second, err := f.moved(ctx, clients, addr, func(node string) bool { return node != first && node != "" })
	if err != nil {
		return fmt.Errorf("no other node than %s takes %s: %w", first, addr, err)
	}
	fmt.Fprintf(out, "%s: from %s to %s, reported after %s\n", addr, first, second, time.Since(began).Round(time.Millisecond))
	if err := hold(ctx, drillRest); err != nil {
		return err
	}
	began = time.Now()
	if err := kube.Avoid(ctx, clients, namespace, name, ""); err != nil {
		return err
	}
	if back, err := f.moved(ctx, clients, addr, func(node string) bool { return node == first }); err == nil {
		fmt.Fprintf(out, "%s: back from %s to %s, reported after %s\n", addr, second, back, time.Since(began).Round(time.Millisecond))
	} else {
		fmt.Fprintf(out, "%s: it stays at %s: the pool's failback may say so\n", addr, second)
	}
	return hold(ctx, drillRest)
}

// drilled returns the address to be handed over, and a TCP port; 0 if there is
// none.
func drilled(svc *corev1.Service) (addr netip.Addr, port int32, err error) {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if addr, err = netip.ParseAddr(in.IP); err == nil {
			break
		}
	}
	if !addr.IsValid() {
		return addr, 0, fmt.Errorf("reading Service %s/%s: it has no address: see its condition herald-lb.io/AddressAssigned", svc.Namespace, svc.Name)
	}
	for _, p := range svc.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP {
			return addr, p.Port, nil
		}
	}
	return addr, 0, nil
}

// announcer returns the node that has reported last that it took addr, or "".
func announcer(ctx context.Context, c kube.Clients, addr netip.Addr) (node string, err error) {
	reports, err := kube.ReadReports(ctx, c)
	if err != nil {
		return "", err
	}
	var since time.Time
	for _, r := range reports {
		i := slices.IndexFunc(r.Answers, func(a snapshot.Answer) bool { return a.Addr == addr })
		if i >= 0 && r.Answers[i].Since.After(since) {
			node, since = r.Node, r.Answers[i].Since
		}
	}
	return node, nil
}

// moved waits until the announcer of addr is one that will do.
func (f *drillFlags) moved(ctx context.Context, c kube.Clients, addr netip.Addr, will func(node string) bool) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.patience, errLate)
	defer cancel()
	for {
		node, err := announcer(ctx, c, addr)
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		if will(node) && err == nil {
			return node, nil
		}
		if err := hold(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// An outage measures for how long an address is not answered for.
type outage struct {
	addr   netip.Addr
	port   int32
	cancel context.CancelFunc
	group  *errgroup.Group

	mu       sync.Mutex
	wire     silence
	owners   []l2.MAC // in the order of the moves
	moved    time.Time
	wireErr  error
	connects silence
	failed   int
}

// A silence is the longest time between two signs of life.
type silence struct {
	last    time.Time
	longest time.Duration
	signs   int
}

func (s *silence) sign(at time.Time) {
	if s.signs++; !s.last.IsZero() {
		s.longest = max(s.longest, at.Sub(s.last))
	}
	s.last = at
}

func newOutage(addr netip.Addr, port int32) *outage { return &outage{addr: addr, port: port} }

func (o *outage) start(ctx context.Context) {
	ctx, o.cancel = context.WithCancel(ctx)
	o.group = &errgroup.Group{}
	o.group.Go(func() error { o.listen(ctx); return nil })
	if o.port != 0 {
		o.group.Go(func() error { o.connect(ctx); return nil })
	}
}

// listen asks on the wire.
func (o *outage) listen(ctx context.Context) {
	p := arp.Protocol()
	if o.addr.Is6() {
		p = ndp.Protocol()
	}
	err := l2.Observe(ctx, p, o.addr, drillEvery, func(seen l2.Observation) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.wire.sign(seen.At)
		n := len(o.owners)
		overlaps := n > 1 && o.owners[n-2] == seen.MAC && seen.At.Sub(o.moved) < drillOverlap
		if n == 0 || o.owners[n-1] != seen.MAC && !overlaps {
			o.owners, o.moved = append(o.owners, seen.MAC), seen.At
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wireErr = err
}

// connect connects, one after the other.
func (o *outage) connect(ctx context.Context) {
	target := netip.AddrPortFrom(o.addr, uint16(o.port)).String()
	d := net.Dialer{Timeout: drillConnect}
	tick := time.NewTicker(drillEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "tcp", target)
		o.mu.Lock()
		switch {
		case err == nil:
			o.connects.sign(time.Now())
		case ctx.Err() == nil:
			o.failed++
		}
		o.mu.Unlock()
		if err == nil {
			_ = conn.Close()
		}
		<-tick.C
	}
}

// stop ends the measuring and says what came of it.
func (o *outage) stop(out io.Writer) error {
	o.cancel()
	_ = o.group.Wait() // what failed is in o
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	say := func(format string, args ...any) {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		errs = append(errs, err)
	}
	switch {
	case o.wireErr != nil:
		say("not asked on the wire: %v", o.wireErr)
	case o.wire.signs == 0:
		say("on the wire: nobody answered")
	default:
		var macs []string
		for _, m := range o.owners {
			macs = append(macs, m.String())
		}
		say("on the wire: %s; at most %s without an answer", strings.Join(macs, " then "), o.wire.longest.Round(100*time.Microsecond))
	}
	if o.port != 0 {
		say("connections to port %d: %d, of which %d failed; at most %s without one", o.port, o.connects.signs+o.failed, o.failed, o.connects.longest.Round(100*time.Microsecond))
	}
	return errors.Join(errs...)
}
