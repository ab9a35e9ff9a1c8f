package webhook

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/herald-lb/herald/cloud"
)

// sample starts the server in Python and returns its URL.
func sample(t testing.TB, args ...string) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("finding Python, which CI has to have: %v", err)
	case err != nil:
		t.Skipf("finding Python, in which the sample server is written: %v", err)
	}
	cmd := exec.Command(python, append([]string{"sample/server.py", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it was killed
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("the sample server says %q, %v", line, err)
	}
	return url
}

// protocol is openapi.yaml, to look paths up in.
var protocol = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	doc.Servers = nil // any will do
	return gorillamux.NewRouter(doc)
})

// referee passes requests on, and has openapi.yaml judge them and their answers.
type referee struct {
	t      testing.TB
	next   http.RoundTripper
	anyAsk bool // what is asked may be wrong, if it is refused for it

	mu      sync.Mutex
	journal []string // method and path
}

func (r *referee) RoundTrip(req *http.Request) (*http.Response, error) {
	body := drain(r.t, req.Body)
	req.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := r.next.RoundTrip(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal = append(r.journal, req.Method+" "+req.URL.RequestURI())
	if err != nil {
		return nil, err
	}
	answer := drain(r.t, resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	if err := r.judge(req, body, resp, answer); err != nil {
		r.t.Errorf("%s %s\n%s\n-> %d\n%s\nis not as openapi.yaml says: %v", req.Method, req.URL, short(string(body), 400), resp.StatusCode, short(string(answer), 400), err)
	}
	return resp, nil
}

func (r *referee) judge(req *http.Request, body []byte, resp *http.Response, answer []byte) error {
	router, err := protocol()
	if err != nil {
		return err
	}
	again := req.Clone(req.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := router.FindRoute(again)
	if err != nil {
		if r.anyAsk && resp.StatusCode == http.StatusNotFound {
			return nil
		}
		return err
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, SkipSettingDefaults: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	in := &openapi3filter.RequestValidationInput{Request: again, PathParams: params, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(req.Context(), in); err != nil && (!r.anyAsk || resp.StatusCode < 400) {
		return fmt.Errorf("the request: %w", err)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: options}
	out.SetBodyBytes(answer)
	if err := openapi3filter.ValidateResponse(req.Context(), out); err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	return nil
}

// mutations returns the requests so far that are to change something, and forgets
// all.
func (r *referee) mutations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, j := range r.journal {
		if !strings.HasPrefix(j, "GET ") {
			out = append(out, j)
		}
	}
	r.journal = nil
	return out
}

func drain(t testing.TB, body io.ReadCloser) []byte {
	t.Helper()
	if body == nil {
		return nil
	}
	defer body.Close() // read to the end
	text, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("reading a body: %v", err)
	}
	return text
}

// judged returns a driver for a server, and who judges what they say.
func judged(t testing.TB, url string) (*Driver, *referee) {
	t.Helper()
	r := &referee{t: t, next: http.DefaultTransport}
	return driver(t, url, r), r
}

func driver(t testing.TB, url string, rt http.RoundTripper) *Driver {
	t.Helper()
	d, err := open(cloud.Config{Provider: "webhook", Endpoint: url}, cloud.Env{HTTP: &http.Client{Transport: rt}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wait polls until nothing is pending.
func wait(t *testing.T, d *Driver, p cloud.Pending) {
	t.Helper()
	for end := time.Now().Add(time.Minute); p != (cloud.Pending{}); {
		left, err := d.Poll(t.Context(), []cloud.Pending{p})
		if err != nil {
			t.Fatalf("polling %+v: %v", p, err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v is still pending", p)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// carryOut does all of a plan.
func carryOut(t *testing.T, d *Driver, plan cloud.Plan) {
	t.Helper()
	for _, s := range plan {
		p, err := d.Apply(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		wait(t, d, p)
	}
}

func tokenFile(t testing.TB, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// journal notes what is asked.
type journal struct {
	mu  sync.Mutex
	log []string
}

func (j *journal) RoundTrip(req *http.Request) (*http.Response, error) {
	j.mu.Lock()
	j.log = append(j.log, req.Method+" "+req.URL.RequestURI())
	j.mu.Unlock()
	return http.DefaultTransport.RoundTrip(req)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log
}
