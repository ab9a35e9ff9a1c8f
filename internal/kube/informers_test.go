package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// A start reads what there is as one list, as it is now, and watches from there.
func TestAStartReadsOneList(t *testing.T) {
	asked := make(chan url.Values, 10)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Query()
		if r.URL.Query().Has("watch") {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		list := corev1.NodeList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"},
			Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n2"}}},
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	t.Cleanup(api.Close) // once the watch has ended with the context of the test
	clients, err := NewClients(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	nodes := informer(watch{clients.Core.CoreV1().RESTClient(), "nodes", "", func(*metav1.ListOptions) {}}, &corev1.Node{}, trimNode)
	go nodes.RunWithContext(t.Context())
	if !cache.WaitForCacheSync(t.Context().Done(), nodes.HasSynced) {
		t.Fatal("it has not synced")
	}
	if n := len(nodes.GetStore().ListKeys()); n != 2 {
		t.Errorf("it has read %d Nodes, want 2", n)
	}
	for _, want := range []map[string]string{
		{"watch": "", "sendInitialEvents": "", "resourceVersion": "", "limit": ""},
		{"watch": "true", "sendInitialEvents": "", "resourceVersion": "7"},
	} {
		select {
		case got := <-asked:
			for key, value := range want {
				if got.Get(key) != value {
					t.Errorf("%s=%q, want %q, in %s", key, got.Get(key), value, fmt.Sprint(got))
				}
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing more is asked")
		}
	}
}
