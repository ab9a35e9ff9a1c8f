package metallb

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// notYet begins the note on what Herald will be able to say, but cannot yet.
const notYet = "no equivalent yet in this version"

// All that is BGP's is here: once Herald has BGPPeers and announce.bgp, these
// functions make them instead of Notes.

func (in *input) bgpPeer(o origin, s bgpPeerSpec) {
	in.add(Missing, o, "", "%s: a router to peer with; keep MetalLB for the pools that only BGP announces until Herald speaks BGP", notYet)
	in.withoutEquivalent(o, "spec.", s)
}

func (in *input) bfdProfile(o origin, s bfdProfileSpec) {
	in.add(Missing, o, "", "%s: how fast to notice that a router is gone; it will be BGPPeer spec.bfd of the peers that name it", notYet)
	in.withoutEquivalent(o, "spec.", s)
}

func (in *input) community(o origin, s communitySpec) {
	in.add(Missing, o, "", "%s: names for communities; they will be written as values where they are used", notYet)
	in.withoutEquivalent(o, "spec.", s)
}

func (in *input) noteBGP(ad advertisement[bgpAdvertisementSpec]) {
	in.add(Missing, ad.origin, "", "%s: announce pools by BGP; it will be AddressPool spec.announce.bgp", notYet)
	in.noteNames(ad.origin, ad.spec.IPAddressPools)
	in.withoutEquivalent(ad.origin, "spec.", ad.spec)
}

// withoutEquivalent notes every field of the struct s that is set, by its tags.
func (in *input) withoutEquivalent(o origin, prefix string, s any) {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag
		if f.IsZero() {
			continue
		}
		shown := show(f)
		if tag.Get("secret") != "" {
			shown = "not shown here"
		}
		field := prefix + tag.Get("json")
		if shown == tag.Get("default") {
			in.add(Done, o, field, "is the default (%s)", shown)
			continue
		}
		in.add(Missing, o, field, "%s: %s (%s); it will be %s", notYet, tag.Get("means"), shown, tag.Get("becomes"))
	}
}

// show returns v as a user would write it.
func show(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() == reflect.String {
		return v.String()
	}
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Sprint(v.Interface())
	}
	return string(text)
}
