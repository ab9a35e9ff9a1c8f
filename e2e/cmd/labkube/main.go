// Command labkube is the control plane of Herald's lab: etcd, kube-apiserver,
// kube-controller-manager and kube-proxy in one binary, the upstream code
// unchanged.
//
//	labkube all DIR [flags]              a whole control plane in one process
//	labkube etcd DIR                     one component alone, for stories that
//	labkube kube-apiserver FLAGS         stop one of them
//	labkube kube-controller-manager FLAGS
//	labkube kube-proxy FLAGS
//
// "all" needs nothing but an empty directory: it makes its own certificates,
// tokens and kubeconfigs, and prints "ready" once clients may come. What it
// holds is thrown away afterwards, so nothing is ever synced to disk.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the components' client metrics
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

// components are run under their own name and with their own flags, as the
// upstream binaries would be.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": kcm.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
}

func main() {
	if len(os.Args) > 1 {
		if command, ok := components[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(cli.Run(command()))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "labkube", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(allCommand(), etcdCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "labkube:", err)
		os.Exit(1)
	}
}
