// Package validation holds what Herald writes to Kubernetes' own validation of it: the
// API server's code, without an API server.
package validation
