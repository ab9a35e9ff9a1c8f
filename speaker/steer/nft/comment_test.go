package nft

import (
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
)

func TestServerCommentsAreReadBack(t *testing.T) {
	both := config.SchedulerPort | config.SchedulerFallback
	tests := []struct {
		comment string
		server  steer.Server
	}{
		{"rr", steer.Server{Scheduler: "rr"}},
		{"wlc snat", steer.Server{Scheduler: "wlc", SNAT: true}},
		{"mh,mh-fallback,mh-port", steer.Server{Scheduler: "mh", Flags: both}},
		{"sh,sh-port snat", steer.Server{Scheduler: "sh", Flags: config.SchedulerPort, SNAT: true}},
		{"rr affinity 86400 s", steer.Server{Scheduler: "rr", Affinity: 86400}},
		{"mh,mh-fallback affinity 1 s snat", steer.Server{Scheduler: "mh", Flags: config.SchedulerFallback, Affinity: 1, SNAT: true}},
	}
	for _, tt := range tests {
		t.Run(tt.comment, func(t *testing.T) {
			if got := serverComment(tt.server); got != tt.comment {
				t.Errorf("serverComment() = %q", got)
			}
			if got := parseServerComment(tt.comment); got != tt.server {
				t.Errorf("parseServerComment() = %v, want %v", got, tt.server)
			}
		})
	}
}

func TestOtherCommentsAreNoServers(t *testing.T) {
	for _, comment := range []string{"", " ", "rr  snat", "rr snat snat", "rr affinity", "rr affinity 0 s", "rr affinity 07 s",
		"rr affinity 4294967296 s", "rr snat affinity 5 s", "mh,mh-port,mh-fallback", "mh,sh-port", "mh,mh-other", "R R", "rr from 10.0.0.0/8", "rr direct"} {
		if got := parseServerComment(comment); got != (steer.Server{}) {
			t.Errorf("parseServerComment(%q) = %v", comment, got)
		}
	}
}

func TestWeightCommentsAreReadBack(t *testing.T) {
	for _, w := range []int{1, 2, 65535} {
		if got := parseWeightComment(weightComment(w)); got != w {
			t.Errorf("parseWeightComment() = %v, want %v", got, w)
		}
	}
	for _, s := range []string{"weight", "weight -1", "weight 65536", "mine"} {
		if got := parseWeightComment(s); got != 0 {
			t.Errorf("parseWeightComment(%q) = %d, want 0", s, got)
		}
	}
}

// FuzzServerComment reads what somebody may have written: either nothing, or
// what Herald would have written alike.
func FuzzServerComment(f *testing.F) {
	f.Add("mh,mh-fallback,mh-port affinity 600 s snat")
	f.Add("rr snat")
	f.Fuzz(func(t *testing.T, comment string) {
		if s := parseServerComment(comment); s != (steer.Server{}) && serverComment(s) != comment {
			t.Errorf("%q is read as %v", comment, s)
		}
	})
}
