package main

import (
	"testing"
	"time"
)

func TestPassesAreRunAsOftenAsAudits(t *testing.T) {
	for audit, want := range map[time.Duration]time.Duration{
		time.Minute: resync, time.Hour: resync, 5 * time.Second: 5 * time.Second, 0: time.Second, -time.Second: time.Second,
	} {
		if got := (speakerFlags{audit: audit}).resync(); got != want {
			t.Errorf("with an audit each %s a pass is run each %s, want %s", audit, got, want)
		}
	}
}
