package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/speaker/doctor"
	"github.com/herald-lb/herald/speaker/doctor/look"
)

// errUnfit says that something keeps Herald from working on this node.
var errUnfit = errors.New("something keeps Herald from working on this node")

func doctorCommand() *cobra.Command {
	var p person
	var classes kube.Classes
	var namespace string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what of this node keeps Herald from working well",
		Long: `Says what of this node keeps Herald from working well: its kernel, its settings, and
who else uses what Herald needs. One line for each thing that was looked at: OK,
WARN, FAIL, or SKIP for what could not be. Nothing is changed; for what has to be tried
the kernel may load modules, and some other nodes get a few packets through tunnels.

Run it as root on the node, or in the pod of its speaker:

  kubectl -n herald-system exec herald-speaker-abcde -c speaker -- herald doctor

Without an API server it says only what the node itself shows.

Exit code: 0; 1 if anything fails.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := look.Node(cmd.Context())
			if err != nil {
				return err
			}
			facts.Cluster = survey(cmd.Context(), p, classes, namespace)
			if facts.Reached, err = look.Reached(cmd.Context(), facts.Addrs, facts.Cluster); err != nil {
				return err
			}
			failed := false
			for _, f := range doctor.Judge(facts) {
				failed = failed || f.Level == doctor.Fail
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			if failed {
				return errUnfit
			}
			return nil
		},
	}
	p.flags(cmd)
	classFlags(cmd, &classes)
	cmd.Flags().StringVar(&namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	return cmd
}

// survey asks the API, if there is one.
func survey(ctx context.Context, p person, classes kube.Classes, namespace string) doctor.Cluster {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	clients, err := p.clients()
	if err != nil {
		return doctor.Cluster{Unread: "the API was not asked: " + err.Error()}
	}
	s, err := kube.ReadSurvey(ctx, clients.Core, classes, namespace)
	if err != nil {
		return doctor.Cluster{Unread: "the API was not asked: " + err.Error()}
	}
	return doctor.Cluster{Services: s.Services, Nodes: s.Architectures, Tunnels: s.Tunnels}
}
