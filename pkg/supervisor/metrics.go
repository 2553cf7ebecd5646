package supervisor

import (
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// serveMetrics makes metrics be served at a and nowhere else. Where that cannot
// be, it is said here and in the status, and all else goes on.
func (m *Manager) serveMetrics(a unit.Address) error {
	before := m.metrics.Address()
	if err := m.metrics.Listen(a); err != nil {
		m.fail(m.log, err)
		return err
	}
	switch at := m.metrics.Address(); {
	case at == before:
	case at == "":
		m.log.Info().Msg("metrics are not served any more")
	default:
		m.log.Info().Str("address", at).Msg("metrics are served")
	}
	return nil
}

// snapshot is what a scrape tells: the status of all, and what was counted.
func (m *Manager) snapshot() metrics.Snapshot {
	s := metrics.Snapshot{Info: m.Info(), Counted: map[string]*metrics.Counters{}}
	s.Status, _ = m.Status(nil) // it fails only for who names a unit
	for _, u := range s.Status.Services {
		if of := m.service(u.Name); of != nil {
			s.Counted[u.Name] = of.counts
		}
	}
	return s
}

// count counts what changed. A process can be gone without that anybody saw how it
// ended.
func (v *view) count(c unit.Change) {
	unseen := c.Kind == unit.IsGone && c.Proc.PID != 0 && c.Proc.Exit.Kind == unit.NotExited
	switch {
	case c.Kind == unit.HasExited, unseen:
		v.counts.Exit(v.life(c.Proc).Judge(c.Proc.Exit))
	case c.Kind == unit.Scheduled:
		v.counts.Restart()
	}
}
