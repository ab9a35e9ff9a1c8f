//go:build netns

package bgp

import (
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
)

// A router that asks for all routes again gets them, in the session that is there.
func TestRoutesAreToldAgain(t *testing.T) {
	for _, j := range judges {
		t.Run(j.name, func(t *testing.T) {
			r := j.start(t, lan(t), ebgp())
			s, _ := run(t)
			w := base("a", "192.0.2.1")
			w.Routes = told
			want(t, s, w)
			awaitUp(t, s, "a")
			awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
			for range 2 {
				before, up := r.updates(t)
				r.again(t)
				nettest.Await(t, "all of it once more", func() bool { now, _ := r.updates(t); return now > before })
				if _, still := r.updates(t); still != up {
					t.Error("the session was closed")
				}
			}
			awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
		})
	}
}
