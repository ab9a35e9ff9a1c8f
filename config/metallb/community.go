package metallb

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// An alias is a community with a name.
type alias struct {
	origin
	field, name, value string
}

// oldCommunities reads the names that the ConfigMap o gives to communities.
func (in *input) oldCommunities(o origin, value any) error {
	names, ok := value.(map[string]any)
	if !ok && value != nil {
		return errors.New("data[config]: bgp-communities is no object")
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		in.aliases = append(in.aliases, alias{o, "bgp-communities." + name, name, fmt.Sprint(names[name])})
	}
	return nil
}

// community returns the community that text is, or is the name of.
func (in *input) community(text string) (c v1alpha1.Community, ok bool) {
	if i := slices.IndexFunc(in.aliases, func(a alias) bool { return a.name == text }); i >= 0 {
		text = in.aliases[i].value
	}
	return readCommunity(text)
}

// readCommunity reads a community as MetalLB does (internal/bgp/community).
func readCommunity(text string) (c v1alpha1.Community, ok bool) {
	numbers, large := strings.CutPrefix(text, "large:")
	parts, want, bits := strings.Split(numbers, ":"), 2, 16
	if large {
		want, bits = 3, 32
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return "", false
		}
		parts[i] = strconv.FormatUint(n, 10)
	}
	return v1alpha1.Community(strings.Join(parts, ":")), len(parts) == want
}

// noteCommunities notes which communities of ad are not known.
func (in *input) noteCommunities(ad advertisement[bgpAdvertisementSpec]) {
	if e, _ := in.route(ad.spec); len(e.Communities) > maxCommunities {
		in.add(Missing, ad.origin, "spec.communities", "no equivalent: %d, and an entry of announce.bgp has room for %d; leave out those that no router looks at", len(e.Communities), maxCommunities)
	}
	for i, text := range ad.spec.Communities {
		if _, ok := in.community(text); !ok {
			in.add(Missing, ad.origin, fmt.Sprintf("spec.communities[%d]", i), "no equivalent: %q is no community, nor the name of one of the input; "+
				"give the Community that names it, too, or write a value like 65000:100 or large:65000:1:2", text)
		}
	}
}

// noteAliases notes what has become of names for communities.
func (in *input) noteAliases() {
	for i, a := range in.aliases {
		value, ok := readCommunity(a.value)
		first := slices.IndexFunc(in.aliases, func(b alias) bool { return b.name == a.name })
		switch {
		case first < i:
			in.add(Attention, a.origin, a.field, "left out: %q has a value in %s already", a.name, in.aliases[first].object)
		case !ok:
			in.add(Missing, a.origin, a.field, "no equivalent: %q is no community, and advertisements that name it are left out; write one like 65000:100 or large:65000:1:2", a.value)
		default:
			in.add(Done, a.origin, a.field, "translated: %s stands wherever %q is named", value, a.name)
		}
	}
}
