// Package liveness finds out which speakers are alive: each keeps a BFD session
// with every other, so that one that fails is missed within a third of a second,
// and whether the API server is there does not matter.
//
//	Snapshot ──Plan──▶ bfd.Server ──sessions──▶ Contacts ──▶ whoever elects
//
// A session that was never up says nothing: between the two may be a firewall,
// or the other does not speak BFD.
package liveness
