package ipvs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// A batcher gives the kernel many commands in one netlink message, and reads
// an acknowledgement for each.
type batcher struct {
	sock  wireSocket
	limit wireLimit
	seq   uint32 // the number of the next command
	buf   []byte // what is sent, used again and again
}

// A wireSocket carries datagrams to the kernel and back.
type wireSocket interface {
	send(datagram []byte) error
	// receive returns some of the datagrams that are there, valid until the
	// next call. The error is EAGAIN if there is none, and ENOBUFS once after
	// the kernel had to drop some.
	receive() ([][]byte, error)
	close() error
}

// A wireLimit is how much of one batch the buffers of a socket hold.
type wireLimit struct {
	bytes    int // of the commands
	commands int // as many acknowledgements come back
}

// errLost is the fate of a command that the kernel was given but whose
// acknowledgement has not come: it may have been carried out or not. Who gets
// it has to list what is there.
var errLost = errors.New("the kernel's acknowledgement is lost")

// openBatcher opens a batcher of a netlink protocol inside a place.
func openBatcher(in place, protocol int) (batcher, error) {
	s, err := openSocket(in, protocol, acknowledgements)
	if err != nil {
		return batcher{}, err
	}
	limit, err := s.limit()
	if err != nil {
		return batcher{}, errors.Join(err, s.close())
	}
	return batcher{sock: s, limit: limit, seq: 1}, nil
}

func (b *batcher) close() error { return b.sock.close() }

// An encoder appends command number i, as one message of a sequence number; or
// says why it cannot be encoded, and appends nothing.
type encoder func(b []byte, seq uint32, i int) ([]byte, error)

// do gives n commands to the kernel in their order and returns what became of
// each: nil if the kernel has acknowledged it, its syscall.Errno if it refused,
// and errLost if nobody knows. One that fails does not stop the others; once
// ctx has ended, those not sent yet get its error.
func (b *batcher) do(ctx context.Context, n int, encode encoder) []error {
	errs := make([]error, n)
	for next := 0; next < n; {
		if err := ctx.Err(); err != nil {
			for i := next; i < len(errs); i++ {
				errs[i] = err
			}
			break
		}
		next += b.batch(encode, next, errs[next:])
	}
	return errs
}

// batch sends as many commands as fit, from number at on, notes in errs what becomes of them, and
// returns how many those are. An error in errs that is errLost stands for an
// answer that is still to come.
func (b *batcher) batch(encode encoder, at int, errs []error) int {
	first := b.seq
	n, sent := b.fill(encode, at, errs)
	if sent == 0 {
		return n
	}
	if err := b.send(); err != nil {
		for i, e := range errs[:n] {
			if e == errLost {
				errs[i] = fmt.Errorf("sending: %w", err)
			}
		}
		return n
	}
	b.collect(first, errs[:n], sent)
	return n
}

// fill encodes as many commands as one batch takes, from number at on. It returns how many it has
// looked at and how many of them are to be sent: those that cannot be encoded
// get their error at once. Each takes a sequence number, sent or not.
func (b *batcher) fill(encode encoder, at int, errs []error) (n, sent int) {
	b.buf = b.buf[:0]
	for n < len(errs) && sent < b.limit.commands {
		end := len(b.buf)
		if b.buf, errs[n] = encode(b.buf, b.seq, at+n); errs[n] == nil {
			if len(b.buf) > b.limit.bytes && end > 0 {
				b.buf = b.buf[:end] // the first of the next batch
				break
			}
			errs[n] = errLost
			sent++
		}
		b.seq++
		n++
	}
	return n, sent
}

// send sends what has been filled. A second attempt does no harm should the
// kernel have taken the first: of two answers to a command the first counts.
func (b *batcher) send() error {
	var err error
	for range persistence {
		if err = b.sock.send(b.buf); err != unix.EINTR {
			break
		}
	}
	return err
}

// persistence is how often in a row a socket may have nothing but a passing
// error to offer until it is given up. The kernel reports an overrun once for
// any number of lost datagrams.
const persistence = 16

// collect reads the answers to the commands from sequence number first on,
// open of which are still to come.
func (b *batcher) collect(first uint32, errs []error, open int) {
	for failed := 0; open > 0 && failed < persistence; {
		datagrams, err := b.sock.receive()
		switch err {
		case nil:
			failed = 0
		case unix.ENOBUFS, unix.EINTR:
			failed++ // what was not dropped can still be read
		case unix.EAGAIN:
			return
		default:
			for i, e := range errs {
				if e == errLost {
					errs[i] = fmt.Errorf("%w: %w", errLost, err)
				}
			}
			return
		}
		for _, d := range datagrams {
			for seq, errno := range answers(d) {
				open -= note(errs, seq-first, errno)
			}
		}
	}
}

// note notes the answer to command i and returns 1, or 0 if nobody waits for
// it: it is then a late answer to an earlier batch, or a second one.
func note(errs []error, i uint32, errno syscall.Errno) int {
	if uint64(i) >= uint64(len(errs)) || errs[i] != errLost {
		return 0
	}
	errs[i] = nil
	if errno != 0 {
		errs[i] = errno
	}
	return 1
}
