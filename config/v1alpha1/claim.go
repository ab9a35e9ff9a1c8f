package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

// An AddressClaim keeps addresses for the Services of its namespace. It
// outlives them: a Service that is deleted and made again has the same address.
//
// A Service uses a claim by naming it (herald-lb.io/claim), or by asking for
// one of its addresses (herald-lb.io/addresses).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=claim
// +kubebuilder:printcolumn:name=Addresses,type=string,JSONPath=`.status.addresses`,description="Addresses that the claim keeps"
// +kubebuilder:printcolumn:name=Pool,type=string,priority=1,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name=Reason,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type AddressClaim struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// Spec does not change: Services count on the addresses. To have others,
	// make another claim.
	//
	// +optional
	// +kubebuilder:default={}
	Spec AddressClaimSpec `json:"spec,omitzero"`
	// +optional
	Status AddressClaimStatus `json:"status,omitzero"`
}

// An AddressClaimList is a list of AddressClaims.
//
// +kubebuilder:object:root=true
type AddressClaimList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []AddressClaim `json:"items"`
}

// AddressClaimSpec is what a user wants of a claim.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="does not change, for Services count on the addresses: make another AddressClaim, and delete this one"
// +kubebuilder:validation:XValidation:rule="!has(self.addresses) || !has(self.families) || self.addresses.all(a, (a.contains(':') ? 'IPv6' : 'IPv4') in self.families)",message="addresses are of a family that families does not list: list it, or leave families out",fieldPath=".families"
type AddressClaimSpec struct {
	// Pool is the AddressPool to take from. Without it any pool of assign: Auto
	// will do that may serve this namespace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`

	// Addresses are the addresses to claim, one of each family at most. Without
	// them any will do.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || !isIP(self[0]) || !isIP(self[1]) || ip(self[0]).family() != ip(self[1]).family()",message="are two of one family: write one of each at most, and another AddressClaim for more"
	Addresses []ClaimAddress `json:"addresses,omitempty"`

	// Families are the families to have one address of each of. Without them
	// they are those of Addresses or, without these, IPv4.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []Family `json:"families,omitempty"`
}

// A ClaimAddress is one address.
//
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is no address: write one like 192.0.2.10 or 2001:db8::10, without spaces, zones and IPv4 inside IPv6"
type ClaimAddress string

// A Family is an IP family.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type Family string

// The IP families.
const (
	FamilyIPv4 Family = "IPv4"
	FamilyIPv6 Family = "IPv6"
)

// AddressClaimStatus is how a claim stands.
type AddressClaimStatus struct {
	// Addresses are those that the claim keeps.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	Addresses []ClaimAddress `json:"addresses,omitempty"`
	// Conditions are Ready: whether the claim has all its addresses.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CompileClaim returns what o asks for, and what of it cannot be read. With a
// Problem it asks for nothing: whoever holds addresses under it keeps them.
func CompileClaim(o *AddressClaim) (config.Claim, []config.Problem) {
	r := reader{object: o.Namespace + "/" + o.Name}
	c := config.Claim{Namespace: o.Namespace, Name: o.Name, Pool: o.Spec.Pool}
	for i, s := range o.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		one, err := ipam.ParseRange(string(s))
		switch f := one.First; {
		case err != nil:
			r.invalid(field, err.Error())
		case one.First != one.Last:
			r.invalid(field, fmt.Sprintf("%q is no address: write one like 192.0.2.10 or 2001:db8::10", string(s)))
		case slices.ContainsFunc(c.Want, func(a netip.Addr) bool { return a.Is4() == f.Is4() }):
			r.invalid("spec.addresses", "are two of one family: write one of each at most, and another AddressClaim for more")
		default:
			c.Want = append(c.Want, f)
		}
	}
	c.Families = r.families(o.Spec.Families, c.Want)
	return c, r.problems
}

// families returns which families a claim is for.
func (r *reader) families(list []Family, want []netip.Addr) (out []ipam.Family) {
	for i, s := range list {
		f := map[Family]ipam.Family{FamilyIPv4: ipam.IPv4, FamilyIPv6: ipam.IPv6}[s]
		if f == 0 || slices.Contains(out, f) {
			r.invalid(fmt.Sprintf("spec.families[%d]", i), fmt.Sprintf("%q is not known, or is there twice: write IPv4, IPv6 or both", string(s)))
			continue
		}
		out = append(out, f)
	}
	for _, a := range want {
		switch f := ipam.FamilyOf(a); {
		case len(list) == 0:
			out = append(out, f)
		case !slices.Contains(out, f):
			r.invalid("spec.families", fmt.Sprintf("does not list %s, the family of %s: list it, or leave families out", f, a))
		}
	}
	if len(list) == 0 && len(out) == 0 {
		out = append(out, ipam.IPv4)
	}
	return out
}
