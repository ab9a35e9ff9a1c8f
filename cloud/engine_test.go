package cloud_test

import (
	"testing"
	"testing/synctest"

	"github.com/herald-lb/herald/cloud/cloudtest"
)

func TestEngine(t *testing.T) {
	run := func(t *testing.T, promise func(*testing.T, *cloudtest.World)) {
		synctest.Test(t, func(t *testing.T) { promise(t, cloudtest.NewWorld(cloudtest.FakeLab(t))) })
	}
	cloudtest.Promises(t, run)
	cloudtest.AddressPromises(t, run)
}
