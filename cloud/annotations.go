package cloud

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Prefix of the annotations that are read.
const Prefix = "herald-lb.io/"

// InstanceAnnotation, on a Node, is the ID of its machine in the cloud.
const InstanceAnnotation = Prefix + "instance-id"

// Asked is what the annotations of a Service say.
type Asked struct {
	Provider                        string
	Type, Location, Network, Subnet string
	UsePrivateIP, Internal          *bool
	FrontFamilies                   []corev1.IPFamily
	Hostname, Name                  string
	Algorithm                       string
	Proxy                           ProxyProtocol
	IPMode                          corev1.LoadBalancerIPMode
	NodeSelector                    map[string]string
	Health                          AskedHealth
	IdleTimeout                     time.Duration
	Address, Adopt, AdoptFrom       string
	Deletion                        Policy
	ServeWith                       ServeWith
	AllowRecreate, AllowUnenforced  bool
	DryRun                          bool
}

// ServeWith is with what a cloud serves a Service.
type ServeWith string

// What a Service may be served with. The default is a load balancer.
const (
	WithLoadBalancer ServeWith = "load-balancer" // that sends to the nodes
	WithFloatingIP   ServeWith = "floating-ip"   // an address, routed to the node that steers
)

// AskedHealth is what annotations say of health checks; zero for nothing.
type AskedHealth struct {
	Protocol          string // tcp or http
	Port              int32
	Path              string
	Interval, Timeout time.Duration
	Retries           int
}

// A setter reads one annotation.
type setter func(a *Asked, value string) error

// setters are the annotations there are, without Prefix.
var setters = map[string]setter{
	"provider":                       text(func(a *Asked) *string { return &a.Provider }),
	"type":                           text(func(a *Asked) *string { return &a.Type }),
	"location":                       text(func(a *Asked) *string { return &a.Location }),
	"network":                        text(func(a *Asked) *string { return &a.Network }),
	"subnet":                         text(func(a *Asked) *string { return &a.Subnet }),
	"serve-with":                     oneOf(func(a *Asked) *ServeWith { return &a.ServeWith }, WithLoadBalancer, WithFloatingIP),
	"hostname":                       hostname,
	"name":                           text(func(a *Asked) *string { return &a.Name }),
	"address":                        text(func(a *Asked) *string { return &a.Address }),
	"adopt":                          text(func(a *Asked) *string { return &a.Adopt }),
	"adopt-from":                     oneOf(func(a *Asked) *string { return &a.AdoptFrom }, "hcloud-ccm", "openstack"),
	"algorithm":                      oneOf(func(a *Asked) *string { return &a.Algorithm }, RoundRobin, LeastConnections),
	"use-private-ip":                 optional(func(a *Asked) **bool { return &a.UsePrivateIP }),
	"internal":                       optional(func(a *Asked) **bool { return &a.Internal }),
	"allow-recreate":                 yes(func(a *Asked) *bool { return &a.AllowRecreate }),
	"dry-run":                        yes(func(a *Asked) *bool { return &a.DryRun }),
	"allow-unenforced-source-ranges": yes(func(a *Asked) *bool { return &a.AllowUnenforced }),
	"proxy-protocol":                 proxyProtocol,
	"front-families":                 frontFamilies,
	"ip-mode":                        oneOf(func(a *Asked) *corev1.LoadBalancerIPMode { return &a.IPMode }, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy),
	"deletion-policy":                oneOf(func(a *Asked) *Policy { return &a.Deletion }, PolicyDelete, PolicyRelease, PolicyRetain),
	"node-selector":                  nodeSelector,
	"idle-timeout":                   duration(func(a *Asked) *time.Duration { return &a.IdleTimeout }),
	"health-check-protocol":          oneOf(func(a *Asked) *string { return &a.Health.Protocol }, "tcp", "http"),
	"health-check-port":              number(func(a *Asked) *int32 { return &a.Health.Port }, 1, 65535),
	"health-check-path":              healthPath,
	"health-check-interval":          duration(func(a *Asked) *time.Duration { return &a.Health.Interval }),
	"health-check-timeout":           duration(func(a *Asked) *time.Duration { return &a.Health.Timeout }),
	"health-check-retries":           number(func(a *Asked) *int { return &a.Health.Retries }, 1, 10),
}

// Algorithms by which a load balancer chooses a target.
const (
	RoundRobin       = "round-robin"
	LeastConnections = "least-connections"
)

// notOurs are annotations of Herald's that mean nothing to a cloud, and stay on a
// Service that moves to one.
var notOurs = map[string]bool{"pool": true, "addresses": true, "share": true, "share-with": true, "scheduler": true, "reassign": true, "claim": true, "avoid": true}

// ParseAnnotations reads the annotations of a Service. Each that is not known or
// cannot be read is an error that names it and what it may be.
func ParseAnnotations(annotations map[string]string) (Asked, error) {
	var a Asked
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ours := strings.CutPrefix(key, Prefix)
		if !ours || notOurs[name] {
			continue
		}
		set, known := setters[name]
		if !known {
			errs = append(errs, fmt.Errorf("annotation %s is not known: see docs/cloud.md for those that are", key))
			continue
		}
		if err := set(&a, strings.TrimSpace(annotations[key])); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %q %w", key, annotations[key], err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Asked{}, &Error{Class: Terminal, Reason: ReasonInvalidAnnotation, Text: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return a, nil
}

func text(field func(*Asked) *string) setter {
	return func(a *Asked, v string) error {
		if v == "" {
			return errors.New("is empty: remove it, or give it a value")
		}
		*field(a) = v
		return nil
	}
}

func oneOf[T ~string](field func(*Asked) *T, all ...T) setter {
	return func(a *Asked, v string) error {
		if !slices.Contains(all, T(v)) {
			return fmt.Errorf("is none of %v", all)
		}
		*field(a) = T(v)
		return nil
	}
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New(`is neither "true" nor "false"`)
}

func yes(field func(*Asked) *bool) setter {
	return func(a *Asked, v string) (err error) {
		*field(a), err = parseBool(v)
		return err
	}
}

func optional(field func(*Asked) **bool) setter {
	return func(a *Asked, v string) error {
		b, err := parseBool(v)
		*field(a) = &b
		return err
	}
}

func number[T int | int32](field func(*Asked) *T, least, most int) setter {
	return func(a *Asked, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("is no number from %d to %d", least, most)
		}
		*field(a) = T(n)
		return nil
	}
}

func duration(field func(*Asked) *time.Duration) setter {
	return func(a *Asked, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Second || d > 24*time.Hour || d%time.Second != 0 {
			return errors.New("is no time from 1s to 24h in whole seconds, as in 15s")
		}
		*field(a) = d
		return nil
	}
}

func proxyProtocol(a *Asked, v string) error {
	switch v {
	case "none":
		a.Proxy = ProxyNone
	case "v1", "v2":
		a.Proxy = ProxyProtocol(v)
	default:
		return errors.New("is none of none, v1 and v2")
	}
	return nil
}

func frontFamilies(a *Asked, v string) error {
	for f := range strings.SplitSeq(v, ",") {
		family := corev1.IPFamily(strings.TrimSpace(f))
		if family != corev1.IPv4Protocol && family != corev1.IPv6Protocol || slices.Contains(a.FrontFamilies, family) {
			a.FrontFamilies = nil
			return errors.New("is none of IPv4, IPv6, and both of them with a comma")
		}
		a.FrontFamilies = append(a.FrontFamilies, family)
	}
	return nil
}

func nodeSelector(a *Asked, v string) error {
	a.NodeSelector = map[string]string{}
	for term := range strings.SplitSeq(v, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(term), "=")
		if !found || key == "" || strings.ContainsAny(key, "! ") || strings.ContainsAny(value, "= ") {
			return errors.New("is no list of label=value with commas")
		}
		a.NodeSelector[key] = value
	}
	return nil
}

func healthPath(a *Asked, v string) error {
	if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, " \t\r\n") {
		return errors.New("is no path that begins with /")
	}
	a.Health.Path = v
	return nil
}

// hostname is a DNS-1123 name; an address is refused, as the API server does.
func hostname(a *Asked, v string) error {
	if _, err := netip.ParseAddr(v); err == nil {
		return errors.New("is an address: a host name is wanted")
	}
	if !isDNSName(v) {
		return errors.New("is no host name (RFC 1123): lower case letters, digits, - and dots")
	}
	a.Hostname = v
	return nil
}
