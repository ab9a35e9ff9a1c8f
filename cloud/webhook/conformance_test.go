package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func trialOf(url, run string, rt http.RoundTripper) Trial {
	return Trial{URL: url, Run: run, HTTP: &http.Client{Transport: rt}, Targets: DefaultTargets(), Wait: 3 * time.Second}
}

func TestSampleConforms(t *testing.T) {
	for _, args := range [][]string{nil, {"--slow", "0.1"}, {"--token-file", tokenFile(t, "secret")}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			how := trialOf(sample(t, args...), "r1", &referee{t: t, next: http.DefaultTransport, anyAsk: true})
			if len(args) > 0 && args[0] == "--token-file" {
				how.Token = "secret"
			}
			checks, err := Conform(t.Context(), how)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range checks {
				if c.Wrong != nil {
					t.Errorf("%s: %v", c.Name, c.Wrong)
				}
				if c.Skipped != "" && how.Token != "" {
					t.Errorf("%s: was not tried: %s", c.Name, c.Skipped)
				}
			}
		})
	}
}

// flaw is a round trip of which one thing is not as it should be.
type flaw func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte)

func (f flaw) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var failed error
	next := func(req *http.Request, body []byte) (int, []byte) {
		again := req.Clone(req.Context())
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp, err := http.DefaultTransport.RoundTrip(again)
		if err != nil {
			failed = err
			return 0, nil
		}
		defer resp.Body.Close() // read to the end
		answer, err := io.ReadAll(resp.Body)
		failed = err
		return resp.StatusCode, answer
	}
	status, answer := f(req, body, next)
	if failed != nil {
		return nil, failed
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), Request: req}, nil
}

// edit changes the text of every answer.
func edit(change func(string) string) flaw {
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		status, answer := next(req, body)
		return status, []byte(change(string(answer)))
	}
}

// without takes a parameter out of every query.
func without(names ...string) flaw {
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		q := req.URL.Query()
		for _, n := range names {
			q.Del(n)
		}
		again := req.Clone(req.Context())
		again.URL.RawQuery = q.Encode()
		return next(again, body)
	}
}

// instead gives another status and answer, where it applies.
func instead(when func(method, path string, body string) bool, status int, answer string) flaw {
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		if when(req.Method, req.URL.Path, string(body)) {
			return status, []byte(answer)
		}
		return next(req, body)
	}
}

// turned gives another status and answer instead of one of a status.
func turned(method string, from, to int, answer string) flaw {
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		status, was := next(req, body)
		if status == from && req.Method == method {
			return to, []byte(answer)
		}
		return status, was
	}
}

// asked changes the text of every request.
func asked(change func(string) string) flaw {
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		return next(req, []byte(change(string(body))))
	}
}

// changing replaces old by something new in every answer.
func changing(old string, by func(n int64) string) flaw {
	var n atomic.Int64
	return edit(func(s string) string { return strings.ReplaceAll(s, old, by(n.Add(1))) })
}

// racing has PUTs at once go to different owners.
func racing() flaw {
	var flying atomic.Int64
	return func(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
		if req.Method != http.MethodPut {
			return next(req, body)
		}
		n := flying.Add(1)
		defer flying.Add(-1)
		time.Sleep(50 * time.Millisecond) // for the others to come
		if n > 1 {
			req = req.Clone(req.Context())
			req.URL.Path += "-" + strconv.FormatInt(n, 10)
		}
		return next(req, body)
	}
}

// greedy deletes the next owner's as well.
func greedy(req *http.Request, body []byte, next func(*http.Request, []byte) (int, []byte)) (int, []byte) {
	if at := len(req.URL.Path) - 4; req.Method == http.MethodDelete && req.URL.RawQuery == "" {
		if n, err := strconv.Atoi(req.URL.Path[at:]); err == nil {
			more := req.Clone(req.Context())
			more.URL.Path = fmt.Sprintf("%s%04d", req.URL.Path[:at], n+1)
			next(more, nil)
		}
	}
	return next(req, body)
}

// patched changes JSON objects, and leaves alone what is none.
func patched(change func(map[string]any)) func(string) string {
	return func(s string) string {
		var o map[string]any
		if json.Unmarshal([]byte(s), &o) != nil {
			return s
		}
		change(o)
		text, _ := json.Marshal(o) // was JSON
		return string(text)
	}
}

func drop(field string) func(string) string {
	return patched(func(o map[string]any) { delete(o, field) })
}

func replace(old, now string) func(string) string {
	return func(s string) string { return strings.ReplaceAll(s, old, now) }
}

func second(n int64) string { return fmt.Sprintf("203.0.%d.", n%200) }

// flaws are what may be wrong with a server.
var flaws = []struct {
	name string
	flaw flaw
	want string // part of the name of a check
}{
	{"another version", edit(replace(`"v1"`, `"v2"`)), "capabilities"},
	{"no delivery", edit(replace(`"nodePort"}`, `"pigeon"}`)), "capabilities"},
	{"any path is there", turned("GET", 404, 200, `{}`), "a path that is not there"},
	{"errors of a proxy", turned("GET", 404, 404, `<html>not found</html>`), "what is not there is 404, with an error to read"},
	{"errors without words", edit(drop("message")), "what is not there is 404, with an error to read"},
	{"empty lists are null", edit(replace(`"items": []`, `"items": null`)), "a list of nothing"},
	{"it does not echo", edit(drop("spec")), "what was made"},
	{"it echoes half", edit(replace(`"node": "conformance-1"`, `"node": "other"`)), "what was made"},
	{"nobody's", edit(drop("owner")), "what was made"},
	{"address not canonical", edit(replace(`2001:db8::`, `2001:DB8::`)), "what was made"},
	{"ready without address", edit(patched(func(o map[string]any) {
		if o["addresses"] != nil {
			o["addresses"] = []any{}
		}
	})), "what was made"},
	{"one family of two", edit(patched(func(o map[string]any) {
		if a, ok := o["addresses"].([]any); ok {
			o["addresses"] = a[:1]
		}
	})), "what was made"},
	{"all was there before", edit(patched(func(o map[string]any) { o["adopted"] = true })), "what was made"},
	{"the ID changes", changing(`"id": "`, func(n int64) string { return fmt.Sprintf(`"id": "%d-`, n) }), "the same PUT twice"},
	{"the address changes", changing("198.51.100.", second), "the same PUT twice"},
	{"unknown fields are refused", instead(func(_, _, b string) bool { return strings.Contains(b, "x-field") }, 422, `{"code":"invalid","message":"no"}`), "unknown fields"},
	{"unknown fields are echoed", edit(patched(func(o map[string]any) { o["x-field-of-the-future"] = 1 })), "unknown fields"},
	{"anything goes", asked(replace("PIGEON", "TCP")), "load balancers: what is wrong is refused"},
	{"any address goes", asked(replace("IPv5", "IPv4")), "addresses: what is wrong is refused"},
	{"two at once make two", racing(), "load balancers: PUTs at once"},
	{"two at once reserve two", racing(), "addresses: PUTs at once"},
	{"no filters", without("cluster", "uid"), "load balancers: filters"},
	{"no filters of addresses", without("cluster", "uid"), "addresses: filters"},
	{"no lookup", without("ref"), "load balancers: filters"},
	{"no limit", without("limit"), "pages have each"},
	{"every page is the first", without("page"), "pages have each"},
	{"pages in a circle", edit(replace(`"next": "2"`, `"next": "1"`)), "pages have each"},
	{"the second page is the last", edit(replace(`, "next": "2"`, ``)), "pages have each"},
	{"the last page is empty", edit(patched(func(o map[string]any) {
		if l, ok := o["items"].([]any); ok && len(l) == 1 && o["next"] == nil {
			o["items"] = []any{}
		}
	})), "pages have each"},
	{"nothing is deleted", instead(func(m, _, _ string) bool { return m == "DELETE" }, 204, ""), "a deletion is one"},
	{"nothing is left behind?", instead(func(m, _, _ string) bool { return m == "DELETE" }, 204, ""), "left behind"},
	{"too much is deleted", greedy, "a deletion is one"},
	{"twice is an error", turned("DELETE", 404, 500, `{"code":"internal","message":"no"}`), "load balancers: deleting twice"},
	{"twice is an error with addresses", turned("DELETE", 404, 409, `{"code":"busy","message":"no"}`), "addresses: deleting twice"},
	{"to let go is to delete", without("keep"), "let go of"},
	{"to let go is to keep", instead(func(m, _, _ string) bool { return m == "DELETE" }, 204, ""), "let go of"},
	{"anybody may adopt", asked(drop("previous")), "let go of"},
	{"assignments are not followed", edit(replace(`"assignedTo": "conformance-2"`, `"assignedTo": "conformance-1"`)), "one that is assigned moves"},
	{"another family", edit(replace(`"family": "IPv6"`, `"family": "IPv4"`)), "the same PUT twice reserves one"},
	{"never ready", edit(replace(`"state": "ready"`, `"state": "pending"`)), "what was made"},
	{"failed", edit(replace(`"state": "ready"`, `"state": "failed"`)), "what was made"},
	{"unheard-of state", edit(replace(`"state": "ready"`, `"state": "fine"`)), "what was made"},
	{"down", instead(func(m, _, _ string) bool { return m == "PUT" }, 503, ""), "what was made"},
}

// A server with one flaw is told by which promise it breaks.
func TestConformanceTellsWhatIsBroken(t *testing.T) {
	if testing.Short() {
		t.Skip("some thirty runs of the conformance tests")
	}
	url := sample(t)
	for i, tt := range flaws {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			how := trialOf(url, fmt.Sprintf("b%d", i), tt.flaw)
			how.Wait = 300 * time.Millisecond
			checks, err := Conform(t.Context(), how)
			if err != nil {
				t.Fatal(err)
			}
			var wrong []string
			for _, c := range checks {
				if c.Wrong != nil {
					wrong = append(wrong, c.Name)
				}
			}
			if !strings.Contains(strings.Join(wrong, "\n"), tt.want) {
				t.Errorf("what is named is %q, want %q among it", wrong, tt.want)
			}
		})
	}
}

func TestConformanceWantsTheTokenAsked(t *testing.T) {
	how := trialOf(sample(t), "r1", http.DefaultTransport) // which wants none
	how.Token = "secret"
	checks, err := Conform(t.Context(), how)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if wrong := strings.Contains(c.Name, "a wrong token"); wrong != (c.Wrong != nil) {
			t.Errorf("%s: %v", c.Name, c.Wrong)
		}
	}
}

func TestConformanceNeedsAServer(t *testing.T) {
	for _, url := range []string{"http://127.0.0.1:1", "nowhere"} {
		if checks, err := Conform(t.Context(), trialOf(url, "r1", nil)); err == nil {
			t.Errorf("%s: %+v", url, checks)
		}
	}
}
