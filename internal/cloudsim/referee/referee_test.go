package referee

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const errorBody = `{"error": {"code": "not_found", "message": "no", "details": null}}`

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name               string
		method, path, body string
		status             int
		answer             string
		want               []string // parts of the verdicts, in order
	}{
		{"an error is an answer", "GET", "/load_balancers/1", "", 404, errorBody, nil},
		{"a list", "GET", "/locations?page=1", "", 200, `{"locations": [], "meta": {"pagination": {"page": 1, "per_page": 25,
			"previous_page": null, "next_page": null, "last_page": 1, "total_entries": 0}}}`, nil},
		{"a list without pages", "GET", "/locations", "", 200, `{"locations": []}`, []string{"answer 200: response body"}},
		{"an error without a code", "GET", "/load_balancers/1", "", 404, `{"error": {"message": "no"}}`, []string{`"code" is missing`}},
		{"no such path", "GET", "/balancers", "", 404, errorBody, []string{"request: no matching operation"}},
		{"no such method", "PATCH", "/load_balancers/1", "", 404, errorBody, []string{"request: method not allowed"}},
		{"a status that is none of its", "GET", "/load_balancers/1", "", 302, `{}`, []string{"answer 302: status is not supported"}},
		{"an action after a deletion", "DELETE", "/load_balancers/1", "", 201, `{"action": {"id": 1, "command": "delete_load_balancer",
			"status": "running", "progress": 0, "started": "2026-10-06T12:00:00Z", "finished": null, "error": null, "resources": []}}`, nil},
		{"nothing after a deletion, as until October", "DELETE", "/load_balancers/1", "", 204, "", []string{"answer 204: status is not supported"}},
		{"a new one without a name", "POST", "/load_balancers", `{"load_balancer_type": "lb11"}`, 422, errorBody, []string{`/name: property "name" is missing`}},
		{"unknown addresses of a new one", "POST", "/load_balancers", `{"name": "a", "load_balancer_type": "lb11", "public_net": {"ipv5": 1}}`, 422, errorBody,
			[]string{"/public_net: property \"ipv5\" is unsupported"}},
		{"a floating IP to a server by name", "POST", "/floating_ips/1/actions/assign", `{"server": "a"}`, 422, errorBody, []string{"/server: value must be an integer"}},
		{"request and answer", "POST", "/floating_ips/1/actions/assign", `{}`, 201, `{}`, []string{"request: ", "answer 201: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := New(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if got, _ := io.ReadAll(req.Body); string(got) != tt.body {
					t.Errorf("behind the referee the body is %q", got)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.answer)
			}))
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			answer := httptest.NewRecorder()
			r.ServeHTTP(answer, req)
			if answer.Code != tt.status || answer.Body.String() != tt.answer || r.Seen() != 1 {
				t.Errorf("before the referee: %d %s", answer.Code, answer.Body)
			}
			got := r.Verdicts()
			same := slices.EqualFunc(got, tt.want, strings.Contains)
			if !same {
				t.Errorf("verdicts %q\nwant     %q", got, tt.want)
			}
		})
	}
}

func TestOverlay(t *testing.T) {
	if len(overlay) > 10 {
		t.Errorf("%d amendments: the document is too old, get a newer one", len(overlay))
	}
	for _, a := range overlay {
		if _, err := time.Parse(time.DateOnly, a.date); err != nil || a.what == "" {
			t.Errorf("amendment %q of %q: %v", a.what, a.date, err)
		}
	}
	if _, err := load(nil); err != nil {
		t.Errorf("without amendments: %v", err)
	}
}

// A fake that keeps what a test would be failed with.
type recorder struct {
	testing.TB
	cleanup  []func()
	failures int
}

func (r *recorder) Helper()               {}
func (r *recorder) Cleanup(f func())      { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(string, ...any) { r.failures++ }

func TestWatchFailsTheTest(t *testing.T) {
	rec := &recorder{}
	r := Watch(rec, http.NotFoundHandler())
	r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/nowhere", nil))
	for _, f := range rec.cleanup {
		f()
	}
	if rec.failures != 1 {
		t.Errorf("%d failures, want 1", rec.failures)
	}
}
