package v1alpha1

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
)

// schedulers are the kernel's.
var schedulers = []Scheduler{
	"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", SchedulerSourceHash, SchedulerMaglev, "sed", "nq", "fo", "ovf",
}

// The flags of the schedulers that have any, by name without that of the
// scheduler. The kernel knows them by the same bits (IP_VS_SVC_F_SCHED_SH_PORT
// and _MH_PORT in include/uapi/linux/ip_vs.h).
var schedulerFlags = map[string]config.SchedulerFlags{
	"port":     config.SchedulerPort,
	"fallback": config.SchedulerFallback,
}

// defaultFlags are the flags of a scheduler for which none are written. Both
// fall back, so that a backend which is draining does not swallow the
// connections that are hashed to it; sh is what people choose to keep a client
// where it is, mh is not.
var defaultFlags = map[Scheduler]config.SchedulerFlags{
	SchedulerSourceHash: config.SchedulerFallback,
	SchedulerMaglev:     config.SchedulerPort | config.SchedulerFallback,
}

// scheduler reads the flags for the scheduler of that name; "" is nobody's
// choice, and has none.
func (r *reader) scheduler(name Scheduler, flags []SchedulerFlag) config.SchedulerFlags {
	if name != "" && !slices.Contains(schedulers, name) {
		r.invalid("spec.scheduler", unknownScheduler(name))
		return 0
	}
	for i, f := range flags {
		if slices.Contains(flags[:i], f) {
			r.invalid(fmt.Sprintf("spec.schedulerFlags[%d]", i), fmt.Sprintf("%q stands there twice: write it once", string(f)))
			return 0
		}
	}
	set, invalid := flagsOf(name, flags)
	if invalid != "" {
		r.invalid("spec.schedulerFlags", invalid)
	}
	return set
}

// ParseScheduler reads a scheduler with its flags, separated by commas as in
// "mh,mh-port". Without flags it has those that a pool would give it. The error
// says what to write instead.
func ParseScheduler(text string) (name string, flags config.SchedulerFlags, err error) {
	words := strings.Split(text, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	scheduler := Scheduler(words[0])
	if !slices.Contains(schedulers, scheduler) {
		return "", 0, errors.New(unknownScheduler(scheduler))
	}
	var named []SchedulerFlag
	for _, w := range words[1:] {
		named = append(named, SchedulerFlag(w))
	}
	flags, invalid := flagsOf(scheduler, named)
	if invalid != "" {
		return "", 0, errors.New(invalid)
	}
	return words[0], flags, nil
}

func unknownScheduler(name Scheduler) string {
	names := make([]string, 0, len(schedulers))
	for _, s := range schedulers {
		names = append(names, string(s))
	}
	return fmt.Sprintf("%q is not known: write one of %s", string(name), strings.Join(names, ", "))
}

// flagsOf returns what flags mean for a scheduler, and what is wrong with them.
func flagsOf(name Scheduler, flags []SchedulerFlag) (set config.SchedulerFlags, invalid string) {
	if len(flags) == 0 {
		return defaultFlags[name], ""
	}
	for _, f := range flags {
		own, ok := strings.CutPrefix(string(f), string(name)+"-")
		bit, known := schedulerFlags[own]
		if _, has := defaultFlags[name]; !has || !ok || !known {
			return 0, fmt.Sprintf("%q is no flag of %s: write scheduler sh with sh-port and sh-fallback, mh with mh-port and mh-fallback, or no flags",
				string(f), described(name))
		}
		set |= bit
	}
	return set, ""
}

func described(name Scheduler) string {
	if name == "" {
		return "a scheduler that is not named"
	}
	return "scheduler " + string(name)
}
