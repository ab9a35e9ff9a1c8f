package healthport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A Mode says when a Server answers.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // only while kube-proxy is not there
	On   Mode = "on"
	Off  Mode = "off"
)

// kubeProxy is where kube-proxy says that it is well, unless it was told to do
// so elsewhere (healthzBindAddress).
const kubeProxy = "127.0.0.1:10256"

// lookEvery is how often a Server looks at most whether kube-proxy is there.
const lookEvery = 3 * time.Second

// Options says whose ports a Server answers on, and when.
type Options struct {
	Node string
	Mode Mode
	// KubeProxy is the host:port that kube-proxy answers on if it is there; ""
	// is where it does so by default.
	KubeProxy string
	// Ring is called when kube-proxy has come or gone, or a socket has failed,
	// so that Follow has something to do. It never blocks.
	Ring func()
	Log  *slog.Logger
}

// A Server answers on health check node ports. Its methods are safe for
// concurrent use.
type Server struct {
	o Options

	mu      sync.Mutex
	open    map[uint16]*socket
	wanted  bool      // there was something to answer on when it was last told
	proxied bool      // kube-proxy was there when last looked for
	looked  time.Time // when that was
	ended   bool      // by Run: nothing is opened any more
	serving sync.WaitGroup
}

// New returns a Server that answers on nothing yet.
func New(o Options) (*Server, error) {
	switch o.Mode {
	case Auto, On, Off:
	default:
		return nil, fmt.Errorf("--health-check-node-ports %q: use auto, on or off", o.Mode)
	}
	if o.KubeProxy == "" {
		o.KubeProxy = kubeProxy
	}
	return &Server{o: o, open: map[uint16]*socket{}}, nil
}

// Follow answers for what s has on this node, see [Plan].
func (s *Server) Follow(ctx context.Context, snap snapshot.Snapshot) error {
	if s.o.Mode == Off {
		return nil
	}
	return s.Sync(ctx, Plan(snap, s.o.Node))
}

// Sync answers on the ports that want names, and on no others; on none while
// kube-proxy does. Ports that stay open lose no connection. Errors name the
// Service and the port; one that cannot be opened stops nothing else, and is
// tried again by the next Sync.
func (s *Server) Sync(ctx context.Context, want []Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = len(want) > 0
	if s.ended || s.o.Mode == Off || s.yields(ctx) {
		want = nil
	}
	next := make(map[uint16]Port, len(want))
	for _, p := range want {
		next[p.Number] = p
	}
	for _, number := range slices.Sorted(maps.Keys(s.open)) {
		if p, ok := next[number]; ok && !s.open[number].failed.Load() {
			s.open[number].says.Store(&p)
		} else {
			s.close(number)
		}
	}
	var errs []error
	for _, p := range want {
		if s.open[p.Number] != nil {
			continue
		}
		if err := s.listen(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("answering on health check node port %d of %s/%s: %w", p.Number, p.Namespace, p.Service, err))
		}
	}
	return errors.Join(errs...)
}

// Run looks from time to time whether kube-proxy is there, until ctx ends. Then
// it closes all ports, and returns when nobody is answered any more.
func (s *Server) Run(ctx context.Context) error {
	defer s.end()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s.turned(ctx) {
				s.o.Ring()
			}
		}
	}
}

// turned reports whether kube-proxy has come or gone since it was last looked
// for, if that matters.
func (s *Server) turned(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.proxied
	return s.wanted && s.yields(ctx) != was
}

// yields is whether kube-proxy is there and answers instead of this Server.
func (s *Server) yields(ctx context.Context) bool {
	if s.o.Mode != Auto || !s.wanted || time.Since(s.looked) < lookEvery/2 {
		return s.proxied
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.o.KubeProxy)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was said
	case ctx.Err() != nil:
		return s.proxied // nobody was asked
	}
	if there := err == nil; there != s.proxied || s.looked.IsZero() {
		s.proxied = there
		s.o.Log.Info("health check node ports are kube-proxy's while it is there", "there", there, "asked", s.o.KubeProxy)
	}
	s.looked = time.Now()
	return s.proxied
}

// end closes everything, for good.
func (s *Server) end() {
	s.mu.Lock()
	s.ended = true
	for number := range s.open {
		s.close(number)
	}
	s.mu.Unlock()
	s.serving.Wait()
}
