package hetzner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

// A catalogue stays good for maxAge, but is asked for again after minAge if it does
// not know what a Service names.
const (
	maxAge = time.Hour
	minAge = 2 * time.Minute
)

// errMissing is of what the catalogue does not know: it may have been made since.
var errMissing = errors.New("the cloud had none when it was last asked")

func missing(text string, args ...any) error {
	return &cloud.Error{Class: cloud.Terminal, After: minAge, Text: fmt.Sprintf(text, args...), Err: errMissing}
}

// A catalogue is what there is to choose from. It is never edited.
type catalogue struct {
	read     time.Time
	currency string
	types    []lbType // the smallest first
	networks []network
	floating map[string]int64 // prices of floating IPs, by type and location
}

// lbType is a size of load balancers.
type lbType struct {
	id                int64
	name              string
	services, targets int
	old               bool // no new ones are made
	prices            map[string]int64
}

type network struct {
	id   int64
	name string
}

// known returns the catalogue, from the API if it is too old. One that is too old is
// better than none.
func (d *Driver) known(ctx context.Context) (*catalogue, error) {
	d.fetching.Lock()
	defer d.fetching.Unlock()
	c := d.catalogue.Load()
	if c != nil {
		now := d.now()
		good := now.Sub(c.read) < maxAge && !d.stale.Load()
		if good || now.Sub(d.asked) < minAge {
			return c, nil
		}
	}
	d.asked = d.now()
	fresh, err := d.fetch(ctx)
	switch {
	case err == nil:
		d.catalogue.Store(fresh)
		d.stale.Store(false)
		return fresh, nil
	case c != nil:
		return c, nil
	}
	return nil, err
}

func (d *Driver) fetch(ctx context.Context) (*catalogue, error) {
	c := &catalogue{read: d.now()}
	types, err := pages("load balancer types", func(t *hcloud.LoadBalancerType) int64 { return t.ID },
		func(o hcloud.ListOpts) ([]*hcloud.LoadBalancerType, *hcloud.Response, error) {
			return d.api.LoadBalancerType.List(ctx, hcloud.LoadBalancerTypeListOpts{ListOpts: o})
		})
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		c.types = append(c.types, typeOf(t))
	}
	slices.SortFunc(c.types, func(a, b lbType) int {
		return cmp.Or(cmp.Compare(a.services, b.services), cmp.Compare(a.targets, b.targets), strings.Compare(a.name, b.name))
	})
	networks, err := pages("networks", func(n *hcloud.Network) int64 { return n.ID },
		func(o hcloud.ListOpts) ([]*hcloud.Network, *hcloud.Response, error) {
			return d.api.Network.List(ctx, hcloud.NetworkListOpts{ListOpts: o})
		})
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		c.networks = append(c.networks, network{n.ID, n.Name})
	}
	pricing, resp, err := d.api.Pricing.Get(ctx)
	if err != nil {
		return nil, wrap(resp, err, "asking for prices")
	}
	c.currency, c.floating = pricing.Currency, map[string]int64{}
	for _, t := range pricing.FloatingIPs {
		for _, p := range t.Pricings {
			c.floating[string(t.Type)+p.Location.Name] = milli(p.Monthly)
		}
	}
	return c, nil
}

// milli is a net price in thousandths; zero if it can not be read.
func milli(p hcloud.Price) int64 {
	net, err := strconv.ParseFloat(p.Net, 64)
	if err != nil {
		return 0
	}
	return int64(math.Round(net * 1000))
}

func typeOf(t *hcloud.LoadBalancerType) lbType {
	of := lbType{id: t.ID, name: t.Name, services: t.MaxServices, targets: t.MaxTargets, old: t.IsDeprecated(), prices: map[string]int64{}}
	for _, p := range t.Pricings {
		if p.Location != nil {
			of.prices[p.Location.Name] = milli(p.Monthly)
		}
	}
	return of
}

// cost is what a load balancer costs in a month.
func (c *catalogue) cost(typ, location string) cloud.Money {
	t, _ := c.byName(typ)
	return cloud.Money{Milli: t.prices[location], Currency: c.currency}
}

func (c *catalogue) byName(name string) (lbType, bool) {
	i := slices.IndexFunc(c.types, func(t lbType) bool { return t.name == name || strconv.FormatInt(t.id, 10) == name })
	if i < 0 {
		return lbType{}, false
	}
	return c.types[i], true
}

// smallest returns the smallest type that may still be made with so many services
// and targets.
func (c *catalogue) smallest(services, targets int) (lbType, bool) {
	i := slices.IndexFunc(c.types, func(t lbType) bool { return !t.old && t.services >= services && t.targets >= targets })
	if i < 0 {
		return lbType{}, false
	}
	return c.types[i], true
}

// locations are those with a price.
func (c *catalogue) locations() (names []string) {
	for _, t := range c.types {
		for l := range t.prices {
			names = append(names, l)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c *catalogue) network(ref string) (network, bool) {
	i := slices.IndexFunc(c.networks, func(n network) bool { return n.name == ref || strconv.FormatInt(n.id, 10) == ref })
	if i < 0 {
		return network{}, false
	}
	return c.networks[i], true
}
