package healthport

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// A socket answers on one port.
type socket struct {
	listener net.Listener
	server   *http.Server
	says     atomic.Pointer[Port] // replaced whole, never edited
	failed   atomic.Bool          // it does not accept any more
}

// listen opens the port of p on every address of the node, of both families.
func (s *Server) listen(ctx context.Context, p Port) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(int(p.Number)))
	if err != nil {
		return err
	}
	so := &socket{listener: listener}
	so.says.Store(&p)
	so.server = &http.Server{Handler: so, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	s.open[p.Number] = so
	s.serving.Go(func() {
		err := so.server.Serve(listener)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) { // not by close
			s.o.Log.Warn("a health check node port has failed", "port", p.Number, "err", err)
			so.failed.Store(true)
			s.o.Ring()
		}
	})
	s.o.Log.Info("answering on health check node port", "port", p.Number, "service", p.Namespace+"/"+p.Service)
	return nil
}

// close lets a port go, and cuts off who is being answered.
func (s *Server) close(number uint16) {
	so := s.open[number]
	// Errors say that it is closed already. The server closes only a listener
	// that it has begun to serve.
	_, _ = so.listener.Close(), so.server.Close()
	delete(s.open, number)
	s.o.Log.Info("letting go of health check node port", "port", number)
}

// answer is the body as kube-proxy writes it (pkg/proxy/healthcheck/service_health.go).
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// ServeHTTP says 200 if this node has endpoints, else 503, with the headers and
// the body of kube-proxy.
func (so *socket) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p := *so.says.Load()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(p.Endpoints))
	code := http.StatusOK
	if p.Endpoints == 0 {
		code = http.StatusServiceUnavailable
	}
	w.WriteHeader(code)
	a := answer{LocalEndpoints: p.Endpoints, ServiceProxyHealthy: true}
	a.Service.Namespace, a.Service.Name = p.Namespace, p.Service
	if body, err := json.MarshalIndent(a, "", "\t"); err == nil {
		_, _ = w.Write(body) // who has gone needs no answer
	}
}
