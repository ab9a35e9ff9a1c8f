package cloud_test

import (
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// Each metric says what has happened, and stands in the documentation (A7).
func TestMetrics(t *testing.T) {
	doc, err := os.ReadFile("../docs/cloud.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := cloudtest.NewWorld(cloudtest.FakeLab(t))
		r := prometheus.NewRegistry()
		w.Engine.Count = cloud.NewMetrics(r, "test")
		w.Engine.Count.Called("GET /load_balancers", "200", cloud.Updating)
		web, ip := cloudtest.Service("web", "uid-web", 80), cloudtest.Service("ip", "uid-ip", 80)
		ip.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
		w.Serve(t, web, w.Nodes(2))
		addr := netip.MustParseAddr(w.Serve(t, ip, w.Nodes(2)).Ingress[0].IP)
		w.Poke(w.All()[0].ID)
		time.Sleep(time.Minute) // what was listed is old by then
		if _, err := cloudtest.Until(t, func() (any, error) {
			return w.Ensure(cloud.WithLane(t.Context(), cloud.Drifting), web, w.Nodes(2))
		}); err != nil {
			t.Fatal(err)
		}
		known, _, err := w.Lab.Driver.Instances(t.Context(), w.Nodes(2), cloud.LBSpec{})
		if err != nil {
			t.Fatal(err)
		}
		m := cloud.Mover{Engine: w.Engine, Driver: w.Lab.Driver.(cloud.AddressDriver)}
		for _, to := range known { // to the first, and from there to the second
			for range 20 {
				again, err := m.Move(t.Context(), map[netip.Addr]cloud.Placement{addr: {To: to, Able: map[string]bool{to.Instance.ID: true}}})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(min(again, time.Second))
			}
		}
		w.Remove(web)
		time.Sleep(time.Minute)
		if err := w.Audit(t.Context(), []*corev1.Service{ip}, 7); err != nil {
			t.Fatal(err)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
			if !strings.Contains(string(doc), f.GetName()) {
				t.Errorf("docs/cloud.md does not name %s", f.GetName())
			}
		}
		want := map[string]float64{
			"herald_cloud_api_requests_total": 1, "herald_cloud_api_budget_remaining": 7, "herald_cloud_managed": 2,
			"herald_cloud_orphans": 1, "herald_cloud_drift_repairs_total": 1, "herald_cloud_monthly_cost": 8.39, "herald_cloud_failover_seconds": 1,
		}
		if !maps.Equal(got, want) {
			t.Errorf("metrics are %v, want %v", got, want)
		}
	})
}
