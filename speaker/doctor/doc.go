// Package doctor judges whether a node is fit for Herald.
//
// Judge is pure: Facts about a kernel, a host and a cluster come in, Findings
// go out, each with what it means and what to do. Package look, below this one,
// collects the facts; neither repairs anything.
package doctor
