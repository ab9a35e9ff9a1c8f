package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
)

// person are the flags of what people run, as kubectl has them.
type person struct {
	kubeconfig, context string
}

func (p *person) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.kubeconfig, "kubeconfig", "", "file with the API server's address and credentials (default $KUBECONFIG or ~/.kube/config)")
	cmd.Flags().StringVar(&p.context, "context", "", "context of the kubeconfig (default its current one)")
}

func (p *person) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = p.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: p.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	cfg.QPS = -1
	return cfg, nil
}

// read reads the cluster once.
func (p *person) read(ctx context.Context) (kube.Reading, error) {
	clients, err := p.clients()
	if err != nil {
		return kube.Reading{}, err
	}
	return kube.Read(ctx, clients)
}

func (p *person) clients() (kube.Clients, error) {
	cfg, err := p.config()
	if err != nil {
		return kube.Clients{}, err
	}
	return kube.NewClients(cfg)
}

// snapshot reads the cluster once, as plain values.
func (p *person) snapshot(ctx context.Context, classes kube.Classes) (snapshot.Snapshot, error) {
	r, err := p.read(ctx)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	return r.Snapshot(classes, time.Now())
}

// whole reads the cluster once, as plain values, with its endpoints and all that
// speakers say; their Leases are in namespace.
func (p *person) whole(ctx context.Context, classes kube.Classes, namespace string) (snapshot.Snapshot, error) {
	clients, err := p.clients()
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	r, err := kube.ReadWhole(ctx, clients, namespace)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	return r.Snapshot(classes, time.Now())
}
