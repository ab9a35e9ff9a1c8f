package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// resync is how often a pass is run although nothing has changed.
const resync = time.Minute

// health answers the probes of the kubelet.
type health struct {
	address string
	ready   func() bool // beside the first pass; may be nil
	metrics http.Handler
	passed  atomic.Bool // a pass did what it should
	// ended is when the last pass did, by a clock that nobody sets: the other
	// may be put forward by an hour. It is nil while none is to be expected.
	ended atomic.Pointer[time.Time]
}

// pass notes that a pass did what it should.
func (h *health) pass() { h.passed.Store(true) }

// watch returns pass, and notes whenever it has ended, well or not: a restart
// heals a pass that hangs, but not what a kernel or an API server refuses.
func (h *health) watch(pass func(context.Context) error) func(context.Context) error {
	h.note(time.Now())
	return func(ctx context.Context) error {
		defer func() { h.note(time.Now()) }()
		return pass(ctx)
	}
}

func (h *health) note(ended time.Time) { h.ended.Store(&ended) }

// rest notes that no pass is to be expected any more.
func (h *health) rest() { h.ended.Store(nil) }

// hangs reports whether at now a pass should have ended, and has not.
func (h *health) hangs(now time.Time) bool {
	last := h.ended.Load()
	return last != nil && now.Sub(*last) > 3*resync
}

// serve answers until ctx ends:
//
//	/readyz   200 once a pass has succeeded (or, where another replica leads, once everything is read)
//	/metrics  for Prometheus
//	/healthz  200 unless passes should be run and none has ended for three times their resync
func (h *health) serve(ctx context.Context) error {
	if h.address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, h.passed.Load() || h.ready != nil && h.ready(), "no pass has succeeded yet")
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, !h.hangs(time.Now()), "no pass has ended for long")
	})
	mux.Handle("/metrics", h.metrics)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.address)
	if err != nil {
		return fmt.Errorf("--health-address: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", h.address, err)
	}
	return nil
}

func answer(w http.ResponseWriter, ok bool, why string) {
	if !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
