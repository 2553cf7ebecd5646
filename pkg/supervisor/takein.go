package supervisor

import (
	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// DaemonReload loads the configuration's files: the next start, reload or
// restart of a service runs by them. Nothing is started or stopped. What the
// files no longer name stays until its last process is gone.
func (m *Manager) DaemonReload(by ipc.Caller) (ipc.Reloaded, error) {
	m.log.Info().Uint32("uid", by.UID).Msg("asked to load the configuration")
	turn, err := m.turn()
	if err != nil {
		return ipc.Reloaded{}, err
	}
	c, problems := m.o.Reload()
	errs, warnings := sortOut(problems)
	if len(errs) > 0 {
		return ipc.Reloaded{}, &ipc.Error{
			Code: ipc.Invalid, Message: "cannot load the configuration: " + errs[0],
			Notes: append(errs[1:], "the configuration that was loaded before stays"),
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
// the one that counts when it is done: two who load different files may be here
// at once. The error is about metrics; a socket's is the problem of who needs it.
func (m *Manager) furnish() (err error) {
	for done := (*config.Config)(nil); done != m.configuration(); {
		done = m.configuration()
		m.doors.Configure(socketsOf(done))
		err = m.serveMetrics(done.Manager.MetricsListen)
	}
	return err
}

// sortOut parts errors from warnings; that these are warnings is said by where they
// stand.
func sortOut(problems []config.Problem) (errs, warnings []string) {
	for _, p := range problems {
		if p.Warning {
			p.Warning = false
			warnings = append(warnings, p.String())
		} else {
			errs = append(errs, p.String())
		}
	}
	return errs, warnings
}

// adopt makes an actor for each service of c that has none, and tells the others
// whether c names them. states is what is known of the former lives of services.
// One that is over when it is named again gets a new actor, when all that it had is
// gone: an entry has one owner at a time.
func (m *Manager) adopt(c *config.Config, states map[string]unit.Service) {
	for fresh := m.unknown(c, states); ; fresh = m.unknown(c, nil) {
		m.numbers.begin(fresh)
		add := func(name string) *entry { return m.newEntry(name, fresh[name]) }
		if !m.enter(c, fresh, add) {
			return
		}
		m.tellAll()
		if len(m.unknown(c, nil)) == 0 {
			return
		}
	}
}

// tellAll tells the services whether the configuration names them. It waits for
// those that are over to be gone.
func (m *Manager) tellAll() {
	for _, e := range m.list() {
		if m.tellNamed(e) {
			continue
		}
		select {
		case <-e.gone:
		case <-m.quit:
		}
	}
}

// tellNamed tells a service whether the configuration names it, until that is what
// it was told: two who load different files may be here at once. It says whether
// the service is there to hear it.
func (m *Manager) tellNamed(e entry) bool {
	for is, told := m.names(e.Name()), !m.names(e.Name()); is != told; is = m.names(e.Name()) {
		if !e.Tell(unit.Named{Is: is}) {
			return false
		}
		told = is
	}
	return true
}

func (m *Manager) newEntry(name string, was unit.Service) *entry {
	state := unit.Service{Inst: make([]unit.Instance, 1), LastGen: was.LastGen, LastInv: was.LastInv}
	e := &entry{counts: metrics.NewCounters(), gone: make(chan struct{})}
	e.Actor = m.actors.add(name, state, e.counts)
	return e
}

// vanish lets go of a service that the configuration no longer names, and of which
// nothing is left. It is off the roster when all of it is gone, so that who bears
// its name next shares nothing with it.
func (m *Manager) vanish(name string) {
	m.doors.Set(name, nil)
	m.runner.Pairs.Drop(name)
	m.ledger.Forget(name)
	m.numbers.forget(name)
	m.sinks.drop(name)
	if err := m.o.Store.Delete(recordKey + name); err != nil {
		m.log.Warn().Str("unit", name).Msg(err.Error())
	}
	if err := m.o.Store.Delete(jobsKey + name); err != nil {
		m.log.Warn().Str("unit", name).Msg(err.Error())
	}
	m.leave(name)
	m.log.Info().Str("unit", name).Msg("forgotten: the configuration no longer names it")
}
