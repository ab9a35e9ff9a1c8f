package cloud

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what Prometheus is told of a cloud. A nil one counts nothing.
type Metrics struct {
	requests *prometheus.CounterVec
	budget   prometheus.Gauge
	managed  *prometheus.GaugeVec
	orphans  prometheus.Gauge
	repairs  prometheus.Counter
	cost     prometheus.Gauge
	failover prometheus.Histogram
}

// NewMetrics registers the metrics of one cloud.
func NewMetrics(r prometheus.Registerer, provider string) *Metrics {
	labels := prometheus.Labels{"provider": provider}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "herald_cloud_api_requests_total", Help: "Calls to the cloud's API, by operation, status code and lane.", ConstLabels: labels}, []string{"op", "code", "lane"}),
		budget:   gauge("herald_cloud_api_budget_remaining", "Calls that may be made now."),
		managed:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "herald_cloud_managed", Help: "Resources in the cloud that are this cluster's, by kind.", ConstLabels: labels}, []string{"kind"}),
		orphans:  gauge("herald_cloud_orphans", "Resources in the cloud whose Service is gone."),
		repairs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "herald_cloud_drift_repairs_total", Help: "Load balancers that were changed by others, and changed back.", ConstLabels: labels}),
		cost:     gauge("herald_cloud_monthly_cost", "What this cluster's resources cost in a month, net, in the cloud's currency."),
	}
	m.failover = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "herald_cloud_failover_seconds", ConstLabels: labels,
		Help:    "How long addresses were routed to a machine that did not serve them, from when that was known.",
		Buckets: []float64{.1, .25, .5, 1, 2, 5, 10, 30, 60, 300}})
	r.MustRegister(m.requests, m.budget, m.managed, m.orphans, m.repairs, m.cost, m.failover)
	return m
}

// Called counts one call; for NewBudget.
func (m *Metrics) Called(op, code string, l Lane) {
	if m != nil {
		m.requests.WithLabelValues(op, code, l.String()).Inc()
	}
}

func (m *Metrics) repaired() {
	if m != nil {
		m.repairs.Inc()
	}
}

// moved counts an address that was routed to another machine.
func (m *Metrics) moved(took time.Duration, dark bool) {
	if m != nil && dark {
		m.failover.Observe(took.Seconds())
	}
}

// bill notes what there is, and what it costs.
func (m *Metrics) bill(all []Found, orphans int, left int) {
	if m == nil {
		return
	}
	count := map[Kind]int{LoadBalancer: 0, Address: 0}
	var milli int64
	for _, f := range all {
		count[f.Kind]++
		milli += f.Cost.Milli
	}
	for kind, n := range count {
		m.managed.WithLabelValues(string(kind)).Set(float64(n))
	}
	m.cost.Set(float64(milli) / 1000)
	m.orphans.Set(float64(orphans))
	m.budget.Set(float64(left))
}
