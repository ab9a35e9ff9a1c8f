package all

import (
	"strings"
	"testing"

	cloudprovider "k8s.io/cloud-provider"
)

// It is made without asking anybody, with a configuration or none.
func TestHetznerIsKnown(t *testing.T) {
	p, err := cloudprovider.GetCloudProvider("herald-hetzner", nil)
	if err != nil || p == nil {
		t.Fatalf("without a configuration it is %v (%v)", p, err)
	}
	if _, ok := p.LoadBalancer(); !ok {
		t.Error("it has no load balancers")
	}
	if _, err := cloudprovider.GetCloudProvider("herald-hetzner", strings.NewReader("provider: hetzner\nendpoint: http://192.0.2.1:1\n")); err != nil {
		t.Error(err)
	}
}
