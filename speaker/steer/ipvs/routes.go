package ipvs

import (
	"context"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A hostAddr is the route of one address: to a gateway or, if there is none,
// to this namespace itself.
type hostAddr struct {
	addr, gateway netip.Addr
	link          int
	del           bool
}

// append appends r as one message (linux/rtnetlink.h). A route that is there is
// not replaced: adding it fails with EEXIST.
func (r hostAddr) append(b []byte, seq uint32) []byte {
	kind, flags := uint16(unix.RTM_NEWROUTE), uint16(unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if r.del {
		kind, flags = unix.RTM_DELROUTE, unix.NLM_F_REQUEST|unix.NLM_F_ACK
	}
	table, scope, to := byte(unix.RT_TABLE_MAIN), byte(unix.RT_SCOPE_UNIVERSE), byte(unix.RTN_UNICAST)
	if !r.gateway.IsValid() {
		table, scope, to = unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0)
	// struct rtmsg: family, lengths of destination and source, type of service.
	b = append(b, byte(familyOf(r.addr)), byte(r.addr.BitLen()), 0, 0, table, routeProtocol, scope, to, 0, 0, 0, 0)
	b = append(appendAttr(b, unix.RTA_DST, r.addr.BitLen()/8), r.addr.AsSlice()...)
	if r.gateway.IsValid() {
		b = append(appendAttr(b, unix.RTA_GATEWAY, r.gateway.BitLen()/8), r.gateway.AsSlice()...)
	}
	b = append32(b, unix.RTA_OIF, uint32(r.link))
	binary.NativeEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// route makes or deletes routes in p, all in a few messages, and returns what
// became of each.
func (p *place) route(ctx context.Context, routes []hostAddr) []error {
	b, err := openBatcher(*p, unix.NETLINK_ROUTE)
	if err != nil {
		errs := make([]error, len(routes))
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	defer b.close() // it owes nobody an answer
	return b.do(ctx, len(routes), func(buf []byte, seq uint32, i int) ([]byte, error) { return routes[i].append(buf, seq), nil })
}
