package v1alpha1

import (
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/config"
)

const port, fallback = config.SchedulerPort, config.SchedulerFallback

func TestFlagsOfASchedulerAreItsOwn(t *testing.T) {
	tests := []struct {
		name, text string
		scheduler  string
		flags      config.SchedulerFlags
		wrong      string // what the error says; "" for none
	}{
		{"most schedulers have none", "wlc", "wlc", 0, ""},
		{"mh without flags has both", "mh", "mh", port | fallback, ""},
		{"sh without flags falls back, and keeps a client where it is", "sh", "sh", fallback, ""},
		{"one that is written takes the place of the defaults", "mh,mh-fallback", "mh", fallback, ""},
		{"spaces do no harm, nor does the order", " sh , sh-port,sh-fallback ", "sh", port | fallback, ""},
		{"a flag twice is one", "mh,mh-port,mh-port", "mh", port, ""},
		{"no scheduler", "", "", 0, `"" is not known: write one of rr, wrr, lc`},
		{"an unknown scheduler", "roundrobin", "", 0, `"roundrobin" is not known: write one of rr, wrr, lc`},
		{"an unknown flag", "mh,mh-ports", "", 0, `"mh-ports" is no flag of scheduler mh: write scheduler sh with`},
		{"a flag without the name of its scheduler", "mh,port", "", 0, `"port" is no flag of scheduler mh`},
		{"a flag of another scheduler", "sh,mh-port", "", 0, `"mh-port" is no flag of scheduler sh`},
		{"a flag of a scheduler that has none", "rr,rr-port", "", 0, `"rr-port" is no flag of scheduler rr`},
		{"a comma too many", "mh,", "", 0, `"" is no flag of scheduler mh`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			scheduler, flags, err := ParseScheduler(tt.text)
			if scheduler != tt.scheduler || flags != tt.flags {
				t.Errorf("%q flags %b, want %q flags %b", scheduler, flags, tt.scheduler, tt.flags)
			}
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.HasPrefix(err.Error(), tt.wrong) {
				t.Errorf("error %v, want %q", err, tt.wrong)
			}
		})
	}
}

// A pool and the text of an annotation mean the same.
func FuzzParseScheduler(f *testing.F) {
	f.Add("mh,mh-port")
	f.Add("sh, sh-fallback,sh-port")
	f.Add("rr,")
	f.Fuzz(func(t *testing.T, text string) {
		name, flags, err := ParseScheduler(text)
		if err == nil && !slices.Contains(schedulers, Scheduler(name)) {
			t.Fatalf("%q is scheduler %q", text, name)
		}
		if err != nil && (name != "" || flags != 0) {
			t.Fatalf("%q is %q with flags %b, and wrong: %v", text, name, flags, err)
		}
		o := object("lan", 1, "192.0.2.1")
		for i, word := range strings.Split(text, ",") {
			if word = strings.TrimSpace(word); i == 0 {
				o.Spec.Scheduler = Scheduler(word)
			} else if !slices.Contains(o.Spec.SchedulerFlags, SchedulerFlag(word)) {
				o.Spec.SchedulerFlags = append(o.Spec.SchedulerFlags, SchedulerFlag(word))
			}
		}
		p, problems := compilePool(&o)
		if o.Spec.Scheduler != "" && (len(problems) > 0) != (err != nil) {
			t.Fatalf("%q: the annotation says %v, the pool %v", text, err, problems)
		}
		if err == nil && (p.Scheduler != name || p.SchedulerFlags != flags) {
			t.Fatalf("%q: the pool has %q with flags %b, the annotation %q with %b", text, p.Scheduler, p.SchedulerFlags, name, flags)
		}
	})
}
