package all

import (
	"strings"
	"testing"

	cloudprovider "k8s.io/cloud-provider"
)

// Each is made without a configuration, and without a word to anybody (C14); but for
// the webhook, of which nobody knows where it is.
func TestDriversAreKnown(t *testing.T) {
	for _, name := range Drivers {
		p, err := cloudprovider.GetCloudProvider("herald-"+name, nil)
		if name == "webhook" && err != nil && strings.Contains(err.Error(), "endpoint") {
			p, err = cloudprovider.GetCloudProvider("herald-"+name, strings.NewReader("endpoint: http://192.0.2.1:1"))
		}
		if err != nil || p == nil {
			t.Errorf("%s without a configuration is %v (%v)", name, p, err)
			continue
		}
		if _, ok := p.LoadBalancer(); !ok {
			t.Errorf("%s has no load balancers", name)
		}
		if _, err := cloudprovider.GetCloudProvider("herald-"+name, strings.NewReader("provider: "+name+"\nendpoint: http://192.0.2.1:1\n")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
