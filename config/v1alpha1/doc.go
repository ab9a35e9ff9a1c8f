// Package v1alpha1 holds what users write: the AddressPool and the AddressClaim
// of the API group herald-lb.io, Compile, which turns a set of pools into a
// config.Config, and CompileClaim.
//
// Nothing above the API uses these types: whoever decides reads the compiled
// Config. The CustomResourceDefinitions in deploy/base/crds and the deep copies are
// generated from this package; run go generate after a change.
//
// +kubebuilder:object:generate=true
// +groupName=herald-lb.io
package v1alpha1

//go:generate go -C ../.. tool -modfile=internal/tools/go.mod controller-gen object paths=./config/v1alpha1
//go:generate go -C ../.. tool -modfile=internal/tools/go.mod controller-gen crd paths=./config/v1alpha1 output:crd:artifacts:config=deploy/base/crds
