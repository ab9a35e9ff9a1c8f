package ccm

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/herald-lb/herald/cloud"
)

// Prefix of the names under which drivers are cloud providers: herald-hetzner.
const Prefix = "herald-"

// Register makes a driver of package cloud a cloud provider.
func Register(driver string) {
	cloudprovider.RegisterCloudProvider(Prefix+driver, func(r io.Reader) (cloudprovider.Interface, error) {
		return New(r, driver, slog.Default())
	})
}

// Provider is a cloudprovider.Interface with load balancers and nothing else: nodes
// are the business of others.
type Provider struct {
	config cloud.Config
	engine *cloud.Engine
	budget *cloud.Budget
	log    *slog.Logger

	ready    chan struct{} // closed once Initialize knows the cluster
	stop     <-chan struct{}
	once     sync.Once
	host     *host // from SetInformers on
	builder  cloudprovider.ControllerClientBuilder
	client   kubernetes.Interface
	recorder record.EventRecorder
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.InformerUser = (*Provider)(nil)
)

// New makes a provider from a configuration, which may be nil, for a driver; empty
// for the one that the configuration names. It calls nobody.
func New(r io.Reader, driver string, log *slog.Logger) (*Provider, error) {
	c, err := cloud.ParseConfig(r, driver)
	if err != nil {
		return nil, err
	}
	p := &Provider{config: c, log: log.With("cloud", c.Provider), ready: make(chan struct{})}
	transport, err := transport(c)
	if err != nil {
		return nil, err
	}
	count := metrics(c.Provider)
	p.budget = cloud.NewBudget(c.Budget, transport, count.Called)
	d, err := cloud.OpenDriver(c, cloud.Env{HTTP: &http.Client{Transport: p.budget, Timeout: time.Minute}, Log: p.log})
	if err != nil {
		return nil, err
	}
	p.engine = &cloud.Engine{Driver: d, Config: c, Cluster: c.ClusterID, Tell: p.tell, Log: p.log, Count: count}
	return p, nil
}

var registered = struct {
	sync.Mutex
	of map[string]*cloud.Metrics
}{of: map[string]*cloud.Metrics{}}

// metrics of a cloud, registered once in a process.
func metrics(provider string) *cloud.Metrics {
	registered.Lock()
	defer registered.Unlock()
	if registered.of[provider] == nil {
		r := prometheus.NewRegistry()
		registered.of[provider] = cloud.NewMetrics(r, provider)
		legacyregistry.RawMustRegister(collector{r})
	}
	return registered.of[provider]
}

// transport is the one to the API, with the certificates of the configuration.
func transport(c cloud.Config) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the cloud's configuration: caFile: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the cloud's configuration: caFile %s holds no certificate in PEM", c.CAFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

// Initialize finds out which cluster this is. What it starts ends with stop.
func (p *Provider) Initialize(builder cloudprovider.ControllerClientBuilder, stop <-chan struct{}) {
	p.builder, p.client, p.stop = builder, builder.ClientOrDie("herald-cloud"), stop
	p.engine.Live, p.engine.Local = p.live, p.local
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(sink(p.client))
	p.recorder = b.NewRecorder(scheme(), corev1.EventSource{Component: "herald-cloud"})
	for p.engine.Cluster == "" {
		ns, err := p.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err == nil {
			p.engine.Cluster = string(ns.UID)
			break
		}
		p.log.Warn("which cluster this is, the UID of namespace kube-system says: asking again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
	close(p.ready)
}

// SetInformers starts what looks at the cloud without being asked, and what serves the
// Services of Herald's class.
func (p *Provider) SetInformers(factory informers.SharedInformerFactory) {
	p.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-p.stop; cancel() }()
		p.host = newHost(p, factory)
		go p.host.run(ctx)
	})
}

// live asks the API server for a Service.
func (p *Provider) live(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	svc, err := p.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return svc, err
}

func (p *Provider) tell(svc *corev1.Service, warning bool, reason, text string) {
	if p.recorder == nil {
		return
	}
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	p.recorder.Event(svc, kind, reason, text)
}

// LoadBalancer returns what serves Services without a class, if this provider does.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) {
	return balancer{p}, !p.config.ClassOnly
}

// Instances returns none: they are out of use.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// InstancesV2 returns none: it would have controllers delete Nodes whose machine they
// do not find.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return nil, false }

// Zones returns none: they are out of use.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters returns none.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes returns none: they are the business of the network of pods.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }

// ProviderName is herald- and the driver's.
func (p *Provider) ProviderName() string { return Prefix + p.config.Provider }

// HasClusterID is true: each cluster has one, the UID of kube-system if it is given none.
func (p *Provider) HasClusterID() bool { return true }

// class is the loadBalancerClass of Herald's for this cloud.
func (p *Provider) class() string {
	return cmp.Or(p.config.Class, cloud.Prefix+p.config.Provider)
}
