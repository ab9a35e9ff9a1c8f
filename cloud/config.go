package cloud

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Config is the file of --cloud-config.
type Config struct {
	// Provider is the name of the driver: hetzner, openstack or webhook.
	Provider string `json:"provider"`
	// ClusterID marks what is this cluster's in the cloud; empty for the UID of the
	// namespace kube-system. Set it to keep what there is when a cluster is built anew.
	ClusterID string `json:"clusterID,omitempty"`
	// Endpoint is the API's URL, where it is not the cloud's own.
	Endpoint string `json:"endpoint,omitempty"`
	// TokenFile holds the API's token. It is read again when it changes.
	TokenFile string `json:"tokenFile,omitempty"`
	// CAFile holds certificates, in PEM, that the API's has to be signed by.
	CAFile      string       `json:"caFile,omitempty"`
	Defaults    Defaults     `json:"defaults,omitempty"`
	HealthCheck HealthConfig `json:"healthCheck,omitempty"`
	Budget      BudgetConfig `json:"budget,omitempty"`
	Drift       DriftConfig  `json:"drift,omitempty"`
	GC          GCConfig     `json:"gc,omitempty"`
	Limits      Limits       `json:"limits,omitempty"`
	// DryRun says what would be done, and does none of it.
	DryRun bool `json:"dryRun,omitempty"`
	// Class is the loadBalancerClass that is served; empty for herald-lb.io/ and the
	// provider. ClassOnly leaves Services without a class to others.
	Class     string `json:"class,omitempty"`
	ClassOnly bool   `json:"classOnly,omitempty"`
	// Compat reads the annotations of hcloud-cloud-controller-manager and of OpenStack's
	// on Services as well as Herald's, which win.
	Compat bool `json:"compatAnnotations,omitempty"`
	// Namespace is where Herald's speakers have their Leases: by these it is known to which
	// nodes addresses can be routed.
	Namespace string `json:"namespace,omitempty"`
	// OpenStack is read by the driver of that name only.
	OpenStack OpenStackConfig `json:"openstack,omitempty"`
}

// Defaults are for Services that do not say it themselves by annotations.
type Defaults struct {
	Type         string `json:"type,omitempty"`
	Location     string `json:"location,omitempty"`
	Network      string `json:"network,omitempty"`
	Subnet       string `json:"subnet,omitempty"`
	UsePrivateIP bool   `json:"usePrivateIP,omitempty"`
	Algorithm    string `json:"algorithm,omitempty"`
	// ServeWith is load-balancer, which is what it is if it is empty, or floating-ip.
	ServeWith ServeWith `json:"serveWith,omitempty"`
}

// HealthMode is how targets of Services with externalTrafficPolicy Cluster are
// asked whether they serve.
type HealthMode string

// Modes of health checks. Auto is KubeProxy over a private network, and else
// NodePort.
const (
	HealthAuto      HealthMode = "auto"
	HealthNodePort  HealthMode = "nodeport"  // a TCP connection to the nodePort
	HealthKubeProxy HealthMode = "kubeproxy" // HTTP to Port and Path
)

// HealthConfig is how targets are asked whether they serve.
type HealthConfig struct {
	Mode     HealthMode      `json:"mode,omitempty"`
	Port     int32           `json:"port,omitempty"`
	Path     string          `json:"path,omitempty"`
	Interval metav1.Duration `json:"interval,omitempty"`
	Timeout  metav1.Duration `json:"timeout,omitempty"`
	Retries  int             `json:"retries,omitempty"`
}

// BudgetConfig bounds the calls to the API.
type BudgetConfig struct {
	// RequestsPerHour is what this process may ask for of what the project may.
	RequestsPerHour int `json:"requestsPerHour,omitempty"`
	// ReserveForFailover is the part, in percent, kept for addresses that have to move.
	ReserveForFailover int `json:"reserveForFailover,omitempty"`
}

// DriftConfig is how often the cloud is looked at without cause.
type DriftConfig struct {
	Interval metav1.Duration `json:"interval,omitempty"`
}

// GCMode is what is done about resources whose Service is gone.
type GCMode string

// Modes of garbage collection.
const (
	GCReport GCMode = "report"
	GCDelete GCMode = "delete"
)

// GCConfig is about resources whose Service is gone.
type GCConfig struct {
	Mode GCMode `json:"mode,omitempty"`
	// Grace is for how long its Service has to be gone.
	Grace     metav1.Duration `json:"grace,omitempty"`
	MaxPerRun int             `json:"maxPerRun,omitempty"`
}

// Limits bound the bill. Zero and empty are no limit.
type Limits struct {
	MaxLoadBalancers  int      `json:"maxLoadBalancers,omitempty"`
	MaxAddresses      int      `json:"maxAddresses,omitempty"`
	MaxMonthlyCost    float64  `json:"maxMonthlyCost,omitempty"` // in the cloud's currency, net
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`
}

// OpenStackConfig is where to reach OpenStack. What is empty is read from the
// environment (OS_AUTH_URL and the like) or clouds.yaml.
type OpenStackConfig struct {
	Cloud string `json:"cloud,omitempty"` // of clouds.yaml
	// Region of the catalogue.
	Region string `json:"region,omitempty"`
	// FloatingNetwork is the network, by name or ID, of which public addresses are; none
	// are made without.
	FloatingNetwork string `json:"floatingNetwork,omitempty"`
	// Provider is Octavia's: amphora, ovn.
	Provider string `json:"provider,omitempty"`
	// ClusterName is what OpenStack's own controller called this cluster (--cluster-name),
	// for Services that adopt what it has made; empty for kubernetes.
	ClusterName string `json:"clusterName,omitempty"`
}

// ParseConfig reads a configuration; what it does not know is an error that names
// it. A nil reader is an empty file, of a given provider.
func ParseConfig(r io.Reader, provider string) (Config, error) {
	c := defaultConfig()
	if r != nil {
		text, err := io.ReadAll(r)
		if err != nil {
			return Config{}, fmt.Errorf("reading the cloud's configuration: %w", err)
		}
		if err := yaml.UnmarshalStrict(text, &c); err != nil {
			return Config{}, fmt.Errorf("the cloud's configuration: %w", err)
		}
	}
	if c.Provider == "" {
		c.Provider = provider
	}
	return c, c.check(provider)
}

func defaultConfig() Config {
	return Config{
		HealthCheck: HealthConfig{Mode: HealthAuto, Port: 10256, Path: "/healthz",
			Interval: metav1.Duration{Duration: 15 * time.Second}, Timeout: metav1.Duration{Duration: 10 * time.Second}, Retries: 3},
		Budget: BudgetConfig{RequestsPerHour: 3000, ReserveForFailover: 25},
		Drift:  DriftConfig{Interval: metav1.Duration{Duration: 5 * time.Minute}},
		GC:     GCConfig{Mode: GCReport, Grace: metav1.Duration{Duration: time.Hour}, MaxPerRun: 3},

		Namespace: "herald-system",
	}
}

func (c Config) check(provider string) error {
	var errs []error
	wrong := func(is bool, text string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf("the cloud's configuration: "+text, args...))
		}
	}
	oneOf := func(m string, all ...string) bool { return strings.Contains(" "+strings.Join(all, " ")+" ", " "+m+" ") }
	wrong(provider != "" && c.Provider != provider, "provider is %q, and this is %q", c.Provider, provider)
	wrong(len(c.ClusterID) > 63, "clusterID is longer than 63 characters")
	wrong(!oneOf(string(c.HealthCheck.Mode), "auto", "nodeport", "kubeproxy"), "healthCheck.mode %q: use auto, nodeport or kubeproxy", c.HealthCheck.Mode)
	wrong(c.HealthCheck.Port < 1 || c.HealthCheck.Port > 65535, "healthCheck.port %d is no port", c.HealthCheck.Port)
	wrong(!strings.HasPrefix(c.HealthCheck.Path, "/"), "healthCheck.path %q does not begin with /", c.HealthCheck.Path)
	wrong(c.HealthCheck.Timeout.Duration > c.HealthCheck.Interval.Duration, "healthCheck.timeout is longer than healthCheck.interval")
	wrong(c.Budget.RequestsPerHour < 60, "budget.requestsPerHour %d: use 60 or more", c.Budget.RequestsPerHour)
	wrong(c.Budget.ReserveForFailover < 0 || c.Budget.ReserveForFailover > 90, "budget.reserveForFailover %d: use 0 to 90, in percent", c.Budget.ReserveForFailover)
	wrong(c.Drift.Interval.Duration < 10*time.Second, "drift.interval %s: use 10s or more", c.Drift.Interval.Duration)
	wrong(!oneOf(string(c.GC.Mode), "report", "delete"), "gc.mode %q: use report or delete", c.GC.Mode)
	wrong(c.GC.Grace.Duration < time.Minute, "gc.grace %s: use 1m or more", c.GC.Grace.Duration)
	wrong(c.GC.MaxPerRun < 1, "gc.maxPerRun %d: use 1 or more", c.GC.MaxPerRun)
	wrong(!oneOf(string(c.Defaults.ServeWith), "", "load-balancer", "floating-ip"), "defaults.serveWith %q: use load-balancer or floating-ip", c.Defaults.ServeWith)
	wrong(c.Namespace == "", "namespace is empty: name the one of Herald's speakers")
	wrong(c.Limits.MaxLoadBalancers < 0 || c.Limits.MaxAddresses < 0 || c.Limits.MaxMonthlyCost < 0, "limits are not negative")
	return errors.Join(errs...)
}

// Token returns the API's token: what tokenFile holds now, or else the value of an
// environment variable. It is not part of any error.
func (c Config) Token(variable string) (string, error) {
	if c.TokenFile == "" {
		if t := strings.TrimSpace(os.Getenv(variable)); t != "" {
			return t, nil
		}
		return "", &Error{Class: Auth, Reason: "CloudAuthFailed", Text: "there is no token: set tokenFile, or the environment variable " + variable}
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", &Error{Class: Auth, Reason: "CloudAuthFailed", Text: "reading tokenFile", Err: err}
	}
	if t := strings.TrimSpace(string(text)); t != "" {
		return t, nil
	}
	return "", &Error{Class: Auth, Reason: "CloudAuthFailed", Text: "tokenFile " + c.TokenFile + " is empty"}
}
