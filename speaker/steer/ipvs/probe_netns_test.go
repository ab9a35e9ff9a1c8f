//go:build netns

package ipvs

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestProbeSaysWhatIsMissing(t *testing.T) {
	nettest.Require(t)
	err := Probe()
	if _, missing := netlink.GenlFamilyGet("IPVS"); (err == nil) != (missing == nil) {
		t.Fatalf("Probe() = %v, but the kernel says %v", err, missing)
	}
	if err != nil && !strings.Contains(err.Error(), "load the modules ip_vs") {
		t.Errorf("Probe() = %v, want the remedy", err)
	}
}
