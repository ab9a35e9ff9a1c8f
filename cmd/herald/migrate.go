package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/herald-lb/herald/config/metallb"
)

// errLost says that not everything could be said in Herald's words.
var errLost = errors.New("without equivalent in Herald")

// migrateFlags are the flags of herald migrate metallb.
type migrateFlags struct {
	person
	metallb     string // namespace
	herald      string // namespace
	fromCluster bool
	verbose     bool
	services    string
}

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Translate the configuration of other load balancers into Herald's"}
	cmd.AddCommand(migrateMetalLBCommand())
	return cmd
}

func migrateMetalLBCommand() *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "metallb FILE... | --from-cluster",
		Short: "Translate MetalLB's objects and annotations; - is standard input",
		Long: `Translates MetalLB's objects and annotations into Herald's, and writes these to
standard output, ready to be applied. Nothing in the cluster is changed.

What has no equivalent is said on standard error, each with what it meant and
what to do about it; with -v what has been translated, too.

Exit code: 0 if everything was translated, 2 if something has no equivalent,
1 if something could not be read or Herald would not accept it.`,
		RunE: func(cmd *cobra.Command, paths []string) error { return runMigrate(cmd, f, paths) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.fromCluster, "from-cluster", false, "read the objects from the API server, Services of all namespaces included")
	f.person.flags(cmd)
	flags.StringVar(&f.herald, "namespace", "herald-system", "namespace of Herald, for Secrets with the passwords of routers")
	flags.StringVar(&f.metallb, "metallb-namespace", "metallb-system", "namespace of MetalLB's ConfigMaps")
	flags.StringVar(&f.services, "services", "", "how to write Services with MetalLB's annotations: annotate (kubectl commands, in comments), manifests, or none (default manifests, with --from-cluster annotate)")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say what has become of every field")
	return cmd
}

func runMigrate(cmd *cobra.Command, f migrateFlags, paths []string) error {
	form, err := f.form()
	if err != nil {
		return err
	}
	var files []metallb.File
	switch {
	case f.fromCluster == (len(paths) > 0):
		return errors.New("give files or --from-cluster, not both")
	case f.fromCluster:
		files, err = f.cluster(cmd.Context())
	default:
		files, err = readFiles(paths, cmd.InOrStdin())
	}
	if err != nil {
		return err
	}
	result, unreadable := metallb.Migrate(files, f.herald)
	err = writeMigration(cmd.OutOrStdout(), cmd.ErrOrStderr(), result, form, f.verbose)
	if unreadable != nil && errors.Is(err, errLost) {
		return unreadable // a failure, whatever else has been lost
	}
	return errors.Join(unreadable, err)
}

func (f migrateFlags) form() (metallb.Form, error) {
	switch form := metallb.Form(f.services); form {
	case "":
		if f.fromCluster {
			return metallb.Annotate, nil
		}
		return metallb.Manifests, nil
	case metallb.Annotate, metallb.Manifests, metallb.None:
		return form, nil
	}
	return "", fmt.Errorf("--services %q: use annotate, manifests or none", f.services)
}

// writeMigration writes r to out and what there is to say of it to said.
func writeMigration(out, said io.Writer, r metallb.Result, form metallb.Form, verbose bool) error {
	stream, err := r.YAML(form)
	if err != nil {
		return err
	}
	if _, err := out.Write(stream); err != nil {
		return fmt.Errorf("writing the objects: %w", err)
	}
	for _, n := range r.Notes {
		if verbose || n.Level != metallb.Done {
			fmt.Fprintln(said, n)
		}
	}
	if len(r.Pools) == 0 {
		fmt.Fprintln(said, "no pool of MetalLB's is in the input")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(said, "AddressPool %s: %s: %s: %s\n", p.Object, p.Field, p.Reason, p.Detail)
	}
	for _, p := range r.PeerProblems {
		fmt.Fprintf(said, "BGPPeer %s: %s: %s: %s\n", p.Object, p.Field, p.Reason, p.Detail)
	}
	problems, lost := len(r.Problems)+len(r.PeerProblems), r.Lost()
	switch {
	case problems > 0:
		return fmt.Errorf("checking the objects: Herald would not accept %d fields as written: see above", problems)
	case lost > 0:
		return fmt.Errorf("%d settings are %w: see above", lost, errLost)
	}
	return nil
}

func readFiles(paths []string, stdin io.Reader) ([]metallb.File, error) {
	var files []metallb.File
	var errs []error
	for _, path := range paths {
		read := os.ReadFile
		if path == "-" {
			read = func(string) ([]byte, error) { return io.ReadAll(stdin) }
		}
		data, err := read(path)
		if err != nil {
			errs = append(errs, err) // which names the file
			continue
		}
		files = append(files, metallb.File{Name: path, Data: data})
	}
	return files, errors.Join(errs...)
}

// cluster reads what MetalLB reads.
func (f migrateFlags) cluster(ctx context.Context) ([]metallb.File, error) {
	cfg, err := f.person.config()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return readCluster(ctx, client, f.metallb)
}

// metallbKinds are the resources to read, each in the versions to try.
var metallbKinds = [][]schema.GroupVersionResource{
	{{Group: "metallb.io", Version: "v1beta1", Resource: "ipaddresspools"}},
	{{Group: "metallb.io", Version: "v1beta1", Resource: "addresspools"}},
	{{Group: "metallb.io", Version: "v1beta1", Resource: "l2advertisements"}},
	{{Group: "metallb.io", Version: "v1beta1", Resource: "bgpadvertisements"}},
	{{Group: "metallb.io", Version: "v1beta2", Resource: "bgppeers"}, {Group: "metallb.io", Version: "v1beta1", Resource: "bgppeers"}},
	{{Group: "metallb.io", Version: "v1beta1", Resource: "bfdprofiles"}},
	{{Group: "metallb.io", Version: "v1beta1", Resource: "communities"}},
	{{Version: "v1", Resource: "services"}},
}

// readCluster returns the objects that MetalLB has been configured by, and all
// Services. What this cluster's MetalLB does not know is left out.
func readCluster(ctx context.Context, client dynamic.Interface, namespace string) ([]metallb.File, error) {
	var files []metallb.File
	var errs []error
	for _, versions := range metallbKinds {
		list, err := listFirst(ctx, client, versions)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if list == nil {
			continue
		}
		data, err := list.MarshalJSON()
		if err != nil {
			errs = append(errs, fmt.Errorf("encoding %s: %w", versions[0].Resource, err))
		}
		files = append(files, metallb.File{Name: versions[0].Resource, Data: data})
	}
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(namespace)
	for _, name := range []string{"config", "metallb-excludel2", "bgpextras"} {
		o, err := maps.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		var data []byte
		if err == nil {
			data, err = o.MarshalJSON()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, name, err))
			continue
		}
		files = append(files, metallb.File{Name: "configmap " + name, Data: data})
	}
	return files, errors.Join(errs...)
}

// listFirst lists by the first version that the API server knows; nil if it
// knows none.
func listFirst(ctx context.Context, client dynamic.Interface, versions []schema.GroupVersionResource) (*unstructured.UnstructuredList, error) {
	for _, v := range versions {
		list, err := client.Resource(v).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", v.Resource, err)
		}
		return list, nil
	}
	return nil, nil
}
