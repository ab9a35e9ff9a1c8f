// Package kubetest tries package kube and the controller against a real API
// server: conflicts, watches that lag, and several controllers at once are
// nothing that a fake has.
package kubetest
