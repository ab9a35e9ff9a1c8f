package main

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/l2"
)

// metrics returns what answers on /metrics: the process, and what more there is.
func metrics(more ...prometheus.Collector) http.Handler {
	all := prometheus.NewRegistry()
	all.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all.MustRegister(more...)
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{})
}

// The metrics of a speaker. Gauges of addresses and peers are there only for those
// that there are.
var (
	announcedDesc = prometheus.NewDesc("herald_address_announced", "An address that this node answers for: 1.",
		[]string{"address", "interface"}, nil)
	announcedSinceDesc = prometheus.NewDesc("herald_address_announced_since_seconds", "When this node took the address, in seconds since 1970.",
		[]string{"address", "interface"}, nil)
	conflictDesc = prometheus.NewDesc("herald_address_conflict", "An address that another host has, too: 1. The node is where that is the speaker, if it is one.",
		[]string{"address", "interface", "mac", "node", "answered"}, nil)
	peerDesc = prometheus.NewDesc("herald_peer_up", "Whether the BFD session with the speaker of another node is up.",
		[]string{"node"}, nil)
	peerLossesDesc = prometheus.NewDesc("herald_peer_losses_total", "How often the BFD session with the speaker of another node was lost.",
		[]string{"node"}, nil)
	sessionDesc = prometheus.NewDesc("herald_bgp_session_up", "Whether the BGP session with the router of a BGPPeer is established.",
		[]string{"peer"}, nil)
	sessionSinceDesc = prometheus.NewDesc("herald_bgp_session_since_seconds", "When the BGP session came to the state that it is in, in seconds since 1970.",
		[]string{"peer"}, nil)
	sessionLossesDesc = prometheus.NewDesc("herald_bgp_session_losses_total", "How often the BGP session was lost.",
		[]string{"peer"}, nil)
	routesToldDesc = prometheus.NewDesc("herald_bgp_routes_told", "Routes that the router was told.",
		[]string{"peer"}, nil)
	routesOfferedDesc = prometheus.NewDesc("herald_bgp_routes_offered", "Routes that the router would tell this node, one that it repeats each time: all are refused.",
		[]string{"peer"}, nil)
	packetsDesc = prometheus.NewDesc("herald_layer2_packets_total", "Packets of ARP and neighbour discovery about addresses of Services, by what they were.",
		[]string{"protocol", "kind"}, nil)
)

// speakerMetrics collects those of a speaker whenever it is asked.
type speakerMetrics struct {
	facts func() (snapshot.Report, error)
	l2    []*l2.Announcer
}

// Describe implements [prometheus.Collector].
func (m speakerMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		announcedDesc, announcedSinceDesc, conflictDesc, peerDesc, peerLossesDesc, packetsDesc,
		sessionDesc, sessionSinceDesc, sessionLossesDesc, routesToldDesc, routesOfferedDesc,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (m speakerMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, a := range m.l2 {
		s := a.Stats()
		for kind, n := range map[string]uint64{
			"request": s.Requests, "reply": s.Replies, "greeting": s.Greetings, "probe": s.Probes, "conflict": s.Conflicts,
			"defence": s.Defences, "ignored": s.Ignored, "malformed": s.Malformed, "failed": s.Failures,
		} {
			count(packetsDesc, n, a.Protocol(), kind)
		}
	}
	r, err := m.facts()
	if err != nil {
		to <- prometheus.NewInvalidMetric(announcedDesc, err)
		return
	}
	for _, a := range r.Answers {
		gauge(announcedDesc, 1, a.Addr.String(), a.Link)
		gauge(announcedSinceDesc, float64(a.Since.UnixMilli())/1000, a.Addr.String(), a.Link)
	}
	for _, c := range r.Conflicts {
		gauge(conflictDesc, 1, c.Addr.String(), c.Link, c.MAC, c.Node, strconv.FormatBool(c.Answered))
	}
	for _, p := range r.Peers {
		gauge(peerDesc, oneIf(p.Up), p.Node)
		count(peerLossesDesc, uint64(p.Losses), p.Node)
	}
	for _, b := range r.Routers {
		gauge(sessionDesc, oneIf(b.Up), b.Peer)
		gauge(sessionSinceDesc, float64(b.Since.UnixMilli())/1000, b.Peer)
		count(sessionLossesDesc, uint64(b.Flaps), b.Peer)
		gauge(routesToldDesc, float64(b.Sent), b.Peer)
		gauge(routesOfferedDesc, float64(b.Offered), b.Peer)
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
