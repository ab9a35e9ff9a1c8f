package metallb

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// specs are the specs of all kinds that are read, by apiVersion and kind.
var specs = map[[2]string]any{
	{"metallb.io/v1beta1", "IPAddressPool"}:    poolSpec{},
	{"metallb.io/v1beta1", "AddressPool"}:      oldPoolSpec{},
	{"metallb.io/v1beta1", "L2Advertisement"}:  layer2Spec{},
	{"metallb.io/v1beta1", "BGPAdvertisement"}: bgpAdvertisementSpec{},
	{"metallb.io/v1beta1", "BGPPeer"}:          bgpPeerSpec{},
	{"metallb.io/v1beta2", "BGPPeer"}:          bgpPeerSpec{},
	{"metallb.io/v1beta1", "BFDProfile"}:       bfdProfileSpec{},
	{"metallb.io/v1beta1", "Community"}:        communitySpec{},
}

// sample returns a value for a field of type t that is no default.
func sample(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Pointer:
		return sample(t.Elem())
	case reflect.Slice:
		return []any{sample(t.Elem())}
	case reflect.Bool:
		return true
	case reflect.String:
		return "192.0.2.7"
	case reflect.Struct:
		if t == reflect.TypeFor[metav1.LabelSelector]() {
			return map[string]any{"matchLabels": map[string]any{"a": "b"}}
		}
		out := map[string]any{}
		for i := range t.NumField() {
			out[t.Field(i).Tag.Get("json")] = sample(t.Field(i).Type)
		}
		return out
	}
	return 17
}

// Every field that MetalLB has yields a note when it is set, and the rest do not.
func TestEveryFieldIsTranslatedOrNoted(t *testing.T) {
	for kind, spec := range specs {
		fields := reflect.TypeOf(spec)
		for i := range fields.NumField() {
			name := fields.Field(i).Tag.Get("json")
			t.Run(kind[0]+" "+kind[1]+" "+name, func(t *testing.T) {
				doc, err := json.Marshal(map[string]any{
					"apiVersion": kind[0], "kind": kind[1], "metadata": map[string]any{"name": "x"},
					"spec": map[string]any{name: sample(fields.Field(i).Type)},
				})
				if err != nil {
					t.Fatal(err)
				}
				r, err := Migrate([]File{{"f", doc}}, herald)
				if err != nil {
					t.Fatal(err)
				}
				if !noted(r.Notes, kind[1]+" x", "spec."+name) {
					t.Errorf("nothing is said of it: %v", r.Notes)
				}
				for _, n := range r.Notes {
					if n.Level == Missing && !strings.Contains(n.Text, "no equivalent") {
						t.Errorf("a note does not say what it is about: %s", n)
					}
				}
			})
		}
	}
}

func TestEveryFieldOfServiceAllocationIsTranslatedOrNoted(t *testing.T) {
	fields := reflect.TypeFor[serviceAllocation]()
	for i := range fields.NumField() {
		name := fields.Field(i).Tag.Get("json")
		value, _ := json.Marshal(sample(fields.Field(i).Type))
		doc := fmt.Sprintf(`{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"x"},"spec":{"serviceAllocation":{%q:%s}}}`, name, value)
		r, err := Migrate([]File{{"f", []byte(doc)}}, herald)
		if err != nil || !noted(r.Notes, "IPAddressPool x", "spec.serviceAllocation."+name) {
			t.Errorf("%s: nothing is said of it: %v %v", name, r.Notes, err)
		}
	}
}

func TestEveryFieldOfAPoolsOwnAdvertisementsIsTranslatedOrNoted(t *testing.T) {
	fields := reflect.TypeFor[oldBGPAdvertisement]()
	for i := range fields.NumField() {
		name := fields.Field(i).Tag.Get("json")
		value, _ := json.Marshal(sample(fields.Field(i).Type))
		doc := fmt.Sprintf(`{"apiVersion":"metallb.io/v1beta1","kind":"AddressPool","metadata":{"name":"x"},"spec":{"protocol":"bgp","bgpAdvertisements":[{%q:%s}]}}`, name, value)
		r, err := Migrate([]File{{"f", []byte(doc)}}, herald)
		if err != nil || !noted(r.Notes, "AddressPool x", "spec.bgpAdvertisements[0]."+name) {
			t.Errorf("%s: nothing is said of it: %v %v", name, r.Notes, err)
		}
	}
}

// values are other values than the default for all fields of BGP's objects.
var values = map[string]map[string]any{
	"BGPPeer": {
		"myASN": 7, "peerASN": 7, "localASN": 7, "dynamicASN": "internal", "peerAddress": "192.0.2.7", "interface": "eth7",
		"sourceAddress": "192.0.2.7", "peerPort": 7, "holdTime": "7s", "keepaliveTime": "7s", "connectTime": "7s", "routerID": "192.0.2.7",
		"nodeSelectors": sample(reflect.TypeFor[[]metav1.LabelSelector]()), "password": "seven", "passwordSecret": map[string]any{"name": "seven"},
		"bfdProfile": "seven", "enableGracefulRestart": true, "ebgpMultiHop": true, "vrf": "seven", "disableMP": true, "dualStackAddressFamily": true,
	},
	"BGPAdvertisement": {
		"aggregationLength": 27, "aggregationLengthV6": 77, "localPref": 7, "communities": []any{"7:7"}, "ipAddressPools": []any{"other"},
		"ipAddressPoolSelectors": sample(reflect.TypeFor[[]metav1.LabelSelector]()), "nodeSelectors": sample(reflect.TypeFor[[]metav1.LabelSelector]()),
		"peers": []any{"r"}, "serviceSelectors": sample(reflect.TypeFor[[]metav1.LabelSelector]()),
	},
	"BFDProfile": {
		"receiveInterval": 777, "transmitInterval": 777, "detectMultiplier": 7, "echoInterval": 77, "echoMode": true, "passiveMode": true, "minimumTtl": 7,
	},
}

// idle are fields that say nothing by themselves: what disableMP asks for is so
// anyway, and echoInterval is for echoMode only.
var idle = map[string]bool{"disableMP": true, "echoInterval": true}

// What is called translated makes a difference in what is written.
func TestEveryFieldOfBGPMakesADifference(t *testing.T) {
	base := func(kind, field string) []byte {
		objects := map[string]map[string]any{
			"IPAddressPool": {"addresses": []any{"192.0.2.0/24"}}, "BGPAdvertisement": {}, "BFDProfile": {},
			"BGPPeer": {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "b"},
		}
		if field != "" {
			objects[kind][field] = values[kind][field]
		}
		var out []byte
		for kind, name := range map[string]string{"IPAddressPool": "p", "BGPAdvertisement": "a", "BGPPeer": "r", "BFDProfile": "b"} {
			doc, _ := json.Marshal(map[string]any{"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": objects[kind]})
			out = append(append(out, doc...), '\n')
		}
		return out
	}
	before, _ := migrated(t, None, File{"f", base("", "")})
	for kind := range values {
		fields := reflect.TypeOf(specs[[2]string{"metallb.io/v1beta1", kind}])
		for i := range fields.NumField() {
			name := fields.Field(i).Tag.Get("json")
			r, err := Migrate([]File{{"f", base(kind, name)}}, herald)
			after, yamlErr := r.YAML(None)
			if err != nil || yamlErr != nil || values[kind][name] == nil {
				t.Fatalf("%s: %s: %v, %v, value %v", kind, name, err, yamlErr, values[kind][name])
			}
			said := slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Level != Done && strings.HasPrefix(n.Field, "spec."+name) })
			if string(after) == before && !said && !idle[name] {
				t.Errorf("%s: %s: is the same as without it, and nothing is said", kind, name)
			}
		}
	}
}

func noted(notes []Note, object, field string) bool {
	return slices.ContainsFunc(notes, func(n Note) bool {
		return n.Object == object && (n.Field == field || strings.HasPrefix(n.Field, field+"["))
	})
}

func TestFieldsThatMetalLBDoesNotHaveAreNoted(t *testing.T) {
	for kind := range specs {
		for _, place := range []string{"spec", "metadata", "top"} {
			o := map[string]any{"apiVersion": kind[0], "kind": kind[1], "metadata": map[string]any{"name": "x"}, "spec": map[string]any{}}
			field := place + ".novelty"
			if place == "top" {
				o["novelty"], field = 1, "novelty"
			} else {
				o[place].(map[string]any)["novelty"] = 1
			}
			doc, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Migrate([]File{{"f", doc}}, herald)
			if err != nil || r.Lost() == 0 || !noted(r.Notes, kind[1]+" x", field) {
				t.Errorf("%v: %s: nothing is said of it: %v %v", kind, field, r.Notes, err)
			}
		}
	}
}
