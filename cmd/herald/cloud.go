package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"

	_ "github.com/herald-lb/herald/cloud/all" // the drivers
	"github.com/herald-lb/herald/cloud/ccm"
)

// What differs from the cloud controller managers of vendors, so that both can run in
// one cluster.
const (
	cloudProvider = "herald" // the one that the configuration names
	cloudLease    = "herald-cloud"
	cloudPort     = 7475
	cloudWorkers  = 10 // one slow answer must not keep all others waiting
)

// guests are the flags that Kubernetes' libraries have put, a --version among them,
// where cobra would find them for all commands.
var guests = pflag.CommandLine

// cloudCommand is the cloud controller manager of k8s.io/cloud-provider with one of its
// controllers, the one for load balancers, and Herald's own beside it.
func cloudCommand() *cobra.Command {
	opts, err := options.NewCloudControllerManagerOptions()
	if err != nil { // its defaults are wrong
		return &cobra.Command{Use: "cloud", RunE: func(*cobra.Command, []string) error { return err }}
	}
	opts.KubeCloudShared.CloudProvider.Name = cloudProvider
	opts.ServiceController.ConcurrentServiceSyncs = cloudWorkers
	opts.Generic.LeaderElection.ResourceName = cloudLease
	opts.SecureServing.BindPort = cloudPort
	opts.Authentication.SkipInClusterLookup = true

	services := map[string]app.ControllerInitFuncConstructor{
		names.ServiceLBController: app.DefaultInitFuncConstructors[names.ServiceLBController],
	}
	stop := make(chan struct{})
	var provider cloudprovider.Interface
	pflag.CommandLine = guests
	cmd := app.NewCloudControllerManagerCommand(opts, func(*config.CompletedConfig) cloudprovider.Interface { return provider },
		services, names.CCMControllerAliases(), cliflag.NamedFlagSets{}, stop)
	pflag.CommandLine = pflag.NewFlagSet("herald", pflag.ContinueOnError)
	cmd.Use, cmd.Short, cmd.Long = "cloud", "Have a cloud's load balancers serve Services", cloudHelp
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		shared := opts.KubeCloudShared.CloudProvider
		if provider, err = openCloud(shared.Name, shared.CloudConfigFile); err != nil {
			return err
		}
		go func() { // as long as the command runs
			<-cmd.Context().Done()
			close(stop)
		}()
		return nil
	}
	sub, plain := conformanceCommand(), &cobra.Command{}
	sub.SetUsageFunc(plain.UsageFunc()) // or else it would show the flags of this one
	sub.SetHelpFunc(plain.HelpFunc())
	cmd.AddCommand(sub)
	return cmd
}

const cloudHelp = `herald cloud serves Services of type LoadBalancer through a cloud's API: those
without a class, and those of class herald-lb.io/PROVIDER. See docs/cloud.md for the
file of --cloud-config.`

// openCloud makes the cloud provider of a name, with a configuration.
func openCloud(name, file string) (cloudprovider.Interface, error) {
	if cmp.Or(name, cloudProvider) != cloudProvider {
		p, err := cloudprovider.InitCloudProvider(name, file)
		if err == nil && p == nil {
			err = fmt.Errorf("--cloud-provider %q is not known", name)
		}
		return p, err
	}
	var r io.Reader
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--cloud-config: %w", err)
		}
		defer f.Close()
		r = f
	}
	return ccm.New(r, "", slog.New(slog.NewTextHandler(os.Stderr, nil)))
}
