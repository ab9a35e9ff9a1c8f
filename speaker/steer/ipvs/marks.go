package ipvs

import "github.com/herald-lb/herald/speaker/steer"

// marks are the two bits of a packet's and a connection's mark that Herald
// uses. Together they say which tier a packet of the host has to be led into;
// without any of them it is the business of others.
type marks struct{ low, high uint32 }

func (m marks) mask() uint32 { return m.low | m.high }

// of returns the value under mask that leads into a tier.
func (m marks) of(t steer.Tier) uint32 {
	switch t {
	case steer.Front:
		return m.low | m.high
	case steer.Back:
		return m.high
	}
	return m.low
}
