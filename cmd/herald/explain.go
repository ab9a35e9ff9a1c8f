package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say why a Service has its address or none, or what has become of a pool",
		Long: `Says why a Service has its address or none, and what ruled out each pool; or what
a pool has, who has it, and who waits for it.

The answer comes from the very plan that the controller runs, made on this side
from what the API server has. Give the same --class, --default-class and
--metallb-annotations as the controller has.`,
	}
	cmd.AddCommand(
		explainOne("service NAMESPACE/NAME", "Say why a Service has its address, or none", "default/", controller.ExplainService),
		explainOne("pool NAME", "Say what an AddressPool has, and who has it", "", controller.ExplainPool),
	)
	return cmd
}

// explainOne makes a command that explains one object. within is put before a
// name without a namespace.
func explainOne(use, short, within string, explain func(snapshot.Snapshot, string) (string, bool)) *cobra.Command {
	var p person
	var classes kube.Classes
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if within != "" && !strings.Contains(name, "/") {
				name = within + name
			}
			s, err := p.snapshot(cmd.Context(), classes)
			if err != nil {
				return err
			}
			text, ok := explain(s, name)
			if !ok {
				kind, _, _ := strings.Cut(use, " ")
				return fmt.Errorf("there is no %s %s", kind, name)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	p.flags(cmd)
	classFlags(cmd, &classes)
	return cmd
}
