package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// A listing is one service as the kernel has it, with its destinations in the
// kernel's order: the scheduler mh gives another table for another order.
type listing struct {
	svc   moby.Service // without statistics
	dests []moby.Destination
}

// listAttempts is how often a table that changes while it is read is read anew.
const listAttempts = 5

// errChanging is the error of list if the kernel's table would not keep still.
var errChanging = errors.New("the virtual servers change as they are listed")

// list returns all services and their destinations.
//
// One dump has the services with their flags; asking for the destinations of
// each would be a round trip for each. The file /proc/net/ip_vs has them all,
// but lacks flags. Neither is a snapshot, so what the two do not agree on has
// changed in between, and both are read again.
func (w *wire) list(ctx context.Context) ([]listing, error) {
	for range listAttempts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		services, err := w.services()
		if err != nil {
			return nil, fmt.Errorf("dumping services: %w", err)
		}
		rows, err := w.rows()
		if err != nil {
			return nil, fmt.Errorf("reading /proc/net/ip_vs: %w", err)
		}
		if all, ok := joined(services, rows); ok {
			return all, nil
		}
	}
	return nil, errChanging
}

// joined gives each service the destinations of its row; ok is false if they
// are not those of the same services.
func joined(services []moby.Service, rows []tableRow) (all []listing, ok bool) {
	if len(services) != len(rows) {
		return nil, false
	}
	at := make(map[serviceID]int, len(rows))
	for i := range rows {
		id := unused(at, rows[i].id)
		at[id] = i
	}
	all = make([]listing, len(services))
	for i := range services {
		id := idOf(&services[i])
		if _, ok := at[id]; !ok && id.fwmark != 0 {
			id.second = true
		}
		row, ok := at[id]
		if !ok || rows[row].scheduler != services[i].SchedName {
			return nil, false
		}
		delete(at, id) // whatever comes twice is not there the second time
		all[i] = listing{services[i], rows[row].dests}
	}
	return all, true
}

// unused returns id, or its second if that is taken. There may be two services
// of one firewall mark, one of either family; they are listed in the same
// order everywhere.
func unused(at map[serviceID]int, id serviceID) serviceID {
	if _, taken := at[id]; taken && id.fwmark != 0 {
		id.second = true
	}
	return id
}

func idOf(svc *moby.Service) serviceID {
	if svc.FWMark != 0 {
		return serviceID{fwmark: svc.FWMark}
	}
	addr, _ := netip.AddrFromSlice(svc.Address)
	return serviceID{proto: svc.Protocol, addr: netip.AddrPortFrom(addr, svc.Port)}
}

// rows reads the file.
func (w *wire) rows() (rows []tableRow, err error) {
	f, err := w.table()
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	rows, w.size, err = readTable(f, w.size)
	return rows, err
}

// services dumps all services. It takes a socket of its own: one whose dump
// was left half read would refuse the next.
func (w *wire) services() ([]moby.Service, error) {
	s, err := w.dial()
	if err != nil {
		return nil, err
	}
	defer s.close() // only read
	const seq = 1
	request := appendHeader(nil, w.family, seq, unix.NLM_F_DUMP, cmdGetService)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	if err := s.send(request); err != nil {
		return nil, err
	}
	d := dump{family: w.family, seq: seq, services: make([]moby.Service, 0, w.size.rows)}
	for failed := 0; !d.done; {
		datagrams, err := s.receive()
		if err == unix.EINTR && failed < persistence {
			failed++
			continue
		}
		if err == unix.EAGAIN { // see wire
			err = errors.New("the kernel stops in the middle")
		}
		if err != nil {
			return nil, err
		}
		for _, datagram := range datagrams {
			if err := d.read(datagram); err != nil {
				return nil, err
			}
		}
	}
	return d.services, nil
}

// A dump is what has come so far of the answer to one request.
type dump struct {
	family   uint16
	seq      uint32
	services []moby.Service
	done     bool
}

func (d *dump) read(datagram []byte) error {
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
			svc, err := decodeService(m.body)
			if err != nil {
				return err
			}
			d.services = append(d.services, svc)
		}
	}
	return nil
}
