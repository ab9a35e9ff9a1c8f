package cloud_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/herald-lb/herald/cloud/cloudtest"
)

func TestSoak(t *testing.T) {
	for _, seed := range cloudtest.Seeds(1, 2, 3, 4, 5, 6, 7, 8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lab := cloudtest.FakeLab(t)
				cloudtest.Soak(t, seed, cloudtest.NewWorld(lab), cloudtest.FakeConsole(lab))
			})
		})
	}
}
