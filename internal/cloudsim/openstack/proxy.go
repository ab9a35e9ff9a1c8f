package openstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
)

// byHand is a header of calls that a test makes beside its client.
const byHand = "X-By-Hand"

// A Call is one that a client has made.
type Call struct {
	Service, Method, Path string
	Status                int
}

func (c Call) String() string {
	return fmt.Sprintf("%s %s %s: %d", c.Service, c.Method, c.Path, c.Status)
}

// Changes is whether a call may have changed something.
func (c Call) Changes() bool { return c.Method != http.MethodGet && c.Service != "keystone" }

// A Journal keeps the calls of a project's clients.
type Journal struct {
	mu    sync.Mutex
	calls []*Call
}

// Calls are those since the last Reset.
func (j *Journal) Calls() (all []Call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.calls {
		all = append(all, *c)
	}
	return all
}

// Reset forgets them.
func (j *Journal) Reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = nil
}

func (j *Journal) note(r *http.Request, service string) *Call {
	c := &Call{Service: service, Method: r.Method, Path: r.URL.RequestURI()}
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Header.Get(byHand) == "" {
		j.calls = append(j.calls, c)
	}
	return c
}

// proxy stands before a server. It says who calls, which a server with Keystone
// would know from the token, and counts.
func (p *Project) proxy(port int, service string) http.Handler {
	to := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // links in lists lead back here
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		call := p.note(r, service)
		p.identify(r)
		pass.ServeHTTP(&recorder{w, p.Journal, call}, r)
	})
}

// identify adds what Keystone's middleware would: the project, as a header, to what
// is made, and to lists.
func (p *Project) identify(r *http.Request) {
	r.Header.Set("X-Project-Id", p.ID)
	r.Header.Set("X-Roles", "admin")
	r.Header.Set("X-User-Id", "u")
	switch {
	case r.Method == http.MethodGet && strings.HasSuffix(path.Base(r.URL.Path), "s") && path.Base(r.URL.Path) != "flavors":
		q := r.URL.Query()
		q.Set("project_id", p.ID)
		r.URL.RawQuery = q.Encode()
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v2.0/") && !strings.HasPrefix(r.URL.Path, "/v2.0/lbaas"):
		text, err := io.ReadAll(r.Body)
		var body map[string]map[string]any
		if err == nil && json.Unmarshal(text, &body) == nil {
			for _, what := range body {
				what["tenant_id"] = p.ID
			}
			text, _ = json.Marshal(body) // which was JSON
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	}
}

// A recorder notes the status of an answer before anybody gets to see it.
type recorder struct {
	http.ResponseWriter
	journal *Journal
	call    *Call
}

func (r *recorder) WriteHeader(status int) {
	r.journal.mu.Lock()
	r.call.Status = status
	r.journal.mu.Unlock()
	r.ResponseWriter.WriteHeader(status)
}
