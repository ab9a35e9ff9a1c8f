package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say why a Service has its address or none, or what has become of a pool",
		Long: `Says why a Service has its address or none, what ruled out each pool, which nodes
tell its address to which routers, and what keeps the others from it; or what a
pool has, who has it, and who waits for it.

The answer comes from the very plans that the controller and the speakers make,
made on this side from what the API server has. Give the same --class,
--default-class and --metallb-annotations as the controller has.`,
	}
	cmd.AddCommand(explainServiceCommand(), explainPoolCommand())
	return cmd
}

func explainServiceCommand() *cobra.Command {
	var p person
	var namespace string
	cmd := explainOne("service NAMESPACE/NAME", "Say why a Service has its address, or none, and who tells routers of it", &p,
		func(ctx context.Context, classes kube.Classes, name string) (string, error) {
			if !strings.Contains(name, "/") {
				name = "default/" + name
			}
			s, err := p.whole(ctx, classes, namespace)
			if err != nil {
				return "", err
			}
			return explainService(s, name)
		})
	cmd.Flags().StringVar(&namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	return cmd
}

// explainService is what the controller and the speakers have to say of a Service.
func explainService(s snapshot.Snapshot, key string) (string, error) {
	text, ok := controller.ExplainService(s, key)
	if !ok {
		return "", fmt.Errorf("there is no service %s", key)
	}
	for _, line := range speaker.ExplainRoutes(s, key) {
		text += "  " + line + "\n"
	}
	return text, nil
}

func explainPoolCommand() *cobra.Command {
	var p person
	return explainOne("pool NAME", "Say what an AddressPool has, and who has it", &p,
		func(ctx context.Context, classes kube.Classes, name string) (string, error) {
			s, err := p.snapshot(ctx, classes)
			if err != nil {
				return "", err
			}
			text, ok := controller.ExplainPool(s, name)
			if !ok {
				return "", fmt.Errorf("there is no pool %s", name)
			}
			return text, nil
		})
}

// explainOne makes a command that explains one object.
func explainOne(use, short string, p *person, explain func(ctx context.Context, classes kube.Classes, name string) (string, error)) *cobra.Command {
	var classes kube.Classes
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := explain(cmd.Context(), classes, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	p.flags(cmd)
	classFlags(cmd, &classes)
	return cmd
}
