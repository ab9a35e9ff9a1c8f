package webhook

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

const (
	fine    = `{"version":"v1","capabilities":{"loadBalancers":true,"addresses":true,"protocols":["TCP"],"families":["IPv4"],"delivery":"nodePort"}}`
	mine    = `{"id":"lb-1","state":"ready","addresses":["192.0.2.1"],"owner":{"cluster":"c1","uid":"6f3c2f6e-0001"}}`
	theirs  = `{"id":"lb-2","state":"ready","addresses":["192.0.2.2"],"owner":{"cluster":"c2","uid":"u"}}`
	nothing = `{"items":[]}`
)

// A hostile server answers everything but GET /v1 alike.
type hostile struct {
	name   string
	hello  string // the answer to GET /v1, if not fine
	answer http.HandlerFunc
	class  cloud.Class // of the error of Find
	words  string      // in that error
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have gone
	}
}

// list says the first page, and then the second.
func list(first, second string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "" {
			says(200, first)(w, r)
			return
		}
		says(200, second)(w, r)
	}
}

var hostiles = []hostile{
	{"no JSON", "", says(200, "<html>It works!</html>"), cloud.Retryable, "not of the protocol"},
	{"nothing", "", says(200, ""), cloud.Retryable, "not of the protocol"},
	{"null", "", says(200, "null"), cloud.Retryable, "no items"},
	{"another type", "", says(200, `[]`), cloud.Retryable, "not of the protocol"},
	{"half of it", "", says(200, `{"items":[`+mine), cloud.Retryable, "not of the protocol"},
	{"two of it", "", says(200, nothing+nothing), cloud.Retryable, "not of the protocol"},
	{"items of another case", "", says(200, `{"Items":[]}`), cloud.Retryable, "no items"},
	{"items that are null", "", says(200, `{"items":[null]}`), cloud.Retryable, "is empty"},
	{"no end", "", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"items":[],"x":"`) // the client may have gone
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	}, cloud.Retryable, "longer than 8 MiB"},
	{"cut off", "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, nothing) // the client may have gone
	}, cloud.Retryable, "unexpected EOF"},
	{"hangs up", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, cloud.Retryable, "EOF"},
	{"slow", "", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done(): // not noticed while the request has a body unread
		case <-time.After(time.Second):
		}
	}, cloud.Retryable, "deadline exceeded"},
	{"second page fails", "", list(`{"items":[`+mine+`],"next":"2"}`, `{`), cloud.Retryable, "not of the protocol"},
	{"page leads to itself", "", list(`{"items":[`+mine+`],"next":"2"}`, `{"items":[],"next":"2"}`), cloud.Retryable, "circle"},
	{"page repeats", "", list(`{"items":[`+mine+`],"next":"2"}`, `{"items":[`+mine+`]}`), cloud.Retryable, "twice"},
	{"pages for ever", "", func(w http.ResponseWriter, r *http.Request) {
		says(200, fmt.Sprintf(`{"items":[],"next":"%sx"}`, r.URL.Query().Get("page")))(w, r)
	}, cloud.Retryable, "more than 1000 pages"},
	{"two of one owner", "", says(200, `{"items":[`+mine+`,`+strings.Replace(mine, "lb-1", "lb-2", 1)+`]}`), cloud.Retryable, "second one of its owner"},
	{"somebody else's", "", says(200, `{"items":[`+theirs+`]}`), cloud.Retryable, "for which was not asked"},
	{"nobody's", "", says(200, `{"items":[{"id":"lb-3","state":"ready","addresses":["192.0.2.3"]}]}`), cloud.Retryable, "for which was not asked"},
	{"ready without address", "", says(200, strings.Replace(`{"items":[`+mine+`]}`, `"192.0.2.1"`, "", 1)), cloud.Retryable, "no address"},
	{"no canonical address", "", says(200, strings.Replace(`{"items":[`+mine+`]}`, `192.0.2.1`, "2001:DB8:0::1", 1)), cloud.Retryable, "write 2001:db8::1"},
	{"unheard-of state", "", says(200, strings.Replace(`{"items":[`+mine+`]}`, `ready`, "fine", 1)), cloud.Retryable, "none of ready"},
	{"elsewhere", "", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
	}, cloud.Retryable, "307"},
	{"500", "", says(500, "oops"), cloud.Retryable, "500"},
	{"503 with words", "", says(503, `{"code":"down","message":"back at\n noon","retryAfterSeconds":7}`), cloud.Retryable, "back at  noon"},
	{"400", "", says(400, `{"code":"c","message":"m"}`), cloud.Terminal, "400 c: m"},
	{"401", "", says(401, `{"code":"c","message":"m"}`), cloud.Auth, "401"},
	{"403", "", says(403, ""), cloud.Auth, "403"},
	{"404 of the list", "", says(404, ""), cloud.NotFound, "404"},
	{"409", "", says(409, `{"code":"busy","message":"m"}`), cloud.Locked, "busy"},
	{"409 of somebody else's", "", says(409, `{"code":"conflict","message":"m"}`), cloud.Conflict, "conflict"},
	{"422", "", says(422, `{"code":"c","message":"m"}`), cloud.Terminal, "422"},
	{"422 for the quota", "", says(422, `{"code":"quota","message":"m"}`), cloud.Quota, "quota"},
	{"429", "", says(429, `{"code":"c","message":"m","retryAfterSeconds":7}`), cloud.RateLimited, "429"},
	{"another version", `{"version":"v2","capabilities":{}}`, says(200, nothing), cloud.Retryable, `version "v2" of the protocol, and Herald v1 only`},
	{"no version", `{}`, says(200, nothing), cloud.Retryable, "version"},
	{"can do nothing", `{"version":"v1","capabilities":{"protocols":[],"families":[],"delivery":"vip"}}`, says(200, nothing), cloud.Retryable, "neither loadBalancers nor addresses"},
	{"delivers by pigeon", strings.Replace(fine, "nodePort", "pigeon", 1), says(200, nothing), cloud.Retryable, "delivery"},
}

// Whatever a server says: an error with words and a class, no deletion, no panic.
func TestHostileServers(t *testing.T) {
	for _, tt := range hostiles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, asked := tt.start(t)
			_, err := d.Find(t.Context(), web)
			if err == nil || cloud.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("Find() is %v of class %s, want %q of class %s", err, cloud.ClassOf(err), tt.words, tt.class)
			}
			if all, err := d.List(t.Context(), "c1"); err == nil || all != nil {
				t.Errorf("List() = %v, %v; want an error", all, err)
			}
			tt.act(t, d)
			for _, a := range asked() {
				if strings.HasPrefix(a, "DELETE") {
					t.Errorf("it was asked to %s", a)
				}
			}
		})
	}
}

func (h hostile) start(t *testing.T) (*Driver, func() []string) {
	mux := http.NewServeMux()
	hello := h.hello
	if hello == "" {
		hello = fine
	}
	mux.HandleFunc("GET /v1", says(200, hello))
	mux.HandleFunc("/", h.answer)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	j := &journal{}
	d := driver(t, srv.URL, j)
	if h.name == "slow" {
		d.client.patience = 100 * time.Millisecond
	}
	return d, j.all
}

// act changes things, and asks how far they are: what the server says of neither
// may be believed, but it may have done it.
func (h hostile) act(t *testing.T, d *Driver) {
	step := plan(t, d, webSpec(), nil)[0]
	if p, err := d.Apply(t.Context(), step); err == nil && h.hello == "" {
		t.Errorf("Apply() = %+v, want an error", p)
	}
	waiting := []cloud.Pending{{ID: "ready " + lbPath(key(web))}, {ID: "ready " + addressPath(addressKey(web, "IPv4"))}}
	if left, err := d.Poll(t.Context(), waiting); err == nil && h.hello == "" {
		t.Errorf("Poll() = %+v, want an error", left)
	}
	if r, err := d.Reserve(t.Context(), cloud.AddressSpec{Owner: web, Family: corev1.IPv4Protocol}); err == nil {
		t.Errorf("Reserve() = %+v, want an error", r)
	}
	// Lookup may find what is somebody else's, or nobody's.
	if f, err := d.Lookup(t.Context(), "lb-1"); err == nil && !strings.Contains(h.name, "body") {
		t.Errorf("Lookup() = %+v, want an error", f)
	}
}

// An empty list is one: nothing is there, and what is wanted is made.
func TestEmptyListIsNoError(t *testing.T) {
	d, _ := hostile{answer: says(200, nothing)}.start(t)
	found, err := d.Find(t.Context(), web)
	if err != nil || len(found) != 0 {
		t.Errorf("Find() = %v, %v", found, err)
	}
	if _, err := d.Lookup(t.Context(), "lb-1"); !cloud.Is(err, cloud.NotFound) {
		t.Errorf("Lookup() is %v, want not found", err)
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	for _, tt := range []struct {
		header, body string
		want         time.Duration
	}{
		{"", `{"code":"c","message":"m","retryAfterSeconds":7}`, 7 * time.Second},
		{"9", `{"code":"c","message":"m","retryAfterSeconds":7}`, 7 * time.Second},
		{"9", ``, 9 * time.Second},
		{"-9", ``, 0},
		{"999999999999", ``, time.Hour},
		{"Fri, 31 Dec 1999 23:59:59 GMT", ``, 0},
	} {
		got := refusal(request{Method: "GET", Path: "/v1"}, reply{status: 429, body: []byte(tt.body), after: tt.header}, "")
		if got.After != tt.want {
			t.Errorf("%q, %s: wait %s, want %s", tt.header, tt.body, got.After, tt.want)
		}
	}
}

func TestNoErrorHoldsTheToken(t *testing.T) {
	got := refusal(request{Method: "GET", Path: "/v1"}, reply{status: 401, body: []byte(`{"code":"c","message":"Bearer s3cret is wrong"}`)}, "s3cret")
	if strings.Contains(got.Error(), "s3cret") {
		t.Errorf("the error is %v", got)
	}
}
