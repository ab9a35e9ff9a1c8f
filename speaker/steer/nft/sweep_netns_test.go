//go:build netns

package nft

import (
	"context"
	"fmt"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// TestIdleChainsStayFew lets one server have more and more destinations, so
// that it needs another chain each time.
func TestIdleChainsStayFew(t *testing.T) {
	nettest.Require(t)
	k, _ := newKernel(t)
	applied(t, k, []steer.Change{kerneltest.Server(steer.Add, web, "rr", false)})
	for i := range 3 * maxIdle {
		target := fmt.Sprintf("10.0.0.%d:8080", i+1)
		if err := k.Apply(context.Background(), []steer.Change{kerneltest.Dest(steer.Add, web, target, 1)}); err != nil {
			t.Fatal(err)
		}
		chains, err := k.conn.chains()
		if err != nil {
			t.Fatal(err)
		}
		helpers := len(chains) - len(staticChains(DefaultMark))
		if helpers > maxIdle+1 || helpers != len(k.have.helpers) {
			t.Errorf("after %d destinations %d chains are there, %d are known", i+1, helpers, len(k.have.helpers))
		}
	}
}
