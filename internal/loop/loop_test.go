package loop

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// run plays a loop for d of fake time and returns when each pass began.
func run(t *testing.T, d time.Duration, fail func(pass int) error, play func(Bell)) []time.Duration {
	t.Helper()
	var began []time.Duration
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	l := Loop{
		Bell: NewBell(), Gap: 10 * time.Millisecond, Resync: time.Minute, Retry: time.Second,
		Log: slog.New(slog.DiscardHandler),
		Pass: func(context.Context) error {
			began = append(began, time.Since(start))
			return fail(len(began))
		},
	}
	go play(l.Bell)
	l.Run(ctx)
	return began
}

func never(int) error { return nil }

func TestRun(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name string
		d    time.Duration
		fail func(int) error
		play func(Bell)
		want []time.Duration
	}{
		{"a first pass is run at once and then one each resync", 130 * time.Second, never,
			func(Bell) {}, []time.Duration{0, time.Minute, 2 * time.Minute}},
		{"a ring is answered at once", time.Second, never,
			func(b Bell) { time.Sleep(500 * ms); b.Ring() }, []time.Duration{0, 500 * ms}},
		{"rings within the gap are answered once, after it", time.Second, never,
			func(b Bell) {
				for range 9 {
					time.Sleep(ms)
					b.Ring()
				}
			}, []time.Duration{0, 10 * ms}},
		{"a failure is retried ever later, until it ends", 9 * time.Second,
			func(pass int) error {
				if pass < 4 {
					return errors.New("no buffer space available")
				}
				return nil
			},
			func(Bell) {}, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := run(t, tt.d, tt.fail, tt.play); !slices.Equal(got, tt.want) {
					t.Errorf("passes began at %v\nwant            %v", got, tt.want)
				}
			})
		})
	}
}

func TestPauseEndsInTimeOrWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Pause(t.Context(), time.Second) || time.Since(began) != time.Second {
			t.Errorf("a pause of 1 s took %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if Pause(ctx, time.Minute) || time.Since(began) != time.Second {
			t.Errorf("a pause whose context ends after 1 s took %s", time.Since(began))
		}
	})
}
