package cloud

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A saying is what an annotation of another controller says in Herald's words: which
// annotation, and its value; no annotation where there is nothing to say.
type saying func(value string) (name, ours string, err error)

// Prefixes of the annotations of hcloud-cloud-controller-manager and of OpenStack's.
const (
	ofHetzner   = "load-balancer.hetzner.cloud/"
	ofOpenStack = "loadbalancer.openstack.org/"
)

// sayings are the annotations of others that Config.Compat reads.
var sayings = map[string]saying{
	ofHetzner + "name":                   as("name"),
	ofHetzner + "type":                   as("type"),
	ofHetzner + "location":               as("location"),
	ofHetzner + "hostname":               as("hostname"),
	ofHetzner + "use-private-ip":         as("use-private-ip"),
	ofHetzner + "disable-public-network": as("internal"),
	ofHetzner + "node-selector":          as("node-selector"),
	ofHetzner + "health-check-protocol":  as("health-check-protocol"),
	ofHetzner + "health-check-port":      as("health-check-port"),
	ofHetzner + "health-check-interval":  as("health-check-interval"),
	ofHetzner + "health-check-timeout":   as("health-check-timeout"),
	ofHetzner + "health-check-retries":   as("health-check-retries"),
	ofHetzner + "health-check-http-path": as("health-check-path"),
	ofHetzner + "algorithm-type":         oneOfTheirs("algorithm", map[string]string{"round_robin": RoundRobin, "least_connections": LeastConnections}),
	ofHetzner + "uses-proxyprotocol":     oneOfTheirs("proxy-protocol", map[string]string{"true": "v2", "false": "none"}),
	ofHetzner + "protocol":               oneOfTheirs("", map[string]string{"tcp": ""}),
	// Written by that controller, or about what is not published here.
	ofHetzner + "id": nothing, ofHetzner + "ipv4": nothing, ofHetzner + "ipv6": nothing, ofHetzner + "disable-private-ingress": nothing,

	ofOpenStack + "network-id":                 as("network"),
	ofOpenStack + "subnet-id":                  as("subnet"),
	ofOpenStack + "flavor-id":                  as("type"),
	ofOpenStack + "hostname":                   as("hostname"),
	ofOpenStack + "node-selector":              as("node-selector"),
	ofOpenStack + "load-balancer-id":           as("adopt"),
	ofOpenStack + "health-monitor-delay":       seconds("health-check-interval"),
	ofOpenStack + "health-monitor-timeout":     seconds("health-check-timeout"),
	ofOpenStack + "health-monitor-max-retries": as("health-check-retries"),
	ofOpenStack + "proxy-protocol":             oneOfTheirs("proxy-protocol", map[string]string{"true": "v1", "v1": "v1", "v2": "v2", "false": "none"}),
	ofOpenStack + "lb-method":                  oneOfTheirs("algorithm", map[string]string{"ROUND_ROBIN": RoundRobin, "LEAST_CONNECTIONS": LeastConnections}),

	"service.beta.kubernetes.io/openstack-internal-load-balancer": as("internal"),
}

func as(name string) saying {
	return func(value string) (string, string, error) { return name, value, nil }
}

func seconds(name string) saying {
	return func(value string) (string, string, error) { return name, value + "s", nil }
}

func nothing(string) (string, string, error) { return "", "", nil }

func oneOfTheirs(name string, ours map[string]string) saying {
	return func(value string) (string, string, error) {
		v, ok := ours[value]
		if !ok {
			return "", "", fmt.Errorf("%q is none of %v", value, slices.Sorted(maps.Keys(ours)))
		}
		return name, v, nil
	}
}

// translate returns annotations with those of other controllers in Herald's words.
// Herald's own win. What has no equivalent is an error: nothing is left out silently.
func translate(annotations map[string]string) (map[string]string, error) {
	out := maps.Clone(annotations)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		say, known := sayings[key]
		if !known {
			if strings.HasPrefix(key, ofHetzner) || strings.HasPrefix(key, ofOpenStack) {
				errs = append(errs, fmt.Errorf("annotation %s has no equivalent: remove it", key))
			}
			continue
		}
		name, value, err := say(strings.TrimSpace(annotations[key]))
		if err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w", key, err))
			continue
		}
		if _, own := annotations[Prefix+name]; name != "" && !own {
			out[Prefix+name] = value
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &Error{Class: Terminal, Reason: ReasonInvalidAnnotation, Text: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return out, nil
}
