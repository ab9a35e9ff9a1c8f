package metallb

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Form is how Services are written.
type Form string

// The forms.
const (
	Annotate  Form = "annotate"  // kubectl commands, as comments
	Manifests Form = "manifests" // the objects, rewritten
	None      Form = "none"
)

// YAML returns r as a stream of objects that can be applied, with comments on
// where each comes from.
func (r Result) YAML(services Form) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range r.Pools {
		comment(&b, "---", "# From "+strings.Join(p.From, ", ")+".")
		for _, lost := range p.Lost {
			comment(&b, "# Not translated: "+lost)
		}
		if err := object(&b, p.Object); err != nil {
			return nil, fmt.Errorf("writing AddressPool %s: %w", p.Object.Name, err)
		}
	}
	for _, p := range r.Peers {
		if err := p.write(&b); err != nil {
			return nil, fmt.Errorf("writing BGPPeer %s: %w", p.Object.Name, err)
		}
	}
	switch services {
	case Manifests:
		for _, s := range r.Services {
			comment(&b, "---", "# From Service "+qualified(s.Namespace, s.Name)+", its annotations rewritten.")
			if err := object(&b, s.Manifest); err != nil {
				return nil, fmt.Errorf("writing Service %s: %w", qualified(s.Namespace, s.Name), err)
			}
		}
	case Annotate:
		r.commands(&b)
	}
	return b.Bytes(), nil
}

// write writes p and, before it, its password.
func (p Peer) write(b *bytes.Buffer) error {
	if p.Secret != nil {
		comment(b, "---", "# The password of BGPPeer "+p.Object.Name+": keep it where you keep Secrets.")
		if err := object(b, p.Secret); err != nil {
			return err
		}
	}
	comment(b, "---", "# From "+p.From+".")
	for _, lost := range p.Lost {
		comment(b, "# Not translated: "+lost)
	}
	return object(b, p.Object)
}

// commands writes the commands that annotate Services: first what Herald needs,
// which MetalLB does not mind, then what can go with MetalLB.
func (r Result) commands(b *bytes.Buffer) {
	var set, remove []string
	for _, s := range r.Services {
		on := "# kubectl annotate service " + quote(s.Name)
		if s.Namespace != "" {
			on = "# kubectl annotate service --namespace " + quote(s.Namespace) + " " + quote(s.Name)
		}
		if len(s.Set) > 0 {
			line := on + " --overwrite"
			for _, key := range slices.Sorted(maps.Keys(s.Set)) {
				line += " " + quote(key+"="+s.Set[key])
			}
			set = append(set, line)
		}
		line := on
		for _, key := range s.Remove {
			line += " " + quote(key+"-")
		}
		remove = append(remove, line)
	}
	if len(set) > 0 {
		comment(b, "---", "# Before Herald serves these Services:")
		comment(b, set...)
	}
	if len(remove) > 0 {
		comment(b, "---", "# Once MetalLB is gone:")
		comment(b, remove...)
	}
}

func comment(b *bytes.Buffer, lines ...string) {
	for _, l := range lines {
		b.WriteString(oneLine(l) + "\n")
	}
}

func object(b *bytes.Buffer, o any) error {
	text, err := yaml.Marshal(o)
	b.Write(text)
	return err
}

// quote returns word as a shell reads it.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
