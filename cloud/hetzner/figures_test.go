package hetzner

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud/cloudtest"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// What the engine calls for what happens in a cluster, polls among the reads. These are
// the figures of docs/cloud.md (A1, A2, C1, C2).
func TestFiguresOfTheEngine(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	synctest.Test(t, func(t *testing.T) {
		w := cloudtest.NewWorld(lab(t))
		svc := func(i int) *corev1.Service {
			return cloudtest.Service(fmt.Sprint("web-", i), types.UID(fmt.Sprint("uid-", i)), 80, 443)
		}
		figure := func(what string, reads, writes int, do func()) {
			t.Helper()
			r, n := w.Calls()
			do()
			r2, n2 := w.Calls()
			if r2-r > reads || n2-n != writes {
				t.Errorf("%s: %d reads and %d writes, not %d and %d", what, r2-r, n2-n, reads, writes)
			}
		}
		serveAll := func(nodes int) {
			for i := range 120 {
				w.Serve(t, svc(i), w.Nodes(nodes))
			}
		}
		w.Serve(t, svc(0), w.Nodes(3)) // prices and types are known from here on
		time.Sleep(time.Minute)
		// a list, a list of machines, a poll or two, a list to read it back
		figure("create", 6, 1, func() { w.Serve(t, svc(1), w.Nodes(3)) })
		time.Sleep(time.Minute)
		figure("converged", 2, 0, func() { w.Serve(t, svc(1), w.Nodes(3)) })
		time.Sleep(time.Minute)
		figure("ten events of nodes that change nothing", 2, 0, func() {
			for range 10 {
				w.Serve(t, svc(1), w.Nodes(3))
			}
		})
		time.Sleep(time.Minute)
		serveAll(3)
		time.Sleep(time.Minute)
		w.Restart()
		figure("cold start with 120 Services", 4, 0, func() { serveAll(3) }) // three pages, and the machines
		time.Sleep(time.Minute)
		figure("a node more, 120 Services", 120*5, 120, func() { serveAll(4) })
		figure("delete", 6, 1, func() { w.End(t, svc(1)) })
	})
}
