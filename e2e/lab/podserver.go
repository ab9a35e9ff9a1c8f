package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A podServer answers every request with "pod-name client-address".
type podServer struct {
	name    string
	web     *http.Server
	sockets []io.Closer
	running sync.WaitGroup
}

// servePod opens the sockets inside ns; the goroutines that serve them belong
// to the podServer until it is closed.
func servePod(ns *Namespace, name string, ports []PodPort) (*podServer, error) {
	s := &podServer{name: name}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.serveHTTP)
	mux.HandleFunc(streamPath, serveStream)
	s.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	for _, p := range ports {
		if err := s.open(ns, fmt.Sprintf(":%d", p.Number)); err != nil {
			s.close()
			return nil, fmt.Errorf("serving port %d: %w", p.Number, err)
		}
	}
	return s, nil
}

func (s *podServer) open(ns *Namespace, addr string) error {
	var tcp net.Listener
	var udp net.PacketConn
	err := ns.Do(func() (err error) {
		if tcp, err = net.Listen("tcp", addr); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		return err
	}
	s.sockets = append(s.sockets, tcp, udp)
	s.running.Go(func() { _ = s.web.Serve(tcp) })
	s.running.Go(func() { s.serveUDP(udp) })
	return nil
}

func (s *podServer) serveHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, s.answer(r.RemoteAddr))
}

func (s *podServer) serveUDP(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		_, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo([]byte(s.answer(from.String())), from)
		}
	}
}

func (s *podServer) answer(remote string) string {
	client, _ := netip.ParseAddrPort(remote)
	return s.name + " " + client.Addr().Unmap().String()
}

// close ends the server and its connections.
func (s *podServer) close() {
	_ = s.web.Close()
	for _, c := range s.sockets {
		_ = c.Close()
	}
	s.running.Wait()
}
