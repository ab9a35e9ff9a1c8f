package v1alpha1

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

func claim(spec AddressClaimSpec) *AddressClaim {
	return &AddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: spec}
}

// CompileClaim finds all that the schema refuses in an object, in the same
// field.
func TestCompileClaimKnowsWhatTheSchemaKnows(t *testing.T) {
	raw, err := os.ReadFile("testdata/admission-claims.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name     string            `json:"name"`
		Spec     AddressClaimSpec  `json:"spec"`
		Change   *AddressClaimSpec `json:"change"`
		Families []string          `json:"families"`
		Refused  []string          `json:"refused"`
	}
	if err := yaml.UnmarshalStrict(raw, &tests); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.Name, func(t *testing.T) {
			c, problems := CompileClaim(claim(tt.Spec))
			inField := func(p config.Problem) bool { return strings.HasPrefix(p.Field, tt.Refused[0]) }
			switch good := len(tt.Refused) == 0 || tt.Change != nil; {
			case good && len(problems) > 0:
				t.Errorf("problems %v of a good claim", problems)
			case good && tt.Families != nil && !slices.Equal(tt.Families, names(c.Families)):
				t.Errorf("families %v, want %v", c.Families, tt.Families)
			case !good && !slices.ContainsFunc(problems, inField):
				t.Errorf("problems %v, want one of %s", problems, tt.Refused[0])
			case !good && len(problems) == 0:
				t.Error("no problem of a bad claim")
			}
		})
	}
}

func names(families []ipam.Family) (out []string) {
	for _, f := range families {
		out = append(out, f.String())
	}
	return out
}

func TestEveryFieldOfAClaimIsCompiled(t *testing.T) {
	got, problems := CompileClaim(claim(AddressClaimSpec{
		Pool: "lan", Addresses: []ClaimAddress{"192.0.2.10"}, Families: []Family{FamilyIPv6, FamilyIPv4},
	}))
	want := config.Claim{
		Namespace: "shop", Name: "web", Pool: "lan",
		Families: []ipam.Family{ipam.IPv6, ipam.IPv4}, Want: got.Want,
	}
	if diff := cmp.Diff(want, got, sameAddr); diff != "" || len(problems) > 0 || len(got.Want) != 1 || got.Want[0].String() != "192.0.2.10" {
		t.Errorf("problems %v, addresses %v, claim (-want +got):\n%s", problems, got.Want, diff)
	}
}

func FuzzCompileClaim(f *testing.F) {
	f.Add("192.0.2.1", "2001:db8::1", "IPv4", "IPv6")
	f.Add("192.0.2.1-192.0.2.2", "fe80::1%eth0", "", "IPv4")
	f.Fuzz(func(t *testing.T, first, second, one, two string) {
		c, problems := CompileClaim(claim(AddressClaimSpec{
			Addresses: []ClaimAddress{ClaimAddress(first), ClaimAddress(second)}, Families: []Family{Family(one), Family(two)},
		}))
		for _, p := range problems {
			if p.Object != "shop/web" || p.Field == "" || p.Detail == "" || p.Reason != config.Invalid {
				t.Errorf("problem without a word: %+v", p)
			}
		}
		for _, a := range c.Want {
			if len(problems) == 0 && !slices.Contains(c.Families, ipam.FamilyOf(a)) {
				t.Errorf("claim %+v is not for %s", c, a)
			}
		}
	})
}
