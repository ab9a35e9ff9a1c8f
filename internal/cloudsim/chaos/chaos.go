// Package chaos makes calls to an API go wrong, in front of any handler or
// upstream server.
//
// It owns rules that say which calls are spoiled and how, and counts what it
// forwards. It knows of no cloud: what it does to lists and errors is common
// to those that answer in JSON. It retries nothing, and never spoils a call
// that no rule is for.
//
// Every answer closes its connection. Otherwise Go's HTTP client would quietly
// repeat a GET that was dropped, which is the client under test's to decide.
package chaos

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"sync"
)

// An Effect answers a request in place of next, which it may call or not.
type Effect func(w http.ResponseWriter, r *http.Request, next http.Handler)

// A Rule spoils some of the calls that match it.
type Rule struct {
	Method string         // any if empty
	Path   *regexp.Regexp // any if nil
	Skip   int            // this many that match go unharmed first
	Times  int            // then this many are spoiled; all if 0
	Do     Effect

	matched int
}

// A Proxy stands in front of an API.
type Proxy struct {
	next http.Handler

	mu            sync.Mutex // guards all below
	rules         []*Rule
	crashes       []*crash
	reads, writes int
}

// New returns a Proxy that harms nothing yet.
func New(next http.Handler) *Proxy { return &Proxy{next: next} }

// Upstream is the handler for New that forwards to a server.
func Upstream(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = to.Host
	}}
}

// Add makes a rule hold from now on. Of several that match, the oldest that is
// not used up is followed, and only that one.
func (p *Proxy) Add(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &r)
}

// Calm drops all rules and crashes, and begins to count anew.
func (p *Proxy) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.crashes, p.reads, p.writes = nil, nil, 0, 0
}

// Reads is how many calls came that change nothing.
func (p *Proxy) Reads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads
}

// Writes is how many calls came that ask for a change, spoiled or not.
func (p *Proxy) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	effect := p.choose(r)
	if effect == nil {
		p.next.ServeHTTP(w, r)
		return
	}
	effect(w, r, p.next)
}

// choose counts a call and says how it is spoiled; nil is not at all.
func (p *Proxy) choose(r *http.Request) Effect {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isWrite(r) {
		p.writes++
	} else {
		p.reads++
	}
	for _, c := range p.crashes {
		if c.due(r) {
			return c.effect
		}
	}
	for _, rule := range p.rules {
		if rule.due(r) {
			return rule.Do
		}
	}
	return nil
}

// due counts a call, and reports whether it is one to spoil.
func (rule *Rule) due(r *http.Request) bool {
	if (rule.Method != "" && rule.Method != r.Method) || (rule.Path != nil && !rule.Path.MatchString(r.URL.Path)) {
		return false
	}
	rule.matched++
	return rule.matched > rule.Skip && (rule.Times == 0 || rule.matched <= rule.Skip+rule.Times)
}

func isWrite(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// forward has next answer, and keeps the answer.
func forward(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

// pass sends what was kept, with another body.
func pass(w http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	for key, values := range rec.Header() {
		w.Header()[key] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body) // fails if the client is gone
}
