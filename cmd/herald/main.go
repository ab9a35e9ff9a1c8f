// Command herald is the whole of Herald: the controller, the speaker, and the
// tools for people. It holds flags and wiring, and no decisions.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/herald-lb/herald/internal/kube"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "herald:", err)
		os.Exit(exitCode(err))
	}
}

// exitCode returns the code to exit with after err: 2, so that scripts can tell
// it from a failure, if all went well and the answer is one to stop at.
func exitCode(err error) int {
	if errors.Is(err, errLost) || errors.Is(err, errLoss) {
		return 2
	}
	return 1
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "herald",
		Short:         "Herald gives Services of type LoadBalancer an address, announces it, and steers its traffic",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(controllerCommand(), speakerCommand(), prepareCommand(), uninstallCommand(), statusCommand(), explainCommand(), traceCommand(), doctorCommand(), drainCommand(), drillCommand(), planCommand(), migrateCommand(), cloudCommand())
	return cmd
}

// common are the flags of everything that talks to the API.
type common struct {
	kubeconfig, namespace, health, level string
}

func (c *common) flags(cmd *cobra.Command, health string) {
	f := cmd.Flags()
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "file with the API server's address and credentials; without it those of the pod")
	f.StringVar(&c.namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	f.StringVar(&c.health, "health-address", health, "host:port to serve /healthz and /readyz on; empty for none")
	f.StringVar(&c.level, "log-level", "info", "debug, info, warn or error")
}

// logger returns the log of the process, and makes client-go use it too.
func (c *common) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", c.level)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(log)
	return log, nil
}

func (c *common) clients() (kube.Clients, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return kube.Clients{}, fmt.Errorf("--kubeconfig %q: %w", c.kubeconfig, err)
	}
	rest.AddUserAgent(cfg, "herald/"+version)
	return kube.NewClients(cfg)
}
