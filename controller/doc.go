// Package controller decides which Service has which address, and says so in
// the status of Services and pools.
//
// Plan is pure: a snapshot goes in, and what every status has to say comes
// out. The Controller runs the pass around it. Neither ever talks to the API:
// package kube takes the snapshots and writes the status.
//
// There is no database. An address is assigned if and only if it stands in
// Service.status, so a restart begins by adopting all that stands there.
package controller
