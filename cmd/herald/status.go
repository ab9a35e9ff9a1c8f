package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/kube"
)

// statusFlags are the flags of herald status.
type statusFlags struct {
	person
	classes   kube.Classes
	namespace string
}

func statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster on one screen",
		Long: `Shows the cluster on one screen: who leads, how full pools are, how many Services
wait, what each speaker does, how its BGP sessions are, which addresses another
host has, and which conditions are not as they should be. Where not all has room,
what is wrong comes first.

All of it is what the API server has: what speakers report is a second old or so.
Give the same --class and --default-class as the controller has.

Exit code: 0, whatever is wrong; 1 if something could not be read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := f.overview(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	f.person.flags(cmd)
	classFlags(cmd, &f.classes)
	cmd.Flags().StringVar(&f.namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	return cmd
}

func (f *statusFlags) overview(ctx context.Context) (string, error) {
	clients, err := f.clients()
	if err != nil {
		return "", err
	}
	leader, err := kube.ReadLeader(ctx, clients.Core, f.namespace)
	if err != nil {
		return "", err
	}
	r, err := kube.ReadWhole(ctx, clients, f.namespace)
	if err != nil {
		return "", err
	}
	s, err := r.Snapshot(f.classes, time.Now())
	if err != nil {
		return "", err
	}
	return controller.Overview(s, leader), nil
}
