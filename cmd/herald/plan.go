package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
)

// errLoss says that somebody would lose an address.
var errLoss = errors.New("addresses would be lost")

// planFlags are the flags of herald plan.
type planFlags struct {
	person
	classes    kube.Classes
	namespace  string
	files      []string
	remove     bool
	failOnLoss bool
}

func planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan -f FILE...",
		Short: "Say what applying manifests would assign, move and release, and tell routers",
		Long: `Says which addresses would be assigned, moved and released, which BGP sessions
opened, reset and ended, and what routers be told, if the AddressPools,
AddressClaims, BGPPeers, Services and Namespaces in the files were applied; with
--delete, if they were deleted. Nothing is changed: the API server is asked for a
dry run, so that defaults and refusals are its own.

Exit code: 0; 1 if the objects would be refused or something could not be read;
with --fail-on-loss 2 if somebody would lose an address.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPlan(cmd.Context(), f, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f.person.flags(cmd)
	classFlags(cmd, &f.classes)
	flags := cmd.Flags()
	flags.StringVar(&f.namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	flags.StringSliceVarP(&f.files, "filename", "f", nil, "file with manifests; - is standard input")
	flags.BoolVar(&f.remove, "delete", false, "say what deleting the objects would do instead")
	flags.BoolVar(&f.failOnLoss, "fail-on-loss", false, "exit with 2 if somebody would lose an address")
	_ = cmd.MarkFlagRequired("filename") // fails only for a flag that is not there
	return cmd
}

func runPlan(ctx context.Context, f planFlags, stdin io.Reader, out io.Writer) error {
	objects, err := manifests(f.files, stdin)
	if err != nil {
		return err
	}
	cfg, err := f.person.config()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	clients, err := f.person.clients()
	if err != nil {
		return err
	}
	r, err := kube.ReadTraffic(ctx, clients, f.namespace)
	if err != nil {
		return err
	}
	change := kube.DryRun{Client: client, Delete: f.remove}
	changed, notes, err := change.Run(ctx, r, objects)
	if err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintln(out, "#", n)
	}
	now := time.Now()
	before, err := r.Snapshot(f.classes, now)
	if err != nil {
		return err
	}
	after, err := changed.Snapshot(f.classes, now)
	if err != nil {
		return err
	}
	return report(out, before, after, f.failOnLoss)
}

// report prints what would differ, and says if an address would be lost.
func report(out io.Writer, before, after snapshot.Snapshot, failOnLoss bool) error {
	for _, trouble := range controller.Troubles(before, after) {
		fmt.Fprintln(out, trouble)
	}
	before, after = controller.Settle(before), controller.Settle(after)
	outcomes, lost := controller.Forecast(before, after), 0
	for _, o := range outcomes {
		fmt.Fprintln(out, o)
		if o.Lost() {
			lost++
		}
	}
	if len(outcomes) == 0 {
		fmt.Fprintln(out, "no address would change")
	}
	for _, o := range speaker.Outlooks(before, after) {
		fmt.Fprintln(out, o)
	}
	if lost > 0 && failOnLoss {
		return fmt.Errorf("%d owners: %w", lost, errLoss)
	}
	return nil
}

// manifests reads all objects of files.
func manifests(files []string, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, path := range files {
		var data []byte
		var err error
		if path == "-" {
			data, err = io.ReadAll(stdin)
		} else {
			data, err = os.ReadFile(path)
		}
		if err != nil {
			return nil, err // which names the file
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
		for {
			o := &unstructured.Unstructured{}
			err := decoder.Decode(&o.Object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", path, err)
			}
			if len(o.Object) > 0 {
				out = append(out, o)
			}
		}
	}
	return out, nil
}
