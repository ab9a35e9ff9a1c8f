package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/herald-lb/herald/e2e/cmd/labkube/credentials"
)

const (
	startLimit = 2 * time.Minute        // to be ready; 3 s on an idle machine
	stopLimit  = 500 * time.Millisecond // each, for the API server and for etcd to finish
)

// clusterIPs are both families' Service addresses; the first of each is the
// API server's own.
const clusterIPs = "10.96.0.0/16,fd00:96::/112"

// controllers are the parts of kube-controller-manager a Service needs:
// endpoints, node life, namespaces and accounts. No scheduler, no workloads:
// the lab binds its pods itself.
var controllers = []string{
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"garbage-collector-controller",
	"namespace-controller",
	"node-lifecycle-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
}

// A plane is a whole control plane in this process.
type plane struct {
	dir       string // absolute
	advertise string // the address of the "kubernetes" endpoint: never loopback
	bind      string
	server    string // the URL in the kubeconfigs
	grace     time.Duration
	extra     []string // more flags for kube-apiserver

	failed chan error // a component that ended on its own
}

func allCommand() *cobra.Command {
	p := &plane{failed: make(chan error, len(components))}
	cmd := &cobra.Command{
		Use:   "all DIR [-- KUBE-APISERVER-FLAGS]",
		Short: "Run the whole control plane in one process; print \"ready\" when it is",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if p.dir, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			p.extra = args[1:]
			return p.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.advertise, "advertise-address", "192.0.2.1", "address of the kubernetes Service's endpoint (not loopback)")
	flags.StringVar(&p.bind, "bind-address", "0.0.0.0", "address the API server listens on")
	flags.StringVar(&p.server, "server-url", "https://127.0.0.1:6443", "URL in the kubeconfigs; its port is the API server's")
	flags.DurationVar(&p.grace, "node-monitor-grace-period", 50*time.Second, "age of a node's last heartbeat that makes it NotReady")
	return cmd
}

// run starts everything, says so, and stops everything when ctx ends.
func (p *plane) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-p.failed:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	api, err := p.prepare()
	if err != nil {
		return err
	}
	// One process, several components that each set up logging: the first wins.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	store, err := startEtcd(ctx, p.dir)
	if err != nil {
		return err
	}
	defer closeEtcd(store)
	apiserver := p.start("kube-apiserver", p.apiserverFlags())
	err = p.await(ctx, api)
	if err == nil {
		fmt.Println("ready")
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	// The API server hears the signal itself. It ends before etcd, or it would
	// wait for etcd for minutes; and its own grace for idle watchers is too
	// long for a lab.
	select {
	case <-apiserver:
	case <-time.After(stopLimit):
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// prepare writes what the components read, and returns a client.
func (p *plane) prepare() (*client, error) {
	server, err := url.Parse(p.server)
	if err != nil || server.Scheme != "https" || server.Hostname() == "" {
		return nil, fmt.Errorf("reading --server-url %q: want https://HOST:PORT", p.server)
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"}
	addrs := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 96, 0, 1), net.ParseIP("fd00:96::1")}
	for _, host := range []string{server.Hostname(), p.advertise} {
		if ip := net.ParseIP(host); ip != nil {
			addrs = append(addrs, ip)
		} else {
			names = append(names, host)
		}
	}
	if err := credentials.Certify(p.pki(""), names, addrs); err != nil {
		return nil, err
	}
	users, err := credentials.Enrol(p.dir, p.pki(""), p.server)
	if err != nil {
		return nil, fmt.Errorf("enrolling the users: %w", err)
	}
	ca, err := os.ReadFile(p.pki(credentials.CACert))
	if err != nil {
		return nil, err
	}
	return newClient(p.server, users[0].Token, ca), nil
}

// await starts kube-controller-manager once there is an API server to talk to,
// and returns when clients may come.
func (p *plane) await(ctx context.Context, api *client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %s", startLimit))
	defer cancel()
	if err := api.await(ctx, "/readyz"); err != nil {
		return err
	}
	p.start("kube-controller-manager", p.controllerFlags())
	// Last of all to appear; without it a namespace is not usable.
	return api.await(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
}

// start runs a component until the process ends or a signal reaches it; the
// channel is closed when it has ended.
func (p *plane) start(name string, flags []string) <-chan struct{} {
	cmd := components[name]()
	cmd.SetArgs(flags)
	cmd.SilenceUsage = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := cmd.Execute(); err != nil {
			p.failed <- fmt.Errorf("running %s: %w", name, err)
		}
	}()
	return done
}

// pki returns the path of a file of the PKI.
func (p *plane) pki(file string) string { return filepath.Join(p.dir, "pki", file) }

func (p *plane) apiserverFlags() []string {
	store, server := etcdURL(p.dir), p.server
	port := "443"
	if u, err := url.Parse(server); err == nil && u.Port() != "" {
		port = u.Port()
	}
	return append([]string{
		"--etcd-servers=" + store.String(),
		"--bind-address=" + p.bind,
		"--advertise-address=" + p.advertise,
		"--secure-port=" + port,
		"--tls-cert-file=" + p.pki(credentials.ServerCert),
		"--tls-private-key-file=" + p.pki(credentials.ServerKey),
		"--client-ca-file=" + p.pki(credentials.CACert),
		"--token-auth-file=" + p.pki(credentials.Tokens),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.pki(credentials.SAPub),
		"--service-account-signing-key-file=" + p.pki(credentials.SAKey),
		"--service-cluster-ip-range=" + clusterIPs,
		"--allow-privileged",
		// Lets pods in whose account's token nobody will ever mount.
		"--disable-admission-plugins=ServiceAccount",
		"--max-requests-inflight=2000",
		"--max-mutating-requests-inflight=1000",
	}, p.extra...)
}

func (p *plane) controllerFlags() []string {
	return []string{
		"--kubeconfig=" + filepath.Join(p.dir, "kcm.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--service-account-private-key-file=" + p.pki(credentials.SAKey),
		"--root-ca-file=" + p.pki(credentials.CACert),
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--concurrent-service-endpoint-syncs=10",
		"--node-monitor-grace-period=" + p.grace.String(),
		"--controllers=" + strings.Join(controllers, ","),
	}
}
