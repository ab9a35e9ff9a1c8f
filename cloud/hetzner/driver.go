// Package hetzner makes load balancers and floating IPs in Hetzner Cloud.
//
// It owns what bears Herald's labels, and on a load balancer only the services
// and targets that those labels name: what people add by hand stays. Labels are
// in the call that makes a thing, so nothing of ours is ever without them.
//
// Planning is pure. It compares what should be with the load balancer as the API
// showed it, and with a catalogue of types, prices and networks that is read once
// an hour. A step is one call; one that was done already, by a call whose answer
// was lost, is recognised by looking at the load balancer, not at the error.
//
// The SDK repeats nothing: it would repeat the creation of what costs money.
package hetzner

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

func init() { cloud.Register("hetzner", Open) }

// perPage is the most that the API puts on a page.
const perPage = 50

// A Driver is a [cloud.Driver] and a [cloud.AddressDriver].
type Driver struct {
	defaults cloud.Defaults
	cluster  string // as the configuration has it; empty where it does not say
	api      *hcloud.Client
	now      func() time.Time
	pause    time.Duration // before it is asked whether an address is unassigned

	// catalogue is replaced whole; nil until it was read. fetching has one reader at a
	// time ask the API.
	catalogue atomic.Pointer[catalogue]
	fetching  sync.Mutex
	asked     time.Time   // when it was last tried; under fetching
	stale     atomic.Bool // somebody asked for what the catalogue does not know

	servers serverCache
}

// Open makes a driver. It calls nobody.
func Open(c cloud.Config, env cloud.Env) (cloud.Driver, error) {
	client := http.Client{}
	if env.HTTP != nil {
		client = *env.HTTP
	}
	// A redirection would carry the token to who knows whom.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Transport = authorized{next: client.Transport, token: func() (string, error) { return c.Token("HCLOUD_TOKEN") }}
	options := []hcloud.ClientOption{
		hcloud.WithHTTPClient(&client),
		hcloud.WithRetryOpts(hcloud.RetryOpts{MaxRetries: 0}),
		hcloud.WithApplication("herald", ""),
	}
	if c.Endpoint != "" {
		options = append(options, hcloud.WithEndpoint(c.Endpoint))
	}
	return &Driver{defaults: c.Defaults, cluster: c.ClusterID, api: hcloud.NewClient(options...), now: time.Now, pause: pause}, nil
}

// authorized says who asks, with the token as it is at the time of each request.
type authorized struct {
	next  http.RoundTripper
	token func() (string, error)
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	next := a.next
	if next == nil {
		next = http.DefaultTransport
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	r.Header.Set("Authorization", "Bearer "+token)
	return next.RoundTrip(r)
}

// Capabilities implements [cloud.Driver].
func (d *Driver) Capabilities(context.Context) (cloud.Capabilities, error) {
	return cloud.Capabilities{
		Protocols:       []corev1.Protocol{corev1.ProtocolTCP},
		Families:        []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ProxyProtocol:   true,
		HTTPHealthCheck: true, Retains: true, Addresses: true,
		Delivery: cloud.ToNodePort,
	}, nil
}

// pages returns all of a list, each thing once, or an error: a list that lacks
// something must not look like a cloud that does. Things may come and go between
// pages; what then does not add up is asked for again by who asks.
func pages[T any](what string, id func(*T) int64, list func(hcloud.ListOpts) ([]*T, *hcloud.Response, error)) ([]*T, error) {
	var all []*T
	seen := map[int64]bool{}
	for page := 1; page > 0; {
		things, resp, err := list(hcloud.ListOpts{Page: page, PerPage: perPage})
		if err != nil {
			return nil, wrap(resp, err, "listing %s", what)
		}
		for _, t := range things {
			if !seen[id(t)] {
				seen[id(t)] = true
				all = append(all, t)
			}
		}
		p := resp.Meta.Pagination
		if p == nil {
			break
		}
		if p.NextPage == 0 && p.TotalEntries > len(all) {
			return nil, &cloud.Error{Class: cloud.Retryable, Text: "listing " + what + ": pages do not add up"}
		}
		if p.NextPage != 0 && p.NextPage <= page {
			return nil, &cloud.Error{Class: cloud.Retryable, Text: "listing " + what + ": pages go backwards"}
		}
		page = p.NextPage
	}
	return all, nil
}
