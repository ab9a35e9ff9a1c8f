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
	passed  atomic.Int64
}

// pass notes that a pass did what it should.
func (h *health) pass() { h.passed.Store(time.Now().UnixNano()) }

// serve answers until ctx ends:
//
//	/readyz   200 once a pass has succeeded (or, where another replica leads, once everything is read)
//	/healthz  200 until a loop that once worked has had no good pass for three times its resync
func (h *health) serve(ctx context.Context) error {
	if h.address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, h.passed.Load() != 0 || h.ready != nil && h.ready(), "no pass has succeeded yet")
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		last := h.passed.Load()
		answer(w, last == 0 || time.Since(time.Unix(0, last)) < 3*resync, "no pass has succeeded for long")
	})
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
