package all

import (
	"github.com/herald-lb/herald/cloud/ccm"
	_ "github.com/herald-lb/herald/cloud/hetzner" // known to package cloud
)

func init() { ccm.Register("hetzner") }
