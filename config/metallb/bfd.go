package metallb

import (
	"math"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// A profile is a BFDProfile or an entry of the ConfigMap's bfd-profiles.
type profile struct {
	origin
	name string
	spec bfdProfileSpec
}

// The values of fields that are not written, as MetalLB and FRR have them.
const (
	defaultInterval   = 300
	defaultMultiplier = 3
	defaultMinimumTTL = 254
)

// bfd returns how BFD watches the sessions of p; nil for not at all.
func (in *input) bfd(p peer) *v1alpha1.BFDSpec {
	name := p.spec.BFDProfile
	if name == "" {
		return nil
	}
	i := slices.IndexFunc(in.profiles, func(pr profile) bool { return pr.name == name })
	if i < 0 {
		in.add(Missing, p.origin, "spec.bfdProfile", "no equivalent: %q is no BFDProfile of the input, and BFD does not watch the sessions; give it, too, or write bfd", name)
		return nil
	}
	in.add(Done, p.origin, "spec.bfdProfile", "translated to bfd")
	return in.profiles[i].spec.herald()
}

// herald returns s in Herald's words. Packets go both ways at one interval: the longer
// one, so that no router has to send faster than MetalLB asks it to, or hears more.
func (s bfdProfileSpec) herald() *v1alpha1.BFDSpec {
	interval := max(orElse(s.ReceiveInterval, defaultInterval), orElse(s.TransmitInterval, defaultInterval))
	return &v1alpha1.BFDSpec{
		Interval:   metav1.Duration{Duration: time.Duration(interval) * time.Millisecond},
		Multiplier: int32(min(orElse(s.DetectMultiplier, defaultMultiplier), math.MaxInt32)),
	}
}

func orElse[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// noteProfile notes what has become of the profile at i.
func (in *input) noteProfile(i int) {
	pr := in.profiles[i]
	first := slices.IndexFunc(in.profiles, func(other profile) bool { return other.name == pr.name })
	if first < i {
		in.add(Attention, pr.origin, "", "left out: %s has the same name", in.profiles[first].object)
		return
	}
	if !slices.ContainsFunc(in.peers, func(p peer) bool { return p.spec.BFDProfile == pr.name }) {
		in.add(Attention, pr.origin, "", "no BGPPeer of the input names it: nothing is made of it")
	}
	in.noteIntervals(pr)
	s := pr.spec
	if s.DetectMultiplier != nil {
		in.add(Done, pr.origin, "spec.detectMultiplier", "translated to bfd.multiplier")
	}
	if s.EchoInterval != nil {
		in.add(Done, pr.origin, "spec.echoInterval", "left out: it is for echoMode only")
	}
	in.noteFlag(pr.origin, "spec.echoMode", s.EchoMode, Missing, "no equivalent: Herald's BFD has no echo; "+
		"if the router's own packets come too rarely for it, make receiveInterval and transmitInterval shorter on both ends")
	in.noteFlag(pr.origin, "spec.passiveMode", s.PassiveMode, Attention, "left out: Herald's BFD begins by itself, which routers that begin, too, do not mind")
	switch {
	case s.MinimumTTL == nil:
	case *s.MinimumTTL == defaultMinimumTTL:
		in.add(Done, pr.origin, "spec.minimumTtl", "is the default (%d)", defaultMinimumTTL)
	default:
		in.add(Missing, pr.origin, "spec.minimumTtl", "no equivalent: of a router that is not a neighbour Herald's BFD takes packets with any TTL; "+
			"if that is too open, drop those to UDP port 4784 that are not the router's in a firewall")
	}
}

// noteIntervals notes the intervals, of which Herald has one.
func (in *input) noteIntervals(pr profile) {
	s := pr.spec
	same := orElse(s.ReceiveInterval, defaultInterval) == orElse(s.TransmitInterval, defaultInterval)
	for field, set := range map[string]bool{"spec.receiveInterval": s.ReceiveInterval != nil, "spec.transmitInterval": s.TransmitInterval != nil} {
		switch {
		case set && same:
			in.add(Done, pr.origin, field, "translated to bfd.interval")
		case set:
			in.add(Attention, pr.origin, field, "translated to bfd.interval, which is for both directions: it is %s, the longer of receiveInterval and transmitInterval", s.herald().Interval.Duration)
		}
	}
}

// noteFlag notes a flag whose default is false.
func (in *input) noteFlag(o origin, field string, flag *bool, level Level, text string) {
	switch {
	case flag == nil:
	case *flag:
		in.add(level, o, field, "%s", text)
	default:
		in.add(Done, o, field, "is the default (false)")
	}
}
