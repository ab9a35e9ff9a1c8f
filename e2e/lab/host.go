package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long a host waits for an answer: longer than one lost SYN
// costs, for a busy machine must not look like a broken one.
const patience = 3 * time.Second

// A Host is a machine on the network.
type Host struct {
	*Namespace
	mac net.HardwareAddr // of eth0
}

// MAC returns the hardware address of the host's interface on the segment.
func (h *Host) MAC() net.HardwareAddr { return h.mac }

// Exec runs a program on the host and returns all that it printed.
func (h *Host) Exec(args ...string) (string, error) { return execIn(h.handle, args) }

func execIn(handle netns.NsHandle, args []string) (string, error) {
	var out []byte
	err := within(handle, func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// dial opens a connection from the host. The address must be literal: one
// address is dialled by the calling goroutine itself, hence inside.
func (h *Host) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Get asks for the URL over a connection of its own.
func (h *Host) Get(url string) (string, error) { return h.GetWithin(url, patience) }

// GetWithin is Get for those who can wait less, or must wait longer.
func (h *Host) GetWithin(url string, limit time.Duration) (string, error) {
	return get(h.dial, url, limit)
}

// GetFrom is Get from an address and port of the host's.
func (h *Host) GetFrom(from netip.AddrPort, url string) (string, error) {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	dial := func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = h.Do(func() error {
			conn, err = dialer.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
	return get(dial, url, patience)
}

func get(dial func(ctx context.Context, network, addr string) (net.Conn, error), url string, limit time.Duration) (string, error) {
	client := http.Client{
		Timeout:   limit,
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("getting %s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), err
}

// UDP sends one datagram and returns the answer.
func (h *Host) UDP(addr netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := h.dial(ctx, "udp", addr.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buf := make([]byte, 512)
	// Datagrams may get lost while a host still looks for a neighbour.
	for deadline := time.Now().Add(patience); ; {
		if _, err := conn.Write([]byte("who\n")); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience / 3))
		n, err := conn.Read(buf)
		if err == nil {
			return strings.TrimSpace(string(buf[:n])), nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("asking %s over UDP: %w", addr, err)
		}
	}
}

// A Session is one long-lived TCP connection to a pod.
type Session struct {
	conn net.Conn
	r    *bufio.Reader
}

// Connect opens a Session.
func (h *Host) Connect(addr netip.AddrPort) (*Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := h.dial(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return &Session{conn: conn, r: bufio.NewReader(conn)}, nil
}

// Ask asks the pod, on the same connection as ever, who it is.
func (s *Session) Ask() (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(s.conn, "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

// Close ends the connection.
func (s *Session) Close() error { return s.conn.Close() }

// enough is how many requests a Traffic makes at least.
const enough = 50

// Traffic is a client that asks again and again.
type Traffic struct {
	stop chan struct{}
	done chan struct{}

	// To be read after Stop.
	Requests int
	Failures []error       // the first few
	Failed   int           // all of them
	Cut      int           // those of a connection that the other end did not know (any more)
	Longest  time.Duration // without an answer
	Pods     map[string]int
}

// Ask starts a Traffic: one connection after the other, with pauses between.
func (h *Host) Ask(url string, pause time.Duration) *Traffic {
	return h.AskWithin(url, pause, patience)
}

// AskWithin is Ask for those who have to be more patient.
func (h *Host) AskWithin(url string, pause, limit time.Duration) *Traffic {
	t := &Traffic{stop: make(chan struct{}), done: make(chan struct{}), Pods: map[string]int{}}
	go func() {
		defer close(t.done)
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for last := time.Now(); ; {
			body, err := h.GetWithin(url, limit)
			t.count(body, err)
			if err == nil {
				t.Longest = max(t.Longest, time.Since(last))
				last = time.Now()
			}
			select {
			case <-t.stop:
				if t.Requests >= enough {
					return
				}
				<-tick.C
			case <-tick.C:
			}
		}
	}()
	return t
}

func (t *Traffic) count(body string, err error) {
	t.Requests++
	if err == nil {
		t.Pods[PodOf(body)]++
		return
	}
	t.Failed++
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) { // EPIPE for who writes after that
		t.Cut++
	}
	if len(t.Failures) < 5 {
		t.Failures = append(t.Failures, err)
	}
}

// Stop ends the Traffic, once it has asked often enough to prove something;
// its figures may then be read.
func (t *Traffic) Stop() {
	close(t.stop)
	<-t.done
}

// PodOf returns the name of the pod that gave the answer.
func PodOf(answer string) string {
	pod, _, _ := strings.Cut(answer, " ")
	return pod
}

// ClientOf returns the address of the client that the pod has seen.
func ClientOf(answer string) netip.Addr {
	_, client, _ := strings.Cut(answer, " ")
	addr, _ := netip.ParseAddr(client)
	return addr.Unmap()
}
