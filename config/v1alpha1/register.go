package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of this package's types.
var GroupVersion = schema.GroupVersion{Group: "herald-lb.io", Version: "v1alpha1"}

// AddressPools is the resource that AddressPool objects are read and written by.
var AddressPools = GroupVersion.WithResource("addresspools")

// AddressClaims is the resource that AddressClaim objects are read and written
// by.
var AddressClaims = GroupVersion.WithResource("addressclaims")

// BGPPeers is the resource that BGPPeer objects are read and written by.
var BGPPeers = GroupVersion.WithResource("bgppeers")

var builder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &AddressPool{}, &AddressPoolList{}, &AddressClaim{}, &AddressClaimList{},
		&BGPPeer{}, &BGPPeerList{}, &SpeakerStatus{}, &SpeakerStatusList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme makes the types of this package known to a scheme.
var AddToScheme = builder.AddToScheme
