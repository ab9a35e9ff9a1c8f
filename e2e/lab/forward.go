package lab

import (
	"io"
	"net"
)

// forward joins every connection that ln accepts with one that dial makes,
// until ln is closed.
func forward(ln net.Listener, dial func() (net.Conn, error)) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := dial()
			if err != nil {
				return
			}
			defer out.Close()
			join(in, out)
		}()
	}
}

// join copies both ways until both have ended.
func join(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		copyAndClose(a, b)
		close(done)
	}()
	copyAndClose(b, a)
	<-done
}

func copyAndClose(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if c, ok := dst.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}
