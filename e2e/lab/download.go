package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// streamPath is where a pod serves a stream that ends with its connection: the
// numbers from 0 on, in eight bytes each, so that a byte that is lost, doubled
// or foreign is seen.
const streamPath = "/stream"

// serveStream is the pod's side of a Download.
func serveStream(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 0, 16<<10)
	for n := uint64(0); r.Context().Err() == nil; {
		for buf = buf[:0]; len(buf) < cap(buf); n++ {
			buf = binary.BigEndian.AppendUint64(buf, n)
		}
		if _, err := w.Write(buf); err != nil {
			return
		}
	}
}

// A Download is one long transfer from a pod over one connection.
type Download struct {
	conn net.Conn
	done chan struct{}

	// To be read after Stop.
	Bytes   int64
	Longest time.Duration // without a byte
	Err     error         // why it ended early, or what was wrong; nil if nothing
}

// Download starts a transfer from the pod behind host:port.
func (h *Host) Download(addr string) (*Download, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := h.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", streamPath); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	d := &Download{conn: conn, done: make(chan struct{})}
	go d.run()
	return d, nil
}

// run reads until the connection ends, slowly enough to leave the machine to
// others.
func (d *Download) run() {
	defer close(d.done)
	resp, err := http.ReadResponse(bufio.NewReader(d.conn), nil)
	if err != nil {
		d.Err = fmt.Errorf("reading the head: %w", err)
		return
	}
	defer resp.Body.Close()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 16<<10)
	for next, last := uint64(0), time.Now(); ; <-tick.C {
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				d.Err = fmt.Errorf("after %d bytes: %w", d.Bytes, err)
			}
			return
		}
		d.Longest, last = max(d.Longest, time.Since(last)), time.Now()
		for i := 0; i < len(buf); i, next = i+8, next+1 {
			if got := binary.BigEndian.Uint64(buf[i:]); got != next {
				d.Err = fmt.Errorf("byte %d: number %d, want %d", d.Bytes+int64(i), got, next)
				return
			}
		}
		d.Bytes += int64(len(buf))
	}
}

// Stop ends the transfer; its figures may then be read.
func (d *Download) Stop() {
	_ = d.conn.Close() // it ends by that
	<-d.done
}
