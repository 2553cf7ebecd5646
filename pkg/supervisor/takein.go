package supervisor

import (
	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// DaemonReload takes the configuration's files in: the next start, reload or
// restart of a service runs by them. Nothing is started or stopped. What the
// files no longer name stays until its last process is gone.
func (m *Manager) DaemonReload(by ipc.Caller) (ipc.Reloaded, error) {
	m.log.Info().Uint32("uid", by.UID).Msg("asked to take the configuration in")
	turn, err := m.turn()
	if err != nil {
		return ipc.Reloaded{}, err
	}
	c, problems := m.o.Reload()
	errs, warnings := sortOut(problems)
	if len(errs) > 0 {
		return ipc.Reloaded{}, &ipc.Error{
			Code: ipc.Invalid, Message: "cannot take the configuration in: " + errs[0],
			Notes: append(errs[1:], "the configuration that was taken in before stays"),
			Hints: []string{"superctl verify"},
		}
	}
	r, latest := m.takeIn(c, turn)
	r.Warnings = warnings
	if !latest {
		return r, nil
	}
	if err := m.furnish(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// takeIn makes c what counts, unless what was read later does already.
func (m *Manager) takeIn(c *config.Config, turn uint64) (r ipc.Reloaded, latest bool) {
	before, latest := m.accept(c, turn)
	if latest {
		m.adopt(c, nil)
	}
	d := config.Diff(before, c)
	return ipc.Reloaded{Added: d.Added, Removed: d.Removed, Changed: d.Changed}, latest
}

// furnish has sockets and metrics as the configuration says, until that is still
// the one that counts when it is done: two who take in different files may be here
// at once. The error is about metrics; a socket's is the problem of who needs it.
func (m *Manager) furnish() (err error) {
	for done := (*config.Config)(nil); done != m.configuration(); {
		done = m.configuration()
		m.doors.Configure(socketsOf(done))
		err = m.serveMetrics(done.Manager.MetricsListen)
	}
	return err
}

func sortOut(problems []config.Problem) (errs, warnings []string) {
	for _, p := range problems {
		if p.Warning {
			warnings = append(warnings, p.String())
		} else {
			errs = append(errs, p.String())
		}
	}
	return errs, warnings
}

// adopt makes an actor for each service of c that has none, and tells the others
// whether c names them. states is what is known of the former lives of services.
func (m *Manager) adopt(c *config.Config, states map[string]unit.Service) {
	fresh := m.unknown(c, states)
	m.numbers.begin(fresh)
	add := func(name string) *entry { return m.newEntry(name, fresh[name]) }
	if !m.enter(c, add) {
		return
	}
	for _, e := range m.list() {
		m.tellNamed(e)
	}
}

// tellNamed tells a service whether the configuration names it, until that is what
// it was told: two who take in different files may be here at once.
func (m *Manager) tellNamed(e entry) {
	for is, told := m.names(e.Name()), !m.names(e.Name()); is != told; is = m.names(e.Name()) {
		e.Tell(unit.Named{Is: is})
		told = is
	}
}

func (m *Manager) newEntry(name string, was unit.Service) *entry {
	state := unit.Service{Inst: make([]unit.Instance, 1), LastGen: was.LastGen, LastInv: was.LastInv}
	e := &entry{counts: metrics.NewCounters()}
	e.Actor = m.actors.add(name, state, e.counts)
	return e
}

// vanish lets go of a service that the configuration no longer names, and of which
// nothing is left.
func (m *Manager) vanish(name string) {
	e, ok := m.leave(name)
	if !ok {
		return
	}
	e.Close()
	m.doors.Set(name, nil)
	m.runner.Pairs.Drop(name)
	m.ledger.Forget(name)
	m.sinks.drop(name)
	if err := m.o.Store.Delete(recordKey + name); err != nil {
		m.log.Warn().Str("unit", name).Msg(err.Error())
	}
	m.log.Info().Str("unit", name).Msg("forgotten: the configuration no longer names it")
}
