package kubetest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/e2e/lab"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/loop"
)

const heraldNamespace = "herald-system"

// patience is for what a loaded machine does within a few seconds.
const patience = time.Minute

// shared is the API server of all tests.
var shared struct {
	cp     *lab.ControlPlane
	config *rest.Config // with the rights of Herald's controller
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubetest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	id := fmt.Sprintf("herald-%d-", os.Getpid())
	shared.cp, err = lab.StartControlPlane(ctx, id, filepath.Join(os.TempDir(), id+"lab"))
	if err != nil {
		return 1, err
	}
	defer func() {
		if stop := shared.cp.Close(); stop != nil {
			code, err = 1, stop
		}
	}()
	path, err := shared.cp.Forward(ctx)
	if err != nil {
		return 1, err
	}
	near, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return 1, err
	}
	shared.config, err = clientcmd.BuildConfigFromFlags("", shared.cp.Kubeconfig("controller"))
	if err != nil {
		return 1, err
	}
	shared.config.Host = near.Host
	return m.Run(), nil
}

// A cluster is the API server with a namespace and a pool for one test.
type cluster struct {
	t         *testing.T
	api       kubernetes.Interface // with all rights
	namespace string
}

func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	c := &cluster{t: t, api: shared.cp.API, namespace: name}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.api.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pool := fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: AddressPool, metadata: {name: %s}, spec: {addresses: [10.99.0.0/16]}}", name)
	if err := shared.cp.API.Apply(t.Context(), "", pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := shared.cp.API.Delete(ctx, "", pool); err != nil {
			t.Error(err)
		}
		for _, s := range c.services() {
			if err := c.api.CoreV1().Services(name).Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// create makes Services s000 to s(n-1).
func (c *cluster) create(n int) {
	c.t.Helper()
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < n; i += 4 {
				svc := &corev1.Service{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%03d", i)},
					Spec: corev1.ServiceSpec{
						Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: ptr.To(false),
						Ports: []corev1.ServicePort{{Port: 80}},
					},
				}
				if _, err := c.api.CoreV1().Services(c.namespace).Create(c.t.Context(), svc, metav1.CreateOptions{}); err != nil {
					c.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (c *cluster) services() []corev1.Service {
	c.t.Helper()
	list, err := c.api.CoreV1().Services(c.namespace).List(context.WithoutCancel(c.t.Context()), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

// settled complains of a Service that has not exactly one address of its own.
func (c *cluster) settled() error {
	owner := map[netip.Addr]string{}
	for _, s := range c.services() {
		addrs := lab.Addresses(&s)
		if len(addrs) != 1 {
			return fmt.Errorf("%s has %v", s.Name, addrs)
		}
		if other, taken := owner[addrs[0]]; taken {
			return fmt.Errorf("%s and %s have %s", other, s.Name, addrs[0])
		}
		owner[addrs[0]] = s.Name
	}
	return nil
}

// eventually waits until cond has nothing to complain of.
func (c *cluster) eventually(cond func() error) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		err := cond()
		if err == nil {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after %s: %v", patience, err)
		}
	}
}

// A counter counts the writes of statuses.
type counter struct{ services, pools atomic.Int64 }

func (c *counter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/status") {
			if strings.Contains(r.URL.Path, "/services/") {
				c.services.Add(1)
			} else {
				c.pools.Add(1)
			}
		}
		return next.RoundTrip(r)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A replica is a controller in this process, as cmd/herald puts it together.
type replica struct {
	identity string
	// lease is one of the test's own, for several that lead at once; "" is
	// the one that Herald's role allows.
	lease  string
	count  *counter
	passed func()
}

// start runs r until stop is called, which waits for its end.
func (r replica) start(t *testing.T) (stop func()) {
	t.Helper()
	cfg := rest.CopyConfig(shared.config)
	if r.count != nil {
		cfg.Wrap(r.count.wrap)
	}
	clients, err := kube.NewClients(cfg)
	if err != nil {
		t.Fatal(err)
	}
	bell, log := loop.NewBell(), slog.New(slog.DiscardHandler)
	source, err := kube.NewSource(clients, kube.Options{Classes: kube.Classes{Default: true}, Namespace: heraldNamespace, Ring: bell.Ring, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	writer := &kube.StatusWriter{Clients: clients, Source: source, Events: &record.FakeRecorder{}, Log: log}
	lead := kube.Leadership{Client: clients.Core, Namespace: heraldNamespace, Name: "herald-controller", Identity: r.identity, Log: log}
	if r.lease != "" {
		lead.Client, lead.Name = shared.cp.API, r.lease
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = source.Run(ctx) })
	running.Go(func() {
		err := kube.Lead(ctx, lead, func(ctx context.Context) {
			if writer.CatchUp(ctx) != nil {
				return
			}
			c := controller.Controller{Take: source.Take, Writer: writer, Passed: r.passed}
			l := loop.Loop{Bell: bell, Pass: c.Pass, Gap: time.Millisecond, Resync: time.Minute, Retry: 100 * time.Millisecond, Log: log}
			l.Run(ctx)
		})
		if err != nil {
			t.Error(err)
		}
	})
	return sync.OnceFunc(func() { cancel(); running.Wait() })
}
