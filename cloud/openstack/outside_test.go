package openstack

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An outside makes calls for a bubble of testing/synctest, to servers that are not in
// it. Who waits for an answer does not sleep: time in the bubble stands still until it
// is there, and what an engine waits for beside that goes by at once.
type outside struct {
	to      http.RoundTripper
	calls   chan *http.Request
	answers chan answer
	mu      sync.Mutex // held by who waits for an answer

	// fault is asked before a call is made, and after it was answered: what it returns is
	// the answer then.
	fault func(call string, after bool) error
}

type answer struct {
	*http.Response
	err error
}

// newOutside is for the test that has the bubble, not for what is in it.
func newOutside(t *testing.T) *outside {
	o := &outside{to: &http.Transport{}, calls: make(chan *http.Request), answers: make(chan answer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range o.calls {
			resp, err := o.call(r)
			o.answers <- answer{resp, err}
		}
	}()
	t.Cleanup(func() { close(o.calls); <-done })
	return o
}

// RoundTrip implements http.RoundTripper.
func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	fault := o.fault
	if fault == nil || r.Header.Get("X-By-Hand") != "" {
		fault = func(string, bool) error { return nil }
	}
	call := r.Method + " " + r.URL.RequestURI()
	if err := fault(call, false); err != nil {
		return nil, err
	}
	// The bubble's contexts are not for those outside.
	again := r.Clone(context.Background())
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		again.Body = io.NopCloser(bytes.NewReader(body))
	}
	o.mu.Lock()
	o.calls <- again
	a := <-o.answers
	o.mu.Unlock()
	if a.err == nil {
		a.err = fault(call, true)
	}
	if a.err != nil {
		return nil, a.err
	}
	return a.Response, nil
}

// work is how long Octavia takes to change something, and a little more.
const work = 120 * time.Millisecond

// call makes a call, reads the answer, and gives Octavia the time to do what it says it
// is still doing: who asks again asks a second later, which is no time at all here.
func (o *outside) call(r *http.Request) (*http.Response, error) {
	resp, err := o.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte("PENDING_")) || strings.Contains(string(text), "immutable") {
		time.Sleep(work)
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}
