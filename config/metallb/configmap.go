package metallb

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// MetalLB before 0.13 was configured by one ConfigMap with YAML in it. Its
// entries have the fields of the objects that came after it, under other names.

// oldNames are today's names of fields, by the ConfigMap's.
var oldNames = map[string]string{
	"auto-assign": "autoAssign", "avoid-buggy-ips": "avoidBuggyIPs", "bgp-advertisements": "bgpAdvertisements",
	"aggregation-length": "aggregationLength", "aggregation-length-v6": "aggregationLengthV6", "localpref": "localPref",
	"my-asn": "myASN", "peer-asn": "peerASN", "peer-address": "peerAddress", "source-address": "sourceAddress",
	"peer-port": "peerPort", "hold-time": "holdTime", "keepalive-time": "keepaliveTime", "router-id": "routerID",
	"node-selectors": "nodeSelectors", "bfd-profile": "bfdProfile", "ebgp-multihop": "ebgpMultiHop",
	"match-labels": "matchLabels", "match-expressions": "matchExpressions",
	"receive-interval": "receiveInterval", "transmit-interval": "transmitInterval", "detect-multiplier": "detectMultiplier",
	"echo-interval": "echoInterval", "echo-mode": "echoMode", "passive-mode": "passiveMode", "minimum-ttl": "minimumTtl",
}

// configMap reads a ConfigMap, if it is one of MetalLB's.
func (in *input) configMap(o origin, doc []byte) error {
	var c corev1.ConfigMap
	if err := kjson.UnmarshalCaseSensitivePreserveInts(doc, &c); err != nil {
		return err
	}
	if text, ok := c.Data["config"]; ok {
		return in.config(o, c, text)
	}
	switch {
	case c.Data["excludel2.yaml"] != "":
		in.add(Attention, o, "data[excludel2.yaml]", "not translated: interfaces that MetalLB stays off; Herald announces only on interfaces whose subnet "+
			"holds the address; if that is one too many, name the right ones in announce.layer2.interfaces")
	case c.Data["extras"] != "" && c.Name == "bgpextras":
		in.add(Missing, o, "data[extras]", "no equivalent: raw configuration for FRR")
	default:
		in.passed["ConfigMap"]++
	}
	return nil
}

// A section is a list in the ConfigMap.
type section struct {
	key  string
	read func(o origin, name string, entry map[string]any) error
}

func (in *input) config(o origin, c corev1.ConfigMap, text string) error {
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return fmt.Errorf("data[config]: %w", err)
	}
	var content map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &content); err != nil {
		return fmt.Errorf("data[config]: %w", err)
	}
	var errs []error
	for _, s := range in.sections(metav1.ObjectMeta{Namespace: c.Namespace}) {
		errs = append(errs, in.section(o, s, content[s.key]))
		delete(content, s.key)
	}
	errs = append(errs, in.oldCommunities(o, content["bgp-communities"]))
	delete(content, "bgp-communities")
	for _, key := range slices.Sorted(maps.Keys(content)) {
		if key == "peer-autodiscovery" {
			in.add(Missing, o, key, "no equivalent: routers that nodes find by their labels or annotations; write a BGPPeer for each router, "+
				"with a nodeSelector, or one with interface for whichever is at the other end of that")
			continue
		}
		in.add(Missing, o, key, "no equivalent: this field is not known, and not translated")
	}
	return errors.Join(errs...)
}

// sections are the lists of the ConfigMap, whose entries become objects with meta.
func (in *input) sections(meta metav1.ObjectMeta) []section {
	peers := 0
	return []section{
		{"address-pools", func(o origin, name string, e map[string]any) error {
			return convert(in, o, e, func(s oldPoolSpec) {
				meta.Name = in.rename(o, name)
				in.oldPool(o, meta, s)
			})
		}},
		{"peers", func(o origin, _ string, e map[string]any) error {
			peers++ // they are called as MetalLB's own converter calls them
			return convert(in, o, e, func(s bgpPeerSpec) {
				meta.Name = fmt.Sprintf("peer%d", peers)
				in.add(Done, o, "", "translated to BGPPeer %s", meta.Name)
				in.peers = append(in.peers, peer{o, meta, s, true})
			})
		}},
		{"bfd-profiles", func(o origin, name string, e map[string]any) error {
			return convert(in, o, e, func(s bfdProfileSpec) {
				in.add(Done, o, "spec.name", "is the name by which peers find it")
				in.profiles = append(in.profiles, profile{o, name, s})
			})
		}},
	}
}

// section reads the entries of one list.
func (in *input) section(o origin, s section, value any) error {
	entries, ok := value.([]any)
	if !ok && value != nil {
		return fmt.Errorf("data[config]: %s is no list", s.key)
	}
	var errs []error
	for i, v := range entries {
		place := fmt.Sprintf("%s[%d]", s.key, i)
		entry, ok := v.(map[string]any)
		if !ok {
			errs = append(errs, fmt.Errorf("data[config]: %s is no object", place))
			continue
		}
		name, _ := entry["name"].(string)
		if s.key != "peers" {
			delete(entry, "name")
		}
		at := origin{object: o.object, field: func(path string) string {
			return strings.TrimSuffix(place+"."+oldPath(strings.TrimPrefix(strings.TrimPrefix(path, "spec"), ".")), ".")
		}}
		if err := s.read(at, name, entry); err != nil {
			errs = append(errs, fmt.Errorf("data[config]: %s: %w", place, err))
		}
	}
	return errors.Join(errs...)
}

// oldPath returns the path of a field in the ConfigMap.
func oldPath(path string) string {
	words := strings.Split(path, ".")
	for i, w := range words {
		name, _, _ := strings.Cut(w, "[")
		for old, now := range oldNames {
			if now == name {
				words[i] = old + strings.TrimPrefix(w, name)
			}
		}
	}
	return strings.Join(words, ".")
}

// convert reads an entry of the ConfigMap as a spec.
func convert[S any](in *input, o origin, entry map[string]any, use func(S)) error {
	data, err := json.Marshal(today(entry))
	if err != nil {
		return err
	}
	var s S
	unknown, err := kjson.UnmarshalStrict(data, &s)
	if err != nil {
		return err
	}
	in.unknown(o, unknown)
	use(s)
	return nil
}

// today returns v with today's names. What is in matchLabels are labels.
func today(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = today(v[i])
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			if key != "match-labels" {
				value = today(value)
			}
			if now, ok := oldNames[key]; ok {
				key = now
			}
			out[key] = value
		}
		return out
	}
	return v
}

var notInNames = regexp.MustCompile(`[^a-z0-9.-]+`)

// rename returns a name that an object of Kubernetes can have: the ConfigMap's
// pools could have any.
func (in *input) rename(o origin, name string) string {
	now := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-.")
	if now == "" {
		now = "pool"
	}
	if now != name {
		in.add(Attention, o, "spec.name", "%q is called %s: no object can have that name", name, now)
		in.renamed[name] = now
	} else {
		in.add(Done, o, "spec.name", "translated to metadata.name")
	}
	return now
}
