package supervisor

import (
	"github.com/rs/zerolog"
	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// logEvent is one line of supervisord's own log.
func logEvent(log zerolog.Logger, e ipc.Event, c unit.Change) {
	l := log.WithLevel(level(c)).Str("unit", e.Unit)
	if e.Generation != 0 {
		l = l.Uint32("generation", e.Generation)
	}
	if e.PID != 0 {
		l = l.Int("pid", e.PID)
	}
	if e.Role != "" {
		l = l.Str("role", e.Role)
	}
	if e.Error != nil {
		l.Msg(e.Error.Message)
		return
	}
	l.Msg(e.Text)
}

func level(c unit.Change) zerolog.Level {
	switch c.Kind {
	case unit.IsStuck:
		return zerolog.ErrorLevel
	case unit.Finished:
		if c.Finish.Result == unit.Failed {
			return zerolog.ErrorLevel
		}
		return zerolog.InfoLevel
	case unit.Scheduled, unit.Mending:
		return zerolog.WarnLevel
	case unit.Leaving:
		if c.Hung {
			return zerolog.WarnLevel
		}
	case unit.Spawned, unit.IsGone, unit.HasBaked, unit.Begun:
		return zerolog.DebugLevel
	}
	return zerolog.InfoLevel
}

// remember adds a record to the history. It does not wait.
func remember(log zerolog.Logger, h *history.Log, r ipc.Record) {
	text, err := ipc.Encode(r)
	if err != nil {
		log.Error().Str("unit", r.Unit).Msg("cannot keep the history: " + err.Error())
		return
	}
	h.Add(text)
}
