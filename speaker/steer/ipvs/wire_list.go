package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// listAttempts is how often a table that changes while it is read is read anew.
const listAttempts = 5

// errChanging is the error of visit if the kernel's table would not keep still.
var errChanging = errors.New("the virtual servers change as they are listed")

// visit calls each with every service and its destinations, in the kernel's
// order: the scheduler mh gives another table for another order. Statistics are
// left out, and dests are valid until each returns. Begin is called before the
// first, and again if all begins anew.
//
// One dump has the services. Their destinations are a dump each, of two system
// calls: the kernel takes one dump at a time from a socket. The file
// /proc/net/ip_vs has all in one, but not if several namespaces have services:
// from its second page on it counts those of the others too, and passes over
// ours (ip_vs_info_seq_next in net/netfilter/ipvs/ip_vs_ctl.c).
//
// A dump is no snapshot, and may pass over a service while another is deleted:
// so the services are dumped once more, and all is read again if they are others.
func (w *wire) visit(ctx context.Context, begin func(), each func(svc *moby.Service, dests []moby.Destination) error) error {
	s, err := w.dial()
	if err != nil {
		return err
	}
	defer s.close() // only read; and one whose dump was left half read would refuse the next
	d := dumper{w, s, 0}
	for range listAttempts {
		begin()
		services, err := d.services()
		if err != nil {
			return fmt.Errorf("dumping services: %w", err)
		}
		if err := d.destinations(ctx, services, each); err != nil {
			return fmt.Errorf("dumping destinations: %w", err)
		}
		again, err := d.services()
		if err != nil {
			return fmt.Errorf("dumping services: %w", err)
		}
		if slices.EqualFunc(services, again, sameService) {
			return nil
		}
	}
	return errChanging
}

func sameService(a, b moby.Service) bool {
	return a.AddressFamily == b.AddressFamily && a.FWMark == b.FWMark && a.Protocol == b.Protocol && a.Port == b.Port && a.Address.Equal(b.Address)
}

// A dumper dumps one thing after the other over one socket.
type dumper struct {
	*wire
	socket wireSocket
	last   uint32 // sequence number
}

func (d *dumper) services() (services []moby.Service, err error) {
	return services, d.dump(nil, func(body []byte) error {
		svc, err := decodeService(body)
		services = append(services, svc)
		return err
	})
}

// destinations calls each with the services and their destinations.
func (d *dumper) destinations(ctx context.Context, services []moby.Service, each func(svc *moby.Service, dests []moby.Destination) error) error {
	var dests []moby.Destination
	for i := range services {
		if err := ctx.Err(); err != nil {
			return err
		}
		dests = dests[:0]
		err := d.dump(&services[i], func(body []byte) error {
			dest, err := decodeDestination(body, services[i].AddressFamily)
			dests = append(dests, dest)
			return err
		})
		if err != nil {
			return err
		}
		if err := each(&services[i], dests); err != nil {
			return err
		}
	}
	return nil
}

// dump asks for all services or, if svc is not nil, for the destinations of one,
// and calls each with every answer.
func (d *dumper) dump(svc *moby.Service, each func(body []byte) error) error {
	cmd := uint8(cmdGetService)
	if svc != nil {
		cmd = cmdGetDest
	}
	d.last++
	d.buf = appendHeader(d.buf[:0], d.family, d.last, unix.NLM_F_DUMP, cmd)
	if svc != nil {
		d.buf = appendService(d.buf, svc, false)
	}
	binary.NativeEndian.PutUint32(d.buf, uint32(len(d.buf)))
	if err := d.socket.send(d.buf); err != nil {
		return err
	}
	answer := dumping{family: d.family, seq: d.last, each: each}
	for failed := 0; !answer.done; {
		datagrams, err := d.socket.receive()
		if err == unix.EINTR && failed < persistence {
			failed++
			continue
		}
		if err == unix.EAGAIN { // see wire
			err = errors.New("the kernel stops in the middle")
		}
		if err != nil {
			return err
		}
		for _, datagram := range datagrams {
			if err := answer.read(datagram); err != nil {
				return err
			}
		}
	}
	return nil
}

// A dumping is what has come so far of the answer to one request.
type dumping struct {
	family uint16
	seq    uint32
	each   func(body []byte) error
	done   bool
}

func (d *dumping) read(datagram []byte) error {
	for len(datagram) > 0 && !d.done {
		var m message
		var err error
		if m, datagram, err = nextMessage(datagram); err != nil {
			return err
		}
		switch {
		case m.seq != d.seq:
		case m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE:
			d.done = true
			return m.status()
		case m.kind == d.family:
			if err := d.each(m.body); err != nil {
				return err
			}
		}
	}
	return nil
}
