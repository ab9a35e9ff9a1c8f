package hetzner

import (
	"fmt"
	"slices"
	"time"
)

// Euro is an amount of money without tax, in millionths.
type Euro int64

func (e Euro) String() string { return fmt.Sprintf("%d.%06d", e/1e6, e%1e6) }

// A Kind is a kind of resource, as actions name it.
type Kind string

// The kinds there are.
const (
	LoadBalancer Kind = "load_balancer"
	FloatingIP   Kind = "floating_ip"
	PrimaryIP    Kind = "primary_ip"
	Server       Kind = "server"
	Network      Kind = "network"
)

// A Charge is one paid thing for as long as it had one price.
type Charge struct {
	Kind     Kind
	ID       int64
	Name     string    // when it began
	From, To time.Time // To is zero while it goes on
	Price    Price
}

// Price is what a thing costs.
type Price struct{ Hourly, Monthly Euro }

// Hours is for how long it has to be paid: each hour that was begun.
func (ch Charge) Hours(now time.Time) int {
	if !ch.To.IsZero() {
		now = ch.To
	}
	return int((now.Sub(ch.From) + time.Hour - 1) / time.Hour)
}

// charge begins to count.
func (c *Cloud) charge(kind Kind, id int64, name string, p Price) {
	if p != (Price{}) {
		c.meter = append(c.meter, Charge{Kind: kind, ID: id, Name: name, From: c.now(), Price: p})
	}
}

// discharge stops counting.
func (c *Cloud) discharge(kind Kind, id int64) {
	for i := range c.meter {
		if ch := &c.meter[i]; ch.Kind == kind && ch.ID == id && ch.To.IsZero() {
			ch.To = c.now()
		}
	}
}

// Charges returns all that was ever to be paid, in the order in which it began.
func (c *Cloud) Charges() []Charge {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	return slices.Clone(c.meter)
}

// Bill returns the hours of each kind of thing, and what all of them cost.
func (c *Cloud) Bill() (hours map[Kind]int, total Euro) {
	hours = map[Kind]int{}
	now := c.clock.Now()
	for _, ch := range c.Charges() {
		h := ch.Hours(now)
		hours[ch.Kind] += h
		total += Euro(h) * ch.Price.Hourly
	}
	return hours, total
}

// MonthlyRate is what a month of all there is now costs, or of these kinds.
func (c *Cloud) MonthlyRate(kinds ...Kind) Euro {
	var rate Euro
	for _, ch := range c.Charges() {
		if ch.To.IsZero() && (len(kinds) == 0 || slices.Contains(kinds, ch.Kind)) {
			rate += ch.Price.Monthly
		}
	}
	return rate
}
