package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/loop"
)

// heraldClass is the loadBalancerClass that is always served.
const heraldClass = "herald-lb.io/herald"

// classFlags adds the flags that say which Services are served. Controller and
// speakers of one cluster must be given the same.
func classFlags(cmd *cobra.Command, c *kube.Classes) {
	cmd.Flags().StringSliceVar(&c.Names, "class", []string{heraldClass}, "spec.loadBalancerClass values to serve")
	cmd.Flags().BoolVar(&c.Default, "default-class", true, "serve Services without a loadBalancerClass, too")
	cmd.Flags().BoolVar(&c.MetalLB, "metallb-annotations", false, "read MetalLB's annotations on Services as well as Herald's, which win")
}

func controllerCommand() *cobra.Command {
	var c common
	var classes kube.Classes
	var identity string
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Assign addresses to Services and write their status",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runController(cmd.Context(), c, classes, identity)
		},
	}
	c.flags(cmd, ":7472")
	classFlags(cmd, &classes)
	host, _ := os.Hostname() // without one, --identity has to be given
	cmd.Flags().StringVar(&identity, "identity", host, "name of this replica: unique, and the same again after a restart")
	return cmd
}

func runController(ctx context.Context, c common, classes kube.Classes, identity string) error {
	log, err := c.logger()
	if err != nil {
		return err
	}
	clients, err := c.clients()
	if err != nil {
		return err
	}
	bell := loop.NewBell()
	source, err := kube.NewSource(clients, kube.Options{Classes: classes, Namespace: c.namespace, Ring: bell.Ring, Log: log})
	if err != nil {
		return err
	}
	recorder, stopEvents, err := events(ctx, clients)
	if err != nil {
		return err
	}
	defer stopEvents()
	writer := &kube.StatusWriter{Clients: clients, Source: source, Events: recorder, Log: log}
	h := &health{address: c.health, ready: source.Synced, metrics: metrics()}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return source.Run(ctx) })
	g.Go(func() error { return h.serve(ctx) })
	g.Go(func() error {
		lease := kube.Leadership{Client: clients.Core, Namespace: c.namespace, Name: kube.ControllerLease, Identity: identity, Log: log}
		return kube.Lead(ctx, lease, func(ctx context.Context) { assign(ctx, source, writer, bell, h, log) })
	})
	log.Info("controller started", "version", version, "identity", identity, "classes", classes.Names, "default-class", classes.Default)
	return g.Wait()
}

// assign runs passes for as long as this replica leads.
func assign(ctx context.Context, source *kube.Source, writer *kube.StatusWriter, bell loop.Bell, h *health, log *slog.Logger) {
	log.Info("leading")
	defer log.Info("leading no more")
	if err := writer.CatchUp(ctx); err != nil {
		return // only the end of ctx ends it early
	}
	defer h.rest()
	alarm := time.AfterFunc(resync, bell.Ring)
	defer alarm.Stop()
	c := &controller.Controller{
		Take: source.Take, Writer: writer, Passed: h.pass,
		Wake: func(at time.Time) { alarm.Reset(max(0, time.Until(at))) },
	}
	l := loop.Loop{Bell: bell, Pass: h.watch(c.Pass), Gap: time.Millisecond, Resync: resync, Retry: 100 * time.Millisecond, Log: log}
	l.Run(ctx)
}

// events returns what records Events about Services and AddressPools.
func events(ctx context.Context, clients kube.Clients) (record.EventRecorder, func(), error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.Core.CoreV1().Events("")})
	return b.NewRecorder(scheme, corev1.EventSource{Component: "herald-controller"}), b.Shutdown, nil
}
