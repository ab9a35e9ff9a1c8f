package cloud_test

import (
	"testing"
	"testing/synctest"

	"github.com/herald-lb/herald/cloud/cloudtest"
)

func TestEngine(t *testing.T) {
	cloudtest.Promises(t, func(t *testing.T, promise func(*testing.T, *cloudtest.World)) {
		synctest.Test(t, func(t *testing.T) { promise(t, cloudtest.NewWorld(cloudtest.FakeLab(t))) })
	})
}
