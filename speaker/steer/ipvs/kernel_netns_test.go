//go:build netns

package ipvs

import (
	"context"
	"fmt"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// newKernel makes a Kernel whose host is a namespace of its own. It removes
// everything when t ends.
func newKernel(t testing.TB, host *nettest.Namespace) *Kernel {
	t.Helper()
	k := New(Options{
		StateDir: t.TempDir(),
		HostNS:   fmt.Sprintf("/proc/self/fd/%d", host.FD()),
	})
	t.Cleanup(func() {
		if err := k.Remove(context.Background()); err != nil {
			t.Errorf("Remove() = %v", err)
		}
		k.Close()
	})
	return k
}

func TestKernelKeepsItsPromises(t *testing.T) {
	nettest.RequireIPVS(t)
	kerneltest.Run(t, func(t testing.TB) steer.Kernel {
		return newKernel(t, nettest.New(t, "node"))
	})
}
