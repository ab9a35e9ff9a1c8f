package look

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/herald-lb/herald/speaker/doctor"
)

func TestKubeProxyIsAskedForItsMode(t *testing.T) {
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/proxyMode" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("nftables"))
	}))
	defer metrics.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	const nobody = "127.0.0.1:1" // a port that nobody gets who does not say which
	at := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	tests := []struct {
		name             string
		healthz, metrics string
		want             doctor.KubeProxy
	}{
		{"both answer", at(other), at(metrics), doctor.KubeProxy{There: true, Mode: "nftables"}},
		{"only the mode is told", nobody, at(metrics), doctor.KubeProxy{There: true, Mode: "nftables"}},
		{"only health is told", at(other), nobody, doctor.KubeProxy{There: true}},
		{"something else answers for the mode", nobody, at(other), doctor.KubeProxy{}},
		{"nobody answers", nobody, nobody, doctor.KubeProxy{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := kubeProxy(t.Context(), tt.healthz, tt.metrics); got != tt.want {
				t.Errorf("kubeProxy() = %v, want %v", got, tt.want)
			}
		})
	}
}
