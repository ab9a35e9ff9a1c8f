package stories

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// A register that sees nothing wrong proves something only if it would.
func TestARegisterSeesWhatLastsForAMoment(t *testing.T) {
	is := func(kind watch.EventType, name, uid, addr string) watch.Event {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
		if addr != "" {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}}
		}
		return watch.Event{Type: kind, Object: s}
	}
	tests := []struct {
		name   string
		events []watch.Event
		wrong  int
	}{
		{"each has an address of its own",
			[]watch.Event{is(watch.Added, "a", "1", ""), is(watch.Modified, "a", "1", "192.0.2.1"), is(watch.Added, "b", "2", "192.0.2.2")}, 0},
		{"an address goes on to another when its service is gone",
			[]watch.Event{is(watch.Added, "a", "1", "192.0.2.1"), is(watch.Deleted, "a", "1", "192.0.2.1"), is(watch.Added, "b", "2", "192.0.2.1")}, 0},
		{"a name comes back with another address",
			[]watch.Event{is(watch.Added, "a", "1", "192.0.2.1"), is(watch.Deleted, "a", "1", "192.0.2.1"), is(watch.Added, "a", "2", "192.0.2.2")}, 0},
		{"two have one address, and then no more",
			[]watch.Event{is(watch.Added, "a", "1", "192.0.2.1"), is(watch.Added, "b", "2", "192.0.2.1"), is(watch.Deleted, "b", "2", "192.0.2.1")}, 1},
		{"an address changes and changes back",
			[]watch.Event{is(watch.Added, "a", "1", "192.0.2.1"), is(watch.Modified, "a", "1", "192.0.2.2"), is(watch.Modified, "a", "1", "192.0.2.1")}, 2},
		{"an address is lost",
			[]watch.Event{is(watch.Added, "a", "1", "192.0.2.1"), is(watch.Modified, "a", "1", "")}, 1},
		{"the watch ends", []watch.Event{{Type: watch.Error, Object: &metav1.Status{}}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegister()
			for _, e := range tt.events {
				r.note(e)
			}
			if len(r.wrong) != tt.wrong {
				t.Errorf("it says %q, want %d complaints", r.wrong, tt.wrong)
			}
		})
	}
}
