package kube

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	restfake "k8s.io/client-go/rest/fake"
	"k8s.io/client-go/tools/record"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

func TestConditions(t *testing.T) {
	then := metav1.NewTime(time.Unix(1000, 0))
	was := func(kind string, status metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: "Old", LastTransitionTime: then}
	}
	assigned := snapshot.Condition{Type: markCondition, Status: true, Reason: "Assigned"}
	tests := []struct {
		name string
		have []metav1.Condition
		want []snapshot.Condition
		says string // type status reason, and whether the time is the old one
	}{
		{"a first condition has the time of now", nil, []snapshot.Condition{assigned}, markCondition + " True Assigned new"},
		{"another reason is no transition", []metav1.Condition{was(markCondition, "True")}, []snapshot.Condition{assigned}, markCondition + " True Assigned old"},
		{"another status is", []metav1.Condition{was(markCondition, "False")}, []snapshot.Condition{assigned}, markCondition + " True Assigned new"},
		{"what is somebody else's stays", []metav1.Condition{was("example.com/X", "True")}, []snapshot.Condition{assigned},
			"example.com/X True Old old, " + markCondition + " True Assigned new"},
		{"what is Herald's and not wanted goes", []metav1.Condition{was(markCondition, "True"), was(prefix+"Other", "True")}, nil, ""},
		{"a condition without Herald's prefix is replaced by its type", []metav1.Condition{was("Ready", "True")},
			[]snapshot.Condition{{Type: "Ready", Reason: "Overlap"}}, "Ready False Overlap new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var says []string
			for _, c := range conditions(tt.have, tt.want, 0) {
				age := "new"
				if c.LastTransitionTime == then {
					age = "old"
				}
				says = append(says, strings.Join([]string{c.Type, string(c.Status), c.Reason, age}, " "))
			}
			if got := strings.Join(says, ", "); got != tt.says {
				t.Errorf("got  %s\nwant %s", got, tt.says)
			}
		})
	}
}

func TestServicePatchIsForOneVersionOfOneService(t *testing.T) {
	svc := lb("ns", "a")
	svc.UID, svc.ResourceVersion = "u", "7"
	got, err := json.Marshal(servicePatch(svc, controller.ServiceStatus{Ingress: []snapshot.Ingress{
		{Addr: mustAddr("192.0.2.1"), Mode: "Proxy"}, {Addr: mustAddr("2001:db8::1")}}}))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"metadata":{"resourceVersion":"7","uid":"u"},"status":{"conditions":null,"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"Proxy"},{"ip":"2001:db8::1"}]}}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got, err = json.Marshal(servicePatch(svc, controller.ServiceStatus{}))
	if err != nil || !strings.Contains(string(got), `"ingress":null`) {
		t.Errorf("%v: a released address stays: %s", err, got)
	}
}

// desk is a StatusWriter on a cluster of one Service, of version 1.
func desk(t *testing.T) (*stage, *StatusWriter, *fake.Clientset) {
	t.Helper()
	st := newStage("")
	svc := lb("ns", "a")
	st.service(svc)
	st.hear()
	st.take()
	client := fake.NewClientset(svc.DeepCopy())
	return st, &StatusWriter{
		Clients: Clients{Core: client, Herald: barren(t)}, Source: st.Source, Events: record.NewFakeRecorder(9), Log: slog.New(slog.DiscardHandler),
	}, client
}

// barren is an API server that has none of Herald's own objects.
func barren(t *testing.T) rest.Interface {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &restfake.RESTClient{
		GroupVersion: v1alpha1.GroupVersion, VersionedAPIPath: "/apis/herald-lb.io/v1alpha1",
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		Client: restfake.CreateHTTPClient(func(*http.Request) (*http.Response, error) {
			list := `{"kind":"AddressClaimList","apiVersion":"herald-lb.io/v1alpha1","items":[]}`
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(list))}, nil
		}),
	}
}

func patches(client *fake.Clientset) (n int) {
	for _, a := range client.Actions() {
		if a.Matches("patch", "services") {
			n++
		}
	}
	return n
}

func TestSyncWritesOnlyOverTheVersionThatWasPlannedFor(t *testing.T) {
	st, w, client := desk(t)
	want := controller.Statuses{Services: []controller.ServiceStatus{{
		Key: "ns/a", Version: "0", Ingress: []snapshot.Ingress{{Addr: mustAddr("192.0.2.1"), Mode: "Proxy"}},
		Conditions: []snapshot.Condition{{Type: markCondition, Status: true, Reason: "Assigned", Message: "m"}},
		Events:     []controller.Event{{Reason: "Assigned", Message: "192.0.2.1 from pool lan"}},
	}}}
	if err := w.Sync(t.Context(), want); err != nil || patches(client) != 0 {
		t.Fatalf("%v, %d writes for a version that is not the newest", err, patches(client))
	}
	want.Services[0].Version = "1"
	st.rings = 0
	if err := w.Sync(t.Context(), want); err != nil || patches(client) != 1 {
		t.Fatalf("%v, %d writes, want 1", err, patches(client))
	}
	svc, err := client.CoreV1().Services("ns").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || len(svc.Status.LoadBalancer.Ingress) != 1 || svc.Status.LoadBalancer.Ingress[0].IP != "192.0.2.1" {
		t.Errorf("%v, status %v", err, svc.Status)
	}
	if got := <-w.Events.(*record.FakeRecorder).Events; got != "Normal Assigned 192.0.2.1 from pool lan" {
		t.Errorf("event %q", got)
	}
	if st.rings != 0 {
		t.Errorf("%d rings, though nothing that anybody waits for has changed", st.rings)
	}
}

func TestAWriteThatFreesAnAddressRings(t *testing.T) {
	st, w, client := desk(t)
	svc := lb("ns", "a")
	svc.ResourceVersion = "5"
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	if err := st.informers.services.GetStore().Update(svc); err != nil {
		t.Fatal(err)
	}
	st.rings = 0
	want := controller.Statuses{Services: []controller.ServiceStatus{{Key: "ns/a", Version: "5"}}}
	if err := w.Sync(t.Context(), want); err != nil || patches(client) != 1 || st.rings != 1 {
		t.Errorf("%v, %d writes, %d rings; want one of each: others may wait for what is freed", err, patches(client), st.rings)
	}
}

func TestTheEchoOfAWriteMayComeBeforeTheAnswer(t *testing.T) {
	at := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: version}}
	}
	tests := []struct {
		name    string
		brought []string // by the watch, before the answer
		got     metav1.Object
		news    bool
	}{
		{"the echo is no news", []string{"9"}, at("9"), false},
		{"nor is silence", nil, at("9"), false},
		{"what comes after the echo is", []string{"9", "10"}, at("9"), true},
		{"what comes though the write was refused is", []string{"9"}, nil, true},
		{"a refused write alone is not", nil, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var o overlay
			o.expect("ns/a")
			for _, v := range tt.brought {
				if !o.brought("ns/a", at(v)) {
					t.Errorf("version %s is not held back", v)
				}
			}
			if got := o.settle("ns/a", tt.got); got != tt.news {
				t.Errorf("news = %t, want %t", got, tt.news)
			}
			if o.brought("ns/a", at("11")) {
				t.Error("what comes later is held back as well")
			}
		})
	}
}

func TestErrorsAreNamedUpToAPoint(t *testing.T) {
	var errs []error
	for range 1000 {
		errs = append(errs, errors.New("writing: connection refused"), nil)
	}
	got := some(errs).Error()
	if n := strings.Count(got, "refused"); n != errorsNamed || !strings.HasSuffix(got, "and 995 more like these") {
		t.Errorf("%d named in %q", n, got)
	}
	if some([]error{nil, nil}) != nil {
		t.Error("nothing is wrong, and an error comes of it")
	}
	if got := some(errs[:4]).Error(); strings.Contains(got, "more") {
		t.Errorf("of two errors not all are named: %q", got)
	}
}

func TestWhatChangesAllTheTimeIsWrittenOnceASecondAtMostAndInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rings := make(chan time.Time, 99)
		ring := func() { rings <- time.Now() }
		var p pace
		start := time.Now()
		var wrote []time.Duration
		for range 25 { // a Service each 100 ms
			if p.due(time.Now(), ring) {
				wrote = append(wrote, time.Since(start))
			}
			time.Sleep(100 * time.Millisecond)
		}
		for len(wrote) < 4 { // then only the bell
			<-rings
			if p.due(time.Now(), ring) {
				wrote = append(wrote, time.Since(start))
			}
		}
		if diff := cmp.Diff([]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}, wrote); diff != "" {
			t.Errorf("(-want +wrote):\n%s", diff)
		}
	})
}

// The cache may have what its handlers have not heard of: the first plan of a
// new leader must be made of it all the same.
func TestCatchUpShowsTheNextTakeWhatTheLastLeaderWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, w, client := desk(t)
		wrote := lb("ns", "a")
		wrote.ResourceVersion = "10"
		wrote.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		if _, err := client.CoreV1().Services("ns").UpdateStatus(t.Context(), wrote, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(5*time.Second, func() { _ = st.informers.services.GetStore().Update(wrote) })
		if err := w.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 5*time.Second || d > 8*time.Second {
			t.Errorf("it took %v", d)
		}
		if got := only(t, st.take()).Ingress; len(got) != 1 {
			t.Errorf("the address is not seen: %v", got)
		}
	})
}
