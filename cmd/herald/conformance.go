package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/webhook"
)

// conformanceFlags are the flags of herald cloud conformance.
type conformanceFlags struct {
	tokenFile, kind, location string
	targets                   []string
	wait                      time.Duration
}

func conformanceCommand() *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance URL",
		Short: "Say whether a server speaks the webhook protocol",
		Long: `Makes load balancers and addresses at a server of the webhook protocol, changes and
deletes them, and says of each promise of the protocol whether the server keeps it.
What it makes belongs to the cluster herald-conformance-..., is deleted at the end,
and may cost money meanwhile. Nothing else is touched.

Exit code: 0 if every promise was kept.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the server's token; empty for none")
	flags.StringVar(&f.kind, "type", "", "type of load balancers; empty for the server's default")
	flags.StringVar(&f.location, "location", "", "location of load balancers and addresses; empty for the server's default")
	flags.StringSliceVar(&f.targets, "target", nil, "two machines that the server knows, each as INSTANCE@ADDRESS (default two that nobody knows)")
	flags.DurationVar(&f.wait, "wait", 2*time.Minute, "how long the server may take to finish one change")
	return cmd
}

func (f conformanceFlags) run(ctx context.Context, out io.Writer, url string) error {
	how := webhook.Trial{URL: url, Run: strings.ToLower(rand.Text()[:10]), Type: f.kind, Location: f.location, Wait: f.wait}
	var err error
	if how.Targets, err = machines(f.targets); err != nil {
		return err
	}
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return err // which names the file
		}
		how.Token = strings.TrimSpace(string(text))
	}
	checks, err := webhook.Conform(ctx, how)
	if err != nil {
		return fmt.Errorf("trying the server: %w", err)
	}
	return errors.Join(printChecks(out, checks), ctx.Err())
}

// machines reads the flag --target.
func machines(texts []string) ([2]cloud.Target, error) {
	all := webhook.DefaultTargets()
	if len(texts) != 0 && len(texts) != len(all) {
		return all, fmt.Errorf("--target is given %d times: give two machines, or none", len(texts))
	}
	for i, text := range texts {
		at := strings.LastIndex(text, "@")
		addr, err := netip.ParseAddr(text[at+1:])
		if at < 1 || err != nil {
			return all, fmt.Errorf("--target %q: use INSTANCE@ADDRESS", text)
		}
		all[i].Instance.ID, all[i].Addr = text[:at], addr
	}
	return all, nil
}

func printChecks(out io.Writer, checks []webhook.Check) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tOK\tWHAT WAS WRONG")
	broken := 0
	for _, c := range checks {
		switch {
		case c.Skipped != "":
			fmt.Fprintf(w, "%s\t-\tnot tried: %s\n", c.Name, c.Skipped)
		case c.Wrong != nil:
			broken++
			fmt.Fprintf(w, "%s\tno\t%s\n", c.Name, strings.ReplaceAll(c.Wrong.Error(), "\n", "; "))
		default:
			fmt.Fprintf(w, "%s\tyes\t\n", c.Name)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if broken > 0 {
		return fmt.Errorf("the server breaks %d of %d promises of the protocol", broken, len(checks))
	}
	return nil
}
