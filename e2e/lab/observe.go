package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// questionGap is how often each address is asked for.
	questionGap = 10 * time.Millisecond
	// questionCost bounds how many questions a second there are: each of them
	// wakes every speaker.
	questionCost = time.Millisecond
)

// An Observer asks all the time who has some addresses, and notes who answers.
// It asks as a host does that knows nobody, and believes nobody.
type Observer struct {
	host  *Host
	every time.Duration
	stop  context.CancelFunc
	group *errgroup.Group

	mu      sync.Mutex
	records map[netip.Addr]*Record
	late    time.Duration
}

// Observe starts an Observer on the segment.
func (h *Host) Observe(addrs ...netip.Addr) (*Observer, error) {
	every := max(questionGap, time.Duration(len(addrs))*questionCost)
	o := &Observer{host: h, every: every, group: &errgroup.Group{}, records: map[netip.Addr]*Record{}}
	var ctx context.Context
	ctx, o.stop = context.WithCancel(context.Background())
	began := time.Now()
	for _, a := range addrs {
		o.records[a] = &Record{Began: began, Every: every}
	}
	questions, err := h.questions(addrs)
	for etherType, frames := range questions {
		if err == nil && len(frames) > 0 {
			err = o.watch(ctx, etherType, frames)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("observing %v: %w", addrs, err), o.Stop())
	}
	return o, nil
}

// questions returns the frames that ask for addrs, by protocol.
func (h *Host) questions(addrs []netip.Addr) (map[uint16][][]byte, error) {
	four, err := h.ownAddress(unix.AF_INET)
	if err != nil {
		return nil, err
	}
	six, err := h.ownAddress(unix.AF_INET6)
	questions := map[uint16][][]byte{}
	for _, a := range addrs {
		if a.Is4() {
			questions[unix.ETH_P_ARP] = append(questions[unix.ETH_P_ARP], arpRequest(h.mac, four, a))
		} else {
			questions[unix.ETH_P_IPV6] = append(questions[unix.ETH_P_IPV6], solicitation(h.mac, six, a))
		}
	}
	return questions, err
}

// watch asks and listens by one protocol until ctx ends.
func (o *Observer) watch(ctx context.Context, etherType uint16, questions [][]byte) error {
	sock, err := o.host.packetSocket(etherType)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { sock.Close() })
	if err := stamped(sock); err != nil {
		return err
	}
	for _, do := range []func() error{
		func() error { return o.ask(ctx, sock, questions) },
		func() error { return o.listen(sock, etherType) },
	} {
		o.group.Go(func() error {
			if err := do(); ctx.Err() == nil { // or else it is us who have closed the socket
				return err
			}
			return nil
		})
	}
	return nil
}

func (o *Observer) ask(ctx context.Context, sock *os.File, questions [][]byte) error {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for last := time.Now(); ; {
		o.mu.Lock()
		o.late, last = max(o.late, time.Since(last)-o.every), time.Now()
		o.mu.Unlock()
		for _, q := range questions {
			// A cable that is cut is for the record to show.
			if _, err := sock.Write(q); err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (o *Observer) listen(sock *os.File, etherType uint16) error {
	hear := arpVoice
	if etherType == unix.ETH_P_IPV6 {
		hear = ndVoice
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	frame, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, at, err := receive(raw, frame, control)
		if err != nil {
			return err
		}
		if addr, mac, greeting, ok := hear(frame[:n], MAC(o.host.mac)); ok {
			o.note(addr, Voice{at, mac}, greeting)
		}
	}
}

func (o *Observer) note(addr netip.Addr, v Voice, greeting bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.records[addr]
	switch {
	case r == nil:
	case greeting:
		r.Greetings = note(r.Greetings, v)
	default:
		r.Answers = note(r.Answers, v)
	}
}

// Record returns what was heard of an address so far. It may be called after
// Stop as well.
func (o *Observer) Record(addr netip.Addr) Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := *o.records[addr]
	r.Answers, r.Greetings = slices.Clone(r.Answers), slices.Clone(r.Greetings)
	if r.Ended.IsZero() {
		r.Ended = time.Now()
	}
	return r
}

// Late returns by how much it was late to ask, at the worst: that long the machine
// kept it, and perhaps those who should answer, from running.
func (o *Observer) Late() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.late
}

// Stop ends the Observer.
func (o *Observer) Stop() error {
	o.mu.Lock()
	for _, r := range o.records {
		if r.Ended.IsZero() {
			r.Ended = time.Now()
		}
	}
	o.mu.Unlock()
	o.stop()
	return o.group.Wait()
}

// stamped has the kernel say when each packet came: who reads it may be late.
func stamped(sock *os.File) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	return errors.Join(err, failed)
}

// receive reads one frame, and when it came.
func receive(raw interface {
	Read(func(uintptr) bool) error
}, frame, control []byte) (n int, at time.Time, err error) {
	var had int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, had, _, _, failed = unix.Recvmsg(int(fd), frame, control, unix.MSG_DONTWAIT)
		return !errors.Is(failed, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return 0, at, err
	case errors.Is(failed, unix.ENETDOWN): // said once
		return 0, time.Now(), nil
	case failed != nil:
		return 0, at, failed
	}
	return n, stamp(control[:had]), nil
}

// stamp reads when a packet came; now, if it does not say.
func stamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}
