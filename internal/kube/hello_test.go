package kube

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
)

// greeting runs a Hello for d of fake time, after play has prepared what is to
// happen, and returns the API it spoke to.
func greeting(t *testing.T, d time.Duration, play func(*fake.Clientset, *Hello)) *fake.Clientset {
	t.Helper()
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
	h := &Hello{
		Client: client, Namespace: "herald-system", Node: "n1",
		Facts: func() (snapshot.Speaker, error) {
			return snapshot.Speaker{
				DataPath: "nft", BFD: true, Links: []snapshot.Link{
					{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 0xa1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, Unsteady: true},
				},
				Tunnels: []netip.Addr{mustAddr("192.0.2.1"), mustAddr("2001:db8::1")}, Lacks: []string{"no scheduler mh"}, Hears: []string{"n7"},
			}, nil
		},
		Peers: func() int { return 3 }, Changed: loop.NewBell(), Log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	play(client, h)
	if err := h.Run(ctx); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return client
}

func nothing(*fake.Clientset, *Hello) {}

func said(t *testing.T, client *fake.Clientset) (*coordinationv1.Lease, hello) {
	t.Helper()
	l, err := client.CoordinationV1().Leases("herald-system").Get(t.Context(), "herald-speaker-n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var h hello
	if err := json.Unmarshal([]byte(l.Annotations[annotationSpeaker]), &h); err != nil {
		t.Fatal(err)
	}
	return l, h
}

// writes counts what was done to Leases.
func writes(client *fake.Clientset, verb string) (n int) {
	for _, a := range client.Actions() {
		if a.Matches(verb, "leases") {
			n++
		}
	}
	return n
}

func TestHelloIsWhatPeersRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client := greeting(t, 10500*time.Millisecond, nothing)
		l, h := said(t, client)
		if h.DataPath != "nft" || h.Leaving || !h.BFD || !slices.Equal(h.Hears, []string{"n7"}) || len(h.Links) != 1 || h.Links[0].MAC != "02:00:00:00:00:a1" {
			t.Errorf("it says %+v", h)
		}
		if l.Labels[labelComponent] != componentSpeaker || len(l.OwnerReferences) != 1 || l.OwnerReferences[0].UID != "node-uid" {
			t.Errorf("labels %v, owners %v", l.Labels, l.OwnerReferences)
		}
		if *l.Spec.LeaseDurationSeconds != 3 || l.Spec.RenewTime.Sub(start) < 9500*time.Millisecond {
			t.Errorf("spec %v", l.Spec)
		}
		if n := writes(client, "update"); n < 11 || n > 12 || writes(client, "create") != 1 {
			t.Errorf("%d renewals in 10.5 s, want 11 or 12", n)
		}
		p := newPeers("n1")
		if err := p.observe(l, start); err != nil {
			t.Fatal(err)
		}
		want := []snapshot.Speaker{{
			Node: "n1", DataPath: "nft", BFD: true, Links: []snapshot.Link{
				{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 0xa1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, Unsteady: true},
			},
			Tunnels: []netip.Addr{mustAddr("192.0.2.1"), mustAddr("2001:db8::1")}, Lacks: []string{"no scheduler mh"},
		}}
		if got := p.judge(start).alive; !equalSpeakers(got, want) {
			t.Errorf("peers see %+v", got)
		}
	})
}

// What others have not said, or not so that it can be read, is not known of them.
func TestWhatALeaseSaysOfALink(t *testing.T) {
	for text, want := range map[string]snapshot.Speaker{
		`{"links":[{"name":"eth0","mac":"02:00:00:00:00:a1"}],"bfd":true}`: {BFD: true, Links: []snapshot.Link{{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 0xa1}}}},
		`{"links":[{"name":"eth0","mac":"02-00-00-00-00-A1"}]}`:            {Links: []snapshot.Link{{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 0xa1}}}},
		`{"links":[{"name":"eth0","unsteady":true}]}`:                      {Links: []snapshot.Link{{Name: "eth0", Unsteady: true}}},
		`{"links":[{"name":"eth0"}]}`:                                      {Links: []snapshot.Link{{Name: "eth0"}}},
		`{"links":[{"name":"eth0","mac":"02:00"}]}`:                        {Links: []snapshot.Link{{Name: "eth0"}}},
		`{"links":[{"name":"ib0","mac":"02:00:00:00:00:00:00:a1"}]}`:       {Links: []snapshot.Link{{Name: "ib0"}}},
	} {
		var h hello
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatal(err)
		}
		want.Node = "n2"
		if got := h.speaker("n2"); !equalSpeakers([]snapshot.Speaker{got}, []snapshot.Speaker{want}) {
			t.Errorf("%s: read as %+v, want %+v", text, got, want)
		}
	}
}

func TestLeavingIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := greeting(t, 100*time.Millisecond, func(_ *fake.Clientset, h *Hello) {
			time.AfterFunc(50*time.Millisecond, h.Leave)
		})
		if _, h := said(t, client); !h.Leaving {
			t.Error("peers do not hear of it")
		}
	})
}

func TestALeaseThatIsDeletedComesBackWithTheNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := greeting(t, 1600*time.Millisecond, func(client *fake.Clientset, _ *Hello) {
			time.AfterFunc(500*time.Millisecond, func() {
				_ = client.CoordinationV1().Leases("herald-system").Delete(context.Background(), "herald-speaker-n1", metav1.DeleteOptions{})
			})
		})
		if l, _ := said(t, client); l.Spec.RenewTime == nil || writes(client, "create") != 2 {
			t.Errorf("spec %v after %d creations", l.Spec, writes(client, "create"))
		}
	})
}

// A speaker that misses two renewals in a row judges nobody any more, so one
// refusal must not cost a whole interval.
func TestARenewalThatIsRefusedOrHangsIsMadeGood(t *testing.T) {
	conflict := apierrors.NewConflict(coordinationv1.Resource("leases"), "herald-speaker-n1", errors.New("the object has been modified"))
	for name, trouble := range map[string]func() error{
		"a conflict": func() error { return conflict },
		"a server that hangs": func() error {
			time.Sleep(helloEvery) // which is when the client gives up
			return context.DeadlineExceeded
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var renewed []time.Time
				greeting(t, 6*time.Second, func(client *fake.Clientset, _ *Hello) {
					n := 0
					client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
						if n++; n == 3 {
							return true, nil, trouble()
						}
						renewed = append(renewed, time.Now())
						return false, nil, nil
					})
				})
				for i := range renewed[1:] {
					if gap := renewed[i+1].Sub(renewed[i]); gap > 2*helloEvery {
						t.Errorf("%v without a renewal", gap)
					}
				}
				if len(renewed) < 4 {
					t.Errorf("%d renewals in 6 s", len(renewed))
				}
			})
		})
	}
}

// Who writes what was so before the API server answered lets others act on it.
func TestALeaseSaysWhatIsSoOnceTheAPIServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := greeting(t, 850*time.Millisecond, func(client *fake.Clientset, h *Hello) {
			start, facts := time.Now(), h.Facts
			h.Facts = func() (snapshot.Speaker, error) {
				sp, err := facts()
				sp.Links[0].Unsteady = time.Since(start) < 500*time.Millisecond
				return sp, err
			}
			client.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
				time.Sleep(max(0, 800*time.Millisecond-time.Since(start)))
				return false, nil, nil
			})
		})
		if n := writes(client, "update"); n != 1 {
			t.Fatalf("%d renewals, want the first", n)
		}
		if _, h := said(t, client); h.Links[0].Unsteady {
			t.Error("a link that is steady is said not to be")
		}
	})
}

func TestALargeClusterRenewsSeldom(t *testing.T) {
	for peers, want := range map[int]time.Duration{0: time.Second, 50: time.Second, 51: 2 * time.Second, 1000: 20 * time.Second} {
		h := &Hello{Peers: func() int { return peers }}
		if got := h.every(); got != want {
			t.Errorf("%d speakers: a renewal each %v, want %v", peers, got, want)
		}
	}
}
