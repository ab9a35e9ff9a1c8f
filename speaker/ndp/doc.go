// Package ndp announces IPv6 addresses by Neighbor Discovery (RFC 4861, and RFC
// 4862 for Duplicate Address Detection): what solicitations and advertisements
// mean, and what they look like. Package l2 does the rest. IPv4 claims are not
// its business.
//
// Packets are heard on a packet socket, not on one of ICMPv6: what asks for a
// claimed address by unicast (Neighbor Unreachability Detection) is, to the
// kernel, for somebody else, and it would show it to nobody.
package ndp
