package kube

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	restfake "k8s.io/client-go/rest/fake"
	"k8s.io/client-go/tools/record"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// peerServer is an API server with one BGPPeer, that counts how often its status is
// written.
func peerServer(t *testing.T, peer *v1alpha1.BGPPeer, writes *int) *restfake.RESTClient {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &restfake.RESTClient{
		GroupVersion: v1alpha1.GroupVersion, VersionedAPIPath: "/apis/herald-lb.io/v1alpha1",
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		Client: restfake.CreateHTTPClient(func(r *http.Request) (*http.Response, error) {
			if r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, "/bgppeers/tor/status") {
				t.Errorf("%s %s", r.Method, r.URL.Path)
			}
			*writes++
			now := peer.DeepCopy()
			if err := json.NewDecoder(r.Body).Decode(now); err != nil {
				t.Error(err)
			}
			now.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "BGPPeer"}
			now.ResourceVersion = strconv.Itoa(1 + *writes)
			body, err := json.Marshal(now)
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}, err
		}),
	}
}

// A session comes and goes a hundred times a second, for two seconds.
func TestASessionThatFlapsIsWrittenAndToldOfOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &v1alpha1.BGPPeer{
			ObjectMeta: metav1.ObjectMeta{Name: "tor", UID: "u", ResourceVersion: "1"},
			Spec:       v1alpha1.BGPPeerSpec{MyASN: 65000, PeerASN: 65001, Address: "192.0.2.1"},
		}
		st, writes := newStage(""), 0
		st.o.Ring = func() {} // the test runs the passes
		events := record.NewFakeRecorder(999)
		w := &StatusWriter{Clients: Clients{Herald: peerServer(t, peer, &writes)}, Source: st.Source, Events: events, Log: slog.New(slog.DiscardHandler)}
		st.bring(st.informers.peers, st.peerChanged, peer, false)
		st.hear()
		pass := func(up bool) {
			s := st.take()
			s.Nodes = []snapshot.Node{{Name: "n1", Peers: []string{"tor"}}}
			one := snapshot.RouterReport{Peer: "tor", Up: up}
			if !up {
				one.Err = "connection refused"
			}
			s.Reports = []snapshot.Report{{Speaker: snapshot.Speaker{Node: "n1"}, Routers: []snapshot.RouterReport{one}}}
			want, _ := controller.Plan(s, controller.Memory{})
			if err := w.Sync(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 200 {
			pass(i%2 == 0)
			time.Sleep(10 * time.Millisecond)
		}
		if writes != 2 || len(events.Events) > 2 {
			t.Errorf("%d writes and %d Events in two seconds", writes, len(events.Events))
		}
		time.Sleep(time.Second)
		pass(false)
		pass(false)
		if got := (<-events.Events); got != "Normal Established all nodes that should have a session have one" {
			t.Errorf("the first Event is %q", got)
		}
		now, _ := newest[*v1alpha1.BGPPeer](st.informers.peers, &st.wrotePeers, "tor")
		if now.Status.Established != "0/1" || len(now.Status.Conditions) != 1 || now.Status.Conditions[0].Message != "n1: connection refused" {
			t.Errorf("in the end its status is %+v", now.Status)
		}
	})
}
