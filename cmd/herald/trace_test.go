package main

import (
	"strings"
	"testing"
)

func TestParseFlow(t *testing.T) {
	tests := []struct {
		name, client, virtual, want string
	}{
		{"tcp is meant where nothing is said", "198.51.100.7:40000", "192.0.2.1:80", "198.51.100.7:40000 → 192.0.2.1:80/tcp"},
		{"udp has to be said", "198.51.100.7:40000", "192.0.2.1:53/UDP", "198.51.100.7:40000 → 192.0.2.1:53/udp"},
		{"IPv6 stands in brackets", "[2001:db8::7]:40000", "[2001:db8::1]:80/sctp", "[2001:db8::7]:40000 → [2001:db8::1]:80/sctp"},
		{"an IPv4 address in IPv6 is IPv4", "[::ffff:198.51.100.7]:40000", "192.0.2.1:80", "198.51.100.7:40000 → 192.0.2.1:80/tcp"},
		{"a client needs a port", "198.51.100.7", "192.0.2.1:80", "client"},
		{"so does an address", "198.51.100.7:40000", "192.0.2.1/tcp", "address"},
		{"a name is no address", "198.51.100.7:40000", "web:80", "address"},
		{"icmp has no ports", "198.51.100.7:40000", "192.0.2.1:80/icmp", `protocol "icmp"`},
		{"families do not mix", "198.51.100.7:40000", "[2001:db8::1]:80", "different families"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flow, err := parseFlow(tt.client, tt.virtual)
			got := flow.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || err == nil && got != tt.want {
				t.Errorf("parseFlow() = %q, want %q", got, tt.want)
			}
		})
	}
}
