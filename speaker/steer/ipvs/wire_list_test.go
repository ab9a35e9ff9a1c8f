package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

func dest4(s string, weight int) moby.Destination {
	a := netip.MustParseAddrPort(s)
	return moby.Destination{Address: a.Addr().AsSlice(), Port: a.Port(), Weight: weight, AddressFamily: unix.AF_INET,
		ConnectionFlags: moby.ConnectionFlagMasq}
}

// A dumpSocket answers dumps as a kernel does that has all.
type dumpSocket struct {
	all     []listing
	spoil   func(answer [][]byte) [][]byte // the answer to each dump
	trouble []error                        // the first calls of receive fail with these
	queue   [][]byte
	dumps   int
}

func (d *dumpSocket) send(request []byte) error {
	messages, err := syscall.ParseNetlinkMessage(request)
	if err != nil || len(messages) != 1 {
		return unix.EINVAL
	}
	d.dumps++
	seq, cmd := messages[0].Header.Seq, messages[0].Data[0]
	var answer [][]byte
	for _, l := range d.all {
		switch {
		case cmd == cmdGetService:
			answer = append(answer, asListed(seq, l.svc))
		case strings.HasSuffix(string(request), string(appendService(nil, &l.svc, false))):
			for _, dest := range l.dests {
				answer = append(answer, asListedDest(seq, dest))
			}
		}
	}
	answer = append(answer, dumpDone(seq, 0))
	if d.spoil != nil {
		answer = d.spoil(answer)
	}
	d.queue = append(d.queue, answer...)
	return nil
}

func (d *dumpSocket) receive() ([][]byte, error) {
	if len(d.trouble) > 0 {
		err := d.trouble[0]
		d.trouble = d.trouble[1:]
		return nil, err
	}
	if len(d.queue) == 0 {
		return nil, unix.EAGAIN
	}
	n := min(2, len(d.queue))
	some := d.queue[:n]
	d.queue = d.queue[n:]
	return some, nil
}

func (d *dumpSocket) close() error { return nil }

// A listing is one service with its destinations.
type listing struct {
	svc   moby.Service
	dests []moby.Destination
}

// list returns what visit shows.
func (w *wire) list(ctx context.Context) (all []listing, err error) {
	err = w.visit(ctx, func() { all = nil }, func(svc *moby.Service, dests []moby.Destination) error {
		all = append(all, listing{*svc, append([]moby.Destination(nil), dests...)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func listFrom(ctx context.Context, d *dumpSocket) ([]listing, error) {
	w := &wire{family: 31, dial: func() (wireSocket, error) { return d, nil }}
	return w.list(ctx)
}

// some are services with none, one and several destinations.
func some() []listing {
	var all []listing
	for i, svc := range someServices() {
		l := listing{svc: svc}
		for j := range i {
			l.dests = append(l.dests, dest4("10.0.0.7:8080", j))
		}
		all = append(all, l)
	}
	return all
}

func TestListHasEveryServiceWithItsDestinationsInOrder(t *testing.T) {
	d := &dumpSocket{all: some()}
	got, err := listFrom(context.Background(), d)
	if err != nil || !reflect.DeepEqual(got, some()) {
		t.Errorf("list() = %+v, %v\nwant %+v", got, err, some())
	}
	if d.dumps != 2+len(some()) {
		t.Errorf("%d dumps for %d services", d.dumps, len(some()))
	}
	if got, err := listFrom(context.Background(), &dumpSocket{}); err != nil || len(got) != 0 {
		t.Errorf("list() of nothing = %v, %v", got, err)
	}
}

func TestListSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name    string
		spoil   func([][]byte) [][]byte
		trouble []error
		want    string // "" if nothing is
	}{
		{"an interrupted read", nil, []error{unix.EINTR}, ""},
		{"answers to somebody else", func(a [][]byte) [][]byte {
			return append([][]byte{ack(99, unix.EPERM), asListed(99, someServices()[0])}, a...)
		}, nil, ""},
		{"an overrun", nil, []error{unix.ENOBUFS}, "dumping services: no buffer space"},
		{"a dump that breaks off", func(a [][]byte) [][]byte { return a[:len(a)-1] }, nil, "stops in the middle"},
		{"half a message", func(a [][]byte) [][]byte { a[0] = a[0][:18]; return a }, nil, "is said to have"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := listFrom(context.Background(), &dumpSocket{all: some(), spoil: tt.spoil, trouble: tt.trouble})
			switch {
			case tt.want == "" && (err != nil || !reflect.DeepEqual(got, some())):
				t.Errorf("list() = %d services, %v", len(got), err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("list() = %v, want %q", err, tt.want)
			}
		})
	}
	refused := &dumpSocket{all: some(), spoil: func(a [][]byte) [][]byte { return [][]byte{ack(1, unix.EPERM)} }}
	if _, err := listFrom(context.Background(), refused); !errors.Is(err, unix.EPERM) {
		t.Errorf("list() that is refused = %v", err)
	}
	ended := &dumpSocket{all: some(), spoil: func(a [][]byte) [][]byte { return [][]byte{dumpDone(1, unix.ENOMEM)} }}
	if _, err := listFrom(context.Background(), ended); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("list() that ends in an error = %v", err)
	}
	fewer := &dumpSocket{all: some()}
	fewer.spoil = func(a [][]byte) [][]byte {
		if fewer.dumps == 1 {
			return a[1:] // passed over at first
		}
		return a
	}
	if got, err := listFrom(context.Background(), fewer); err != nil || !reflect.DeepEqual(got, some()) {
		t.Errorf("list() of what changes once = %d services, %v", len(got), err)
	}
	restless := &dumpSocket{all: some()}
	odd := false
	restless.spoil = func(a [][]byte) [][]byte {
		if len(a) == 1+len(some()) { // of the services
			odd = !odd
			if odd {
				return a[1:]
			}
		}
		return a
	}
	if _, err := listFrom(context.Background(), restless); !errors.Is(err, errChanging) {
		t.Errorf("list() of what never keeps still = %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := listFrom(ctx, &dumpSocket{all: some()}); !errors.Is(err, context.Canceled) {
		t.Errorf("list() = %v after the end of its context", err)
	}
	dead := errors.New("no socket")
	w := &wire{family: 31, dial: func() (wireSocket, error) { return nil, dead }}
	if _, err := w.list(context.Background()); !errors.Is(err, dead) {
		t.Errorf("list() = %v, want %v", err, dead)
	}
}
