package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
)

// drainFlags are the flags of herald drain.
type drainFlags struct {
	person
	undo     bool
	patience time.Duration
}

func drainCommand() *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have other nodes announce what a node announces, before it goes into maintenance",
		Long: `Annotates the Node, so that it announces only what no other node can, and waits
until all else is announced by others. They take an address before this node gives
it up, and routers that it tells by BGP find other ways before it withdraws its routes, which
takes ten seconds. Its pods go on to serve: kubectl drain moves those.

--undo takes the annotation away: the node takes its addresses back as the pools'
failback says.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.drain(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&f.undo, "undo", false, "have the node announce again")
	cmd.Flags().DurationVar(&f.patience, "timeout", 30*time.Second, "how long to wait")
	return cmd
}

func (f *drainFlags) drain(ctx context.Context, out io.Writer, node string) error {
	clients, err := f.clients()
	if err != nil {
		return err
	}
	if err := kube.Drain(ctx, clients, node, !f.undo); err != nil {
		return err
	}
	if f.undo {
		_, err := fmt.Fprintf(out, "node %s may announce again\n", node)
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.patience, errLate)
	defer cancel()
	said := ""
	for {
		reports, err := kube.ReadReports(ctx, clients)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(reports, func(r snapshot.Report) bool { return r.Node == node })
		if i < 0 {
			return fmt.Errorf("node %s has no SpeakerStatus: no speaker runs there, or it is older than this command", node)
		}
		left, text := announces(reports[i])
		if !reports[i].Draining { // it has not heard of it yet
			left, text = true, said
		}
		if text != said {
			said = text
			if _, err := fmt.Fprintf(out, "node %s announces %s\n", node, text); err != nil {
				return err
			}
		}
		if !left {
			return nil
		}
		if err := hold(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("node %s announces still: %s: no other node can, or its speaker does not say so: %w", node, still(reports[i]), err)
		}
	}
}

// announces says how much a node announces, and whether anything.
func announces(r snapshot.Report) (left bool, text string) {
	routes := routesOf(r)
	text = fmt.Sprintf("%d addresses", len(r.Answers))
	if len(r.Routers) > 0 {
		text += fmt.Sprintf(" and tells routers %d routes", routes)
	}
	return len(r.Answers) > 0 || routes > 0, text
}

// routesOf returns how many routes a node tells all routers together.
func routesOf(r snapshot.Report) (n int) {
	for _, b := range r.Routers {
		n += b.Sent
	}
	return n
}

// still names what a node announces.
func still(r snapshot.Report) string {
	if len(r.Answers) > 0 {
		return named(r.Answers)
	}
	return fmt.Sprintf("%d routes to routers", routesOf(r))
}

// errLate is why a command stops waiting.
var errLate = errors.New("the time is over")

// hold waits, and returns why it was told to stop if it was.
func hold(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// named names a few addresses.
func named(answers []snapshot.Answer) string {
	const few = 8
	var words []string
	for _, a := range answers[:min(few, len(answers))] {
		words = append(words, a.Addr.String())
	}
	if more := len(answers) - few; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
