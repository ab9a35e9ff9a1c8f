// Package all makes all of Herald's drivers known, as cloud providers of
// k8s.io/cloud-provider: herald-hetzner and the like.
package all

import (
	"github.com/herald-lb/herald/cloud/ccm"
	_ "github.com/herald-lb/herald/cloud/hetzner" // known to package cloud
	_ "github.com/herald-lb/herald/cloud/openstack"
	_ "github.com/herald-lb/herald/cloud/webhook"
)

// Drivers are the names of all of them.
var Drivers = []string{"hetzner", "openstack", "webhook"}

func init() {
	for _, name := range Drivers {
		ccm.Register(name)
	}
}
