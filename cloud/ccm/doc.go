// Package ccm hosts the engine of package cloud in a cluster.
//
// It is a plugin of k8s.io/cloud-provider: its service controller asks it to serve
// the Services without a class. Beside that controller runs Herald's own, for the
// Services of Herald's class for the cloud, which that one cannot serve; and a loop
// that looks at the cloud without cause, which that one does not do.
//
// A Service is served by one of the two: by the class it had when it was first
// served, as its finalizer says.
package ccm
