// Package referee judges what a simulated cloud and its clients say to each
// other by the OpenAPI document of the real one.
//
// It owns the document and what has been published since it was written, each
// change with its date. It never changes a request or an answer: who stands
// behind it does not notice, and what it finds is kept for the test to fail
// with.
//
// The document is openapi/hcloud.json of
// https://github.com/MaximilianKoestler/hcloud-openapi at commit 5f93a6d, made
// from Hetzner's own cloud.spec.json. It is Copyright (c) Maximilian Köstler,
// under the MIT licence (LICENSE.hcloud-openapi), and is kept compressed.
package referee

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// A Referee passes requests on and judges them and their answers.
type Referee struct {
	next   http.Handler
	router routers.Router

	mu       sync.Mutex // guards verdicts and seen
	verdicts []string
	seen     int
}

// options judge as the API would: what a document leaves open is allowed, and
// nothing is filled in.
var options = func() *openapi3filter.Options {
	o := &openapi3filter.Options{
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		IncludeResponseStatus: true,
		MultiError:            true,
		SkipSettingDefaults:   true,
	}
	o.WithCustomSchemaErrorFunc(func(err *openapi3.SchemaError) string { // not the schema, which is long
		return "/" + strings.Join(err.JSONPointer(), "/") + ": " + err.Reason
	})
	return o
}()

// New returns a handler before next. It panics if the document, which is part
// of the program, cannot be read.
func New(next http.Handler) *Referee {
	router, err := hetzner()
	if err != nil {
		panic(err)
	}
	return &Referee{next: next, router: router}
}

// Watch is New, and fails t at its end if there was anything to object to.
func Watch(t testing.TB, next http.Handler) *Referee {
	t.Helper()
	r := New(next)
	t.Cleanup(func() {
		for _, v := range r.Verdicts() {
			t.Errorf("referee: %s", v)
		}
	})
	return r
}

// Verdicts returns what was wrong so far.
func (r *Referee) Verdicts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.verdicts)
}

// Seen is how many requests were judged: a test that nobody came to proves
// nothing.
func (r *Referee) Seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// ServeHTTP implements http.Handler.
func (r *Referee) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the client is gone
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	r.next.ServeHTTP(answer, req)

	req.Body = io.NopCloser(bytes.NewReader(body))
	r.judge(req, answer)
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // fails if the client is gone
}

func (r *Referee) judge(req *http.Request, answer *httptest.ResponseRecorder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	object := func(what string, err error) {
		if err != nil {
			r.verdicts = append(r.verdicts, fmt.Sprintf("%s %s: %s: %s", req.Method, req.URL.RequestURI(), what, err))
		}
	}
	route, params, err := r.router.FindRoute(req)
	if err != nil {
		object("request", err)
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options}
	object("request", openapi3filter.ValidateRequest(req.Context(), in))
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: answer.Code, Header: answer.Header(), Options: options,
	}
	out.SetBodyBytes(answer.Body.Bytes())
	object(fmt.Sprintf("answer %d", answer.Code), openapi3filter.ValidateResponse(req.Context(), out))
}
