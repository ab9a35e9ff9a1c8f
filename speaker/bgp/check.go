package bgp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker"
)

// A wanted is a session as it is to be, with the step that leads to its routes.
type wanted struct {
	speaker.Session
	step step
}

// valid returns the sessions that can be kept, and what is wrong with some, both by
// name. Had are those that were kept so far: one that cannot be changed as it is wanted
// is as it was, but for its routes, which say who serves an address now.
func valid(want speaker.Routing, had map[string]speaker.Session) (map[string]wanted, map[string]error) {
	good, bad, steps := map[string]wanted{}, map[string]error{}, steps{}
	for i, w := range want.Sessions {
		was, lives := had[w.Name]
		step, unfit := steps.between(was.Routes, w.Routes)
		if slices.ContainsFunc(want.Sessions[:i], func(o speaker.Session) bool { return o.Name == w.Name }) {
			unfit = errors.Join(unfit, errors.New("it is there twice"))
		}
		wrong := check(w)
		if err := errors.Join(wrong, unfit); err != nil {
			bad[w.Name] = err
		}
		w.Routes, was.Routes = step.to, step.to
		switch {
		case unfit != nil:
			delete(good, w.Name)
		case wrong == nil:
			good[w.Name] = wanted{w, step}
		case lives:
			good[w.Name] = wanted{was, step}
		}
	}
	return good, bad
}

func join(errs map[string]error) error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		all = append(all, errs[name])
	}
	return errors.Join(all...)
}

// maxRestart is what 12 bits can say (RFC 4724 §3), and maxHold what 16 can.
const (
	maxRestart = 4095 * time.Second
	maxHold    = 65535 * time.Second
)

// check looks for what is wrong with a session, but for its routes.
func check(w speaker.Session) error {
	var errs []error
	wrong := func(is bool, text string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(text, args...))
		}
	}
	wrong(w.LocalASN == 0, "spec.myASN is 0")
	wrong(!w.RouterID.Is4() || w.RouterID.IsUnspecified(), "spec.routerID %s is not an IPv4 address", w.RouterID)
	wrong(!w.Addr.IsValid() && w.Interface == "", "there is neither spec.address nor spec.interface")
	wrong(w.Addr.Is6() && w.Addr.IsLinkLocalUnicast() && w.Addr.Zone() == "" && w.Interface == "", "spec.address %s is link-local: spec.interface has to say on which link", w.Addr)
	wrong(w.Addr.Is4In6(), "spec.address %s is an IPv4 address in disguise", w.Addr)
	wrong(w.Port == 0, "spec.port is 0")
	wrong(w.Source.IsValid() && w.Source.Is4() == isV6(w), "spec.sourceAddress %s is of another family than the router's", w.Source)
	wrong(w.HoldTime != 0 && w.HoldTime < 3*time.Second || w.HoldTime > maxHold, "spec.holdTime %s: it is 0, or from 3 s to %s", w.HoldTime, maxHold)
	wrong(w.Keepalive < 0 || w.HoldTime != 0 && w.Keepalive >= w.HoldTime, "spec.keepaliveTime %s is not shorter than spec.holdTime %s", w.Keepalive, w.HoldTime)
	wrong(w.GracefulRestart < 0 || w.GracefulRestart > maxRestart, "spec.gracefulRestart %s: it is at most %s", w.GracefulRestart, maxRestart)
	wrong(len(w.Password) > unix.TCP_MD5SIG_MAXKEYLEN, "the password is longer than %d bytes", unix.TCP_MD5SIG_MAXKEYLEN)
	wrong(!w.V4 && !w.V6, "spec.families is empty")
	return errors.Join(errs...)
}

// isV6 is whether the session is one over IPv6.
func isV6(w speaker.Session) bool { return !w.Addr.IsValid() || w.Addr.Is6() }
