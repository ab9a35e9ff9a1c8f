// Package memory keeps on disk what a speaker last knew of the cluster, so that
// it can start where the API server is away: that one may itself be reached by
// an address that Herald announces.
//
// The file is JSON by lines, compressed: a head, and then each Service. Nothing
// that is secret is in it.
package memory
