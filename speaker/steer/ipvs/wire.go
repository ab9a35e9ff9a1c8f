package ipvs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A wire speaks generic netlink with the IPVS of one network namespace, many
// commands in one message to the kernel. moby/ipvs makes a round trip for each;
// its types are the data here too.
//
// A wire belongs to one goroutine. It depends on one promise of the kernel,
// which handles a netlink message before sendmsg returns
// (net/netlink/af_netlink.c, netlink_unicast_kernel): whatever it answers can
// then be read without waiting, and what cannot be read will never come. So a
// wire never blocks, and needs no timeout.
type wire struct {
	family uint16 // the number that generic netlink has for IPVS
	sock   wireSocket
	limit  wireLimit
	seq    uint32 // the number of the next command
	buf    []byte // what is sent, used again and again

	dial func() (wireSocket, error) // a fresh socket, for listing
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

// An op is what a command does; its number is the kernel's (linux/ip_vs.h).
type op uint8

// What a command can do. Deleting, and any change of a destination, looks at
// the identity of the service only.
const (
	opNewService op = 1
	opSetService op = 2
	opDelService op = 3
	opNewDest    op = 5
	opSetDest    op = 6
	opDelDest    op = 7
)

// A command changes one service, or one destination of it.
type command struct {
	op   op
	svc  *moby.Service
	dest *moby.Destination // nil unless op is about one
}

// errLost is the fate of a command that the kernel was given but whose
// acknowledgement has not come: it may have been carried out or not. Who gets
// it has to list what is there.
var errLost = errors.New("the kernel's acknowledgement is lost")

// openWire opens a wire into ns, which has to stay open as long as the wire.
// The family is looked up each time: its number changes if the module ip_vs is
// loaded anew.
func openWire(ns netns.NsHandle) (*wire, error) {
	family, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		return nil, fmt.Errorf("looking for IPVS: %w", err)
	}
	in := place{ns: ns}
	s, err := openSocket(in, acknowledgements)
	if err != nil {
		return nil, err
	}
	limit, err := s.limit()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &wire{
		family: family.ID, sock: s, limit: limit, seq: 1,
		dial: func() (wireSocket, error) { return openSocket(in, dumps) },
	}, nil
}

func (w *wire) close() error { return w.sock.close() }

// do gives cmds to the kernel in their order and returns what became of each:
// nil if the kernel has acknowledged it, its syscall.Errno if it refused, and
// errLost if nobody knows. One that fails does not stop the others; once ctx
// has ended, those not sent yet get its error.
func (w *wire) do(ctx context.Context, cmds []command) []error {
	errs := make([]error, len(cmds))
	for next := 0; next < len(cmds); {
		if err := ctx.Err(); err != nil {
			for i := next; i < len(errs); i++ {
				errs[i] = err
			}
			break
		}
		next += w.batch(cmds[next:], errs[next:])
	}
	return errs
}

// batch sends as many of cmds as fit, notes in errs what becomes of them, and
// returns how many those are. An error in errs that is errLost stands for an
// answer that is still to come.
func (w *wire) batch(cmds []command, errs []error) int {
	first := w.seq
	n, sent := w.fill(cmds, errs)
	if sent == 0 {
		return n
	}
	if err := w.send(); err != nil {
		for i, e := range errs[:n] {
			if e == errLost {
				errs[i] = fmt.Errorf("sending to IPVS: %w", err)
			}
		}
		return n
	}
	w.collect(first, errs[:n], sent)
	return n
}

// fill encodes as many of cmds as one batch takes. It returns how many it has
// looked at and how many of them are to be sent: those that cannot be encoded
// get their error at once. Each takes a sequence number, sent or not.
func (w *wire) fill(cmds []command, errs []error) (n, sent int) {
	w.buf = w.buf[:0]
	for n < len(cmds) && sent < w.limit.commands {
		if errs[n] = check(cmds[n]); errs[n] == nil {
			end := len(w.buf)
			w.buf = appendCommand(w.buf, w.family, w.seq, cmds[n])
			if len(w.buf) > w.limit.bytes && end > 0 {
				w.buf = w.buf[:end] // the first of the next batch
				break
			}
			errs[n] = errLost
			sent++
		}
		w.seq++
		n++
	}
	return n, sent
}

// send sends what has been filled. A second attempt does no harm should the
// kernel have taken the first: of two answers to a command the first counts.
func (w *wire) send() error {
	var err error
	for range persistence {
		if err = w.sock.send(w.buf); err != unix.EINTR {
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
func (w *wire) collect(first uint32, errs []error, open int) {
	for failed := 0; open > 0 && failed < persistence; {
		datagrams, err := w.sock.receive()
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
