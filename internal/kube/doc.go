// Package kube stands between Herald and the Kubernetes API.
//
// It watches the API and takes snapshots of it (Source), writes the statuses
// that the controller has planned (StatusWriter), and keeps the Leases: one by
// which a controller leads (Lead), and one for each speaker, by which speakers
// know each other (Hello, Peers). It is the only reader of core/v1 and
// discovery/v1, and decides nothing.
package kube
