package healthport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// newServer returns a Server for n1. Nobody answers where it looks for
// kube-proxy unless the test makes somebody.
func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	o.Node, o.Log = "n1", slog.New(slog.DiscardHandler)
	if o.KubeProxy == "" {
		o.KubeProxy = local(t)
	}
	if o.Ring == nil {
		o.Ring = func() {}
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

// nextPort is where freePort goes on. Below 32768 the kernel takes no port for who does
// not say which, so nobody who runs meanwhile gets one that is let go here; and other
// processes of these tests begin elsewhere.
var nextPort = 10000 + os.Getpid()%200*100

// freePort returns a port that is free, each time another.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		nextPort++
		if l, err := net.Listen("tcp", ":"+strconv.Itoa(nextPort)); err == nil {
			l.Close()
			return uint16(nextPort)
		}
	}
	t.Fatalf("no port up to %d is free", nextPort)
	return 0
}

// local is an address of this host with a port that is free.
func local(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(freePort(t))))
}

func listen(t *testing.T, at string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ask returns what the port says at an address.
func ask(t *testing.T, host string, port uint16) (*http.Response, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// answers is whether anybody answers on port.
func answers(port uint16) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func follow(t *testing.T, s *Server, want ...Port) {
	t.Helper()
	if err := s.Sync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
}

func TestAPortAnswersAsThatOfKubeProxy(t *testing.T) {
	s, port := newServer(t, Options{Mode: On}), freePort(t)
	for _, tt := range []struct {
		endpoints, code int
	}{{2, http.StatusOK}, {0, http.StatusServiceUnavailable}, {1, http.StatusOK}} {
		follow(t, s, Port{port, "ns", "a", tt.endpoints})
		n := strconv.Itoa(tt.endpoints)
		resp, body := ask(t, "127.0.0.1", port)
		want := "{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"a\"\n\t},\n\t\"localEndpoints\": " + n + ",\n\t\"serviceProxyHealthy\": true\n}"
		if resp.StatusCode != tt.code || body != want {
			t.Errorf("%d endpoints: %d %s\nwant %d %s", tt.endpoints, resp.StatusCode, body, tt.code, want)
		}
		for key, value := range map[string]string{
			"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": n,
		} {
			if got := resp.Header.Get(key); got != value {
				t.Errorf("%d endpoints: %s is %q, want %q", tt.endpoints, key, got, value)
			}
		}
	}
}

func TestAPortAnswersOverBothFamilies(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("there is no IPv6 here")
	} else {
		l.Close()
	}
	s, port := newServer(t, Options{Mode: On}), freePort(t)
	follow(t, s, Port{port, "ns", "a", 1})
	for _, host := range []string{"127.0.0.1", "::1"} {
		if resp, _ := ask(t, host, port); resp.StatusCode != http.StatusOK {
			t.Errorf("%s says %s", host, resp.Status)
		}
	}
}

func TestPortsComeAndGoAndChangeHands(t *testing.T) {
	s, a, b := newServer(t, Options{Mode: On}), freePort(t), freePort(t)
	follow(t, s, Port{a, "ns", "a", 1}, Port{b, "ns", "b", 1})
	follow(t, s, Port{b, "ns", "c", 1})
	if answers(a) {
		t.Error("a port that nobody wants is answered on")
	}
	if _, body := ask(t, "127.0.0.1", b); !strings.Contains(body, `"name": "c"`) {
		t.Errorf("the port says %s after another Service has got it", body)
	}
	follow(t, s)
	if answers(b) {
		t.Error("the last port is answered on still")
	}
}

func TestAPortThatIsTakenStopsNoOtherAndIsTriedAgain(t *testing.T) {
	s, other := newServer(t, Options{Mode: On}), freePort(t)
	taken := freePort(t)
	squatter := listen(t, ":"+strconv.Itoa(int(taken)))
	want := []Port{{taken, "ns", "a", 1}, {other, "ns", "b", 1}}
	err := s.Sync(t.Context(), want)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "health check node port "+strconv.Itoa(int(taken))+" of ns/a") {
		t.Errorf("error %v does not name port %d of ns/a", err, taken)
	}
	if !answers(other) {
		t.Error("the other port is not answered on")
	}
	squatter.Close()
	follow(t, s, want...)
	if resp, _ := ask(t, "127.0.0.1", taken); resp.StatusCode != http.StatusOK {
		t.Errorf("the port says %s once it is free", resp.Status)
	}
}

func TestPortsAreKubeProxysWhileItIsThere(t *testing.T) {
	kubeProxy := listen(t, local(t))
	s, port := newServer(t, Options{Mode: Auto, KubeProxy: kubeProxy.Addr().String()}), freePort(t)
	want := Port{port, "ns", "a", 1}
	follow(t, s, want)
	if answers(port) {
		t.Error("the port is answered on although kube-proxy is there")
	}
	kubeProxy.Close()
	s.looked = s.looked.Add(time.Hour) // at once, however long this takes
	follow(t, s, want)
	if answers(port) {
		t.Error("kube-proxy was looked for again at once")
	}
	s.looked = s.looked.Add(-time.Hour - lookEvery)
	if !s.turned(t.Context()) {
		t.Error("nobody noticed that kube-proxy has gone")
	}
	follow(t, s, want)
	if !answers(port) {
		t.Error("the port is not answered on although kube-proxy has gone")
	}
	listen(t, kubeProxy.Addr().String())
	s.looked = s.looked.Add(-lookEvery)
	if !s.turned(t.Context()) {
		t.Error("nobody noticed that kube-proxy is back")
	}
	follow(t, s, want)
	if answers(port) {
		t.Error("the port is not let go although kube-proxy is back")
	}
}

func TestModes(t *testing.T) {
	kubeProxy := listen(t, local(t))
	for _, tt := range []struct {
		mode Mode
		want bool
	}{{On, true}, {Off, false}, {Auto, false}} {
		port := freePort(t)
		s := newServer(t, Options{Mode: tt.mode, KubeProxy: kubeProxy.Addr().String()})
		snap := snapshot.Snapshot{Services: []snapshot.Service{service(func(svc *snapshot.Service) { svc.HealthCheckPort = port })}}
		if err := s.Follow(t.Context(), snap); err != nil {
			t.Fatal(err)
		}
		if got := answers(port); got != tt.want {
			t.Errorf("%s beside kube-proxy: answered on %v, want %v", tt.mode, got, tt.want)
		}
	}
	if _, err := New(Options{Mode: "perhaps"}); err == nil || !strings.Contains(err.Error(), `"perhaps"`) {
		t.Errorf("an unknown mode: %v", err)
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newServer(t, Options{Mode: On})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	var ports []Port
	for range 20 {
		ports = append(ports, Port{freePort(t), "ns", "a", 1})
	}
	follow(t, s, ports...)
	held, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[0].Number))))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	follow(t, s, ports...) // it is too late for that
	for _, p := range ports {
		if answers(p.Number) {
			t.Errorf("port %d is answered on after the end", p.Number)
		}
	}
	// What served the connection ends a moment after it is cut off.
	if _, err := held.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives the end")
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	t.Errorf("%d goroutines, before there were %d", runtime.NumGoroutine(), before)
}

func TestRunRingsWhenKubeProxyHasComeOrGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rings := 0
		// In fake time a dial to an address that cannot be is all the network there is.
		s, err := New(Options{Node: "n1", Mode: Auto, KubeProxy: "no address", Ring: func() { rings++ }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s.wanted, s.proxied, s.looked = true, true, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil || rings != 1 {
			t.Errorf("Run() = %v after %d rings, want 1", err, rings)
		}
	})
}

// A port that is let go has not failed: nobody has to look again.
func TestLettingAPortGoRingsNobody(t *testing.T) {
	rung := make(chan bool, 2)
	s, port := newServer(t, Options{Mode: On, Ring: func() { rung <- true }}), freePort(t)
	follow(t, s, Port{Number: port, Namespace: "ns", Service: "a", Endpoints: 1})
	ask(t, "127.0.0.1", port) // it is being served
	follow(t, s)
	s.serving.Wait()
	if len(rung) > 0 {
		t.Error("it rang")
	}
}
