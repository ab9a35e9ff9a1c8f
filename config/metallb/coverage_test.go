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
				r, err := Migrate([]File{{"f", doc}})
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
		r, err := Migrate([]File{{"f", []byte(doc)}})
		if err != nil || !noted(r.Notes, "IPAddressPool x", "spec.serviceAllocation."+name) {
			t.Errorf("%s: nothing is said of it: %v %v", name, r.Notes, err)
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
			r, err := Migrate([]File{{"f", doc}})
			if err != nil || r.Lost() == 0 || !noted(r.Notes, kind[1]+" x", field) {
				t.Errorf("%v: %s: nothing is said of it: %v %v", kind, field, r.Notes, err)
			}
		}
	}
}

// What BGP's specs say of a field is the text of its note.
func TestEveryFieldWithoutEquivalentSaysWhatItMeansAndBecomes(t *testing.T) {
	for _, spec := range []any{bgpAdvertisementSpec{}, bgpPeerSpec{}, bfdProfileSpec{}, communitySpec{}, oldBGPAdvertisement{}} {
		fields := reflect.TypeOf(spec)
		for i := range fields.NumField() {
			if tag := fields.Field(i).Tag; tag.Get("means") == "" || tag.Get("becomes") == "" {
				t.Errorf("%s.%s has no means or becomes", fields.Name(), fields.Field(i).Name)
			}
		}
	}
}
