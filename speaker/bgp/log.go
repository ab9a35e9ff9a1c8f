package bgp

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/osrg/gobgp/v3/pkg/log"
)

// A logger makes GoBGP log by slog. All of it is for who debugs: what happens
// to a session is said by the session, in words.
type logger struct{ log *slog.Logger }

var _ log.Logger = logger{}

func (l logger) say(level slog.Level, text string, fields log.Fields) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	args := make([]any, 0, 2*len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		args = append(args, k, fields[k])
	}
	l.log.Log(context.Background(), level, "GoBGP: "+text, args...)
}

// Panic and Fatal are called for what GoBGP takes for impossible. Both return:
// the session hangs then until its hold time is over, and others go on.
func (l logger) Panic(text string, f log.Fields) { l.say(slog.LevelError, text, f) }
func (l logger) Fatal(text string, f log.Fields) { l.say(slog.LevelError, text, f) }
func (l logger) Error(text string, f log.Fields) { l.say(slog.LevelDebug, text, f) }
func (l logger) Warn(text string, f log.Fields)  { l.say(slog.LevelDebug, text, f) }
func (l logger) Info(text string, f log.Fields)  { l.say(slog.LevelDebug, text, f) }
func (l logger) Debug(text string, f log.Fields) { l.say(slog.LevelDebug, text, f) }

func (l logger) SetLevel(log.LogLevel) {}

// GetLevel spares GoBGP the making of what nobody reads.
func (l logger) GetLevel() log.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return log.DebugLevel
	}
	return log.InfoLevel
}
