// Package all makes all of Herald's drivers known, as cloud providers of
// k8s.io/cloud-provider: herald-hetzner and the like.
package all
