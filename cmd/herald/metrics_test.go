package main

import (
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/arp"
	"github.com/herald-lb/herald/speaker/l2"
)

// scraped returns what /metrics answers.
func scraped(t *testing.T, facts func() (snapshot.Report, error)) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m := speakerMetrics{facts, []*l2.Announcer{arp.New(l2.Options{})}}
	metrics(m).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return answer.Body.String()
}

func TestMetricsNameEachAddressPeerAndRouter(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	text := scraped(t, func() (snapshot.Report, error) {
		return snapshot.Report{
			Peers:     []snapshot.PeerReport{{Node: "n2", Up: true}, {Node: "n3", Losses: 2}},
			Answers:   []snapshot.Answer{{Addr: addr, Link: "eth0", Since: time.UnixMilli(1500)}, {Addr: addr, Link: "eth1"}},
			Conflicts: []snapshot.Conflict{{Addr: addr.Next(), Link: "eth0", MAC: "02:00:00:00:00:66"}},
			Routers: []snapshot.RouterReport{
				{Peer: "tor-a", Up: true, Since: time.UnixMilli(2500), Sent: 7, Offered: 3},
				{Peer: "tor-b", Since: time.UnixMilli(0), Flaps: 4},
			},
		}, nil
	})
	for _, line := range []string{
		`herald_address_announced{address="192.0.2.1",interface="eth0"} 1`,
		`herald_address_announced{address="192.0.2.1",interface="eth1"} 1`,
		`herald_address_announced_since_seconds{address="192.0.2.1",interface="eth0"} 1.5`,
		`herald_address_conflict{address="192.0.2.2",answered="false",interface="eth0",mac="02:00:00:00:00:66",node=""} 1`,
		`herald_peer_up{node="n2"} 1`,
		`herald_peer_up{node="n3"} 0`,
		`herald_peer_losses_total{node="n3"} 2`,
		`herald_bgp_session_up{peer="tor-a"} 1`,
		`herald_bgp_session_up{peer="tor-b"} 0`,
		`herald_bgp_session_since_seconds{peer="tor-a"} 2.5`,
		`herald_bgp_session_losses_total{peer="tor-b"} 4`,
		`herald_bgp_routes_told{peer="tor-a"} 7`,
		`herald_bgp_routes_offered{peer="tor-a"} 3`,
		`herald_layer2_packets_total{kind="greeting",protocol="ARP"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("lacks %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestMetricsThatCannotBeReadAreAnError(t *testing.T) {
	if text := scraped(t, func() (snapshot.Report, error) { return snapshot.Report{}, errors.New("netlink is away") }); !strings.Contains(text, "netlink is away") {
		t.Errorf("answered %q", text)
	}
}
