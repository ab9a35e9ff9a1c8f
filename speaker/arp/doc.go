// Package arp announces IPv4 addresses by ARP (RFC 826, RFC 5227): what
// requests and replies mean, and what they look like. Package l2 does the rest.
// IPv6 claims are not its business.
package arp
