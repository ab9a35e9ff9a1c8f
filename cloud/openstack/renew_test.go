package openstack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/herald-lb/herald/cloud"
)

// A keystone hands out tokens, of which the last is good, and is all other services, too:
// they have nothing.
type keystone struct {
	url string

	mu     sync.Mutex
	tokens int
	closed bool // nobody is let in
}

func (k *keystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch token := r.Header.Get("X-Auth-Token"); {
	case r.URL.Path == "/v3/auth/tokens" && k.closed:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/v3/auth/tokens":
		k.tokens++
		w.Header().Set("X-Subject-Token", fmt.Sprint("token-", k.tokens))
		w.WriteHeader(http.StatusCreated)
		var catalogue []map[string]any
		for _, service := range []string{"load-balancer", "network"} {
			catalogue = append(catalogue, map[string]any{"type": service, "name": service,
				"endpoints": []map[string]any{{"interface": "public", "region": "here", "region_id": "here", "url": k.url}}})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{"catalog": catalogue, "expires_at": "2126-01-01T00:00:00.000000Z"}})
	case r.URL.Path == "/v3/", r.URL.Path == "/v3":
		fmt.Fprintf(w, `{"version": {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": "%s/v3/"}]}}`, k.url)
	case r.URL.Path == "/", r.URL.Path == "/v2.0/": // no token is needed to ask for that
		fmt.Fprintf(w, `{"versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": "%s/v2.0"}]}]}`, k.url)
	case token != fmt.Sprint("token-", k.tokens):
		w.WriteHeader(http.StatusUnauthorized)
	default:
		fmt.Fprint(w, `{"loadbalancers": [], "floatingips": []}`)
	}
}

// end has all tokens be good no more.
func (k *keystone) end(closed bool) (tokens int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tokens, k.closed = k.tokens+1, closed
	return k.tokens
}

// A token that has ended is renewed by the call that finds out, through the budget, and by
// those that were made at the same time.
func TestRenewal(t *testing.T) {
	k := &keystone{}
	s := httptest.NewServer(k)
	defer s.Close()
	k.url = s.URL
	b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, http.DefaultTransport, nil)
	d, err := cloud.OpenDriver(cloud.Config{Provider: "openstack", Endpoint: s.URL + "/v3/"}, cloud.Env{HTTP: &http.Client{Transport: b}})
	if err != nil {
		t.Fatal(err)
	}
	find := func() error {
		_, err := d.Find(t.Context(), owner("web"))
		return err
	}
	if err := find(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tokens := k.end(false)
		errs := make(chan error)
		for range 10 {
			go func() { errs <- find() }()
		}
		for range 10 {
			if err := <-errs; err != nil {
				t.Errorf("with a token that has ended: %v", err)
			}
		}
		if n := k.end(false) - tokens - 1; n != 1 {
			t.Errorf("%d logins", n)
		}
	}
	k.end(true)
	if err := find(); !cloud.Is(err, cloud.Auth) {
		t.Errorf("logins are refused: %v", err)
	}
}
