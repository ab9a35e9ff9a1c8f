package webhook

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"

	"github.com/herald-lb/herald/cloud"
)

// What a server says is read here, and nowhere else. Each parser returns all of
// an answer, checked, or an error that says what is wrong with it.

func parseServer(body []byte) (server, error) {
	var s server
	if err := decode(body, &s); err != nil {
		return server{}, err
	}
	if s.Version != version {
		return server{}, fmt.Errorf("the server speaks version %s of the protocol, and Herald %s only", quote(s.Version), version)
	}
	return s, s.Capabilities.check()
}

func (c capabilities) check() error {
	for _, p := range c.Protocols {
		if !slices.Contains([]string{"TCP", "UDP", "SCTP"}, p) {
			return fmt.Errorf("capabilities.protocols: %s is none of TCP, UDP and SCTP", quote(p))
		}
	}
	for _, f := range c.Families {
		if !slices.Contains([]string{"IPv4", "IPv6"}, f) {
			return fmt.Errorf("capabilities.families: %s is neither IPv4 nor IPv6", quote(f))
		}
	}
	switch {
	case !c.LoadBalancers && !c.Addresses:
		return fmt.Errorf("capabilities: there are neither loadBalancers nor addresses")
	case c.Delivery != string(cloud.ToNodePort) && c.Delivery != string(cloud.ToVIP):
		return fmt.Errorf("capabilities.delivery: %s is neither nodePort nor vip", quote(c.Delivery))
	}
	return nil
}

func (c capabilities) in() cloud.Capabilities {
	return cloud.Capabilities{
		Protocols:    each(c.Protocols, func(p string) corev1.Protocol { return corev1.Protocol(p) }),
		Families:     each(c.Families, func(f string) corev1.IPFamily { return corev1.IPFamily(f) }),
		SourceRanges: c.SourceRanges, ProxyProtocol: c.ProxyProtocol, HTTPHealthCheck: c.HTTPHealthCheck, Addresses: c.Addresses,
		Delivery: cloud.Delivery(c.Delivery),
	}
}

func parseLB(body []byte) (loadBalancer, error) {
	var lb loadBalancer
	if err := decode(body, &lb); err != nil {
		return loadBalancer{}, err
	}
	return lb, lb.check()
}

func (lb loadBalancer) check() error {
	if err := lb.resource.check(); err != nil {
		return err
	}
	for i, text := range lb.Addresses {
		if err := checkIP(text); err != nil {
			return fmt.Errorf("addresses of %s: %w", quote(lb.ID), err)
		}
		if slices.Contains(lb.Addresses[:i], text) {
			return fmt.Errorf("addresses of %s: %s is there twice", quote(lb.ID), text)
		}
	}
	if lb.State == string(cloud.Ready) && len(lb.Addresses) == 0 {
		return fmt.Errorf("%s is ready and has no address", quote(lb.ID))
	}
	return nil
}

func parseAddress(body []byte) (address, error) {
	var a address
	if err := decode(body, &a); err != nil {
		return address{}, err
	}
	return a, a.check()
}

func (a address) check() error {
	if err := a.resource.check(); err != nil {
		return err
	}
	if a.Family != "IPv4" && a.Family != "IPv6" {
		return fmt.Errorf("family of %s: %s is neither IPv4 nor IPv6", quote(a.ID), quote(a.Family))
	}
	for _, text := range []string{a.Address, a.DeliveredAddress} {
		if text == "" {
			continue
		}
		if err := checkIP(text); err != nil {
			return fmt.Errorf("address of %s: %w", quote(a.ID), err)
		}
		if familyOf(text) != a.Family {
			return fmt.Errorf("address of %s: %s is not of family %s", quote(a.ID), text, a.Family)
		}
	}
	switch {
	case a.State == string(cloud.Ready) && a.Address == "":
		return fmt.Errorf("%s is ready and has no address", quote(a.ID))
	case len(a.AssignedTo) > 255:
		return fmt.Errorf("assignedTo of %s is longer than 255 characters", quote(a.ID))
	}
	return nil
}

func (r resource) check() error {
	if r.ID == "" || len(r.ID) > 255 || len(r.Name) > 255 {
		return fmt.Errorf("id %s or name %s is empty, or longer than 255 characters", quote(r.ID), quote(r.Name))
	}
	if !slices.Contains([]string{"ready", "pending", "failed", "deleting"}, r.State) {
		return fmt.Errorf("state of %s: %s is none of ready, pending, failed and deleting", quote(r.ID), quote(r.State))
	}
	if r.Owner != nil && (r.Owner.Cluster == "" || r.Owner.UID == "") {
		return fmt.Errorf("owner of %s has no cluster or no uid", quote(r.ID))
	}
	if r.RetryAfterSeconds < 0 {
		return fmt.Errorf("retryAfterSeconds of %s is negative", quote(r.ID))
	}
	if r.CostPerMonth != nil && (r.CostPerMonth.Milli < 0 || len(r.CostPerMonth.Currency) != 3) {
		return fmt.Errorf("costPerMonth of %s is negative, or in no currency", quote(r.ID))
	}
	if _, err := r.created(); err != nil {
		return fmt.Errorf("created of %s: %s is no time of RFC 3339", quote(r.ID), quote(r.Created))
	}
	return nil
}

func (r resource) created() (time.Time, error) {
	if r.Created == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, r.Created)
}

// found returns what all resources have to say for themselves.
func (r resource) found(kind cloud.Kind) cloud.Found {
	created, _ := r.created() // checked
	f := cloud.Found{Kind: kind, ID: r.ID, Name: r.Name, Owner: ownerIn(r.Owner), State: cloud.State(r.State), Adopted: r.Adopted, Protected: r.Protected, Created: created}
	if r.State == "pending" {
		f.State = cloud.Busy
	}
	if r.CostPerMonth != nil {
		f.Cost = cloud.Money{Milli: r.CostPerMonth.Milli, Currency: r.CostPerMonth.Currency}
	}
	return f
}

func (r resource) after() time.Duration { return after(r.RetryAfterSeconds) }

// after is at most an hour: nobody is made to wait for ever by a word.
func after(seconds int64) time.Duration {
	return time.Duration(min(max(seconds, 0), 3600)) * time.Second
}

func (lb loadBalancer) found() cloud.Found {
	f := lb.resource.found(cloud.LoadBalancer)
	f.Addrs = each(lb.Addresses, netip.MustParseAddr) // checked
	slices.SortStableFunc(f.Addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return f
}

func (a address) found() cloud.Found {
	f := a.resource.found(cloud.Address)
	if a.Address != "" {
		f.Addrs = []netip.Addr{netip.MustParseAddr(a.Address)} // checked
	}
	f.Raw = a
	return f
}

// parseList reads one page, of which each item has to be right.
func parseList[T interface{ check() error }](body []byte) (items []T, next string, err error) {
	var page struct {
		Items *[]T   `json:"items"`
		Next  string `json:"next"`
	}
	if err := decode(body, &page); err != nil {
		return nil, "", err
	}
	if page.Items == nil {
		return nil, "", fmt.Errorf("a list has no items: an empty one is []")
	}
	for _, item := range *page.Items {
		if err := item.check(); err != nil {
			return nil, "", err
		}
	}
	return *page.Items, page.Next, nil
}

// parseFailure reads the body of an error, in which anything may stand: that of
// a proxy is no JSON.
func parseFailure(body []byte) failure {
	var f failure
	if decode(body, &f) != nil || f.Message == "" {
		return failure{Message: "without an explanation"}
	}
	return f
}

func decode(body []byte, into any) error {
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, into); err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	return nil
}

// checkIP refuses what would be compared, or announced, wrongly.
func checkIP(text string) error {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return fmt.Errorf("%s is no address", quote(text))
	case a.Zone() != "" || a.Is4In6() || a.String() != text:
		return fmt.Errorf("%s is not canonical: write %s", text, a.Unmap().WithZone(""))
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
		return fmt.Errorf("%s cannot be of a load balancer", text)
	}
	return nil
}

func familyOf(text string) string {
	if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// quote is for words of a server in an error: not long, and on one line.
func quote(s string) string { return fmt.Sprintf("%q", short(s, 80)) }

// short cuts s, and takes out of it what cannot be printed.
func short(s string, most int) string {
	var out []rune
	for _, r := range s {
		if len(out) == most {
			return string(out) + "…"
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
