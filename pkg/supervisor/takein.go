package supervisor

import (
	"os"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// DaemonReload takes the configuration's files in: the next start, reload or
// restart of a service runs by them. Nothing is started or stopped. What the
// files no longer name stays until its last process is gone.
func (m *Manager) DaemonReload(by ipc.Caller) (ipc.Reloaded, error) {
	m.log.Info().Uint32("uid", by.UID).Msg("asked to take the configuration in")
	c, problems := m.o.Reload()
	errs, warnings := sortOut(problems)
	if len(errs) > 0 {
		return ipc.Reloaded{}, &ipc.Error{
			Code: ipc.Invalid, Message: "cannot take the configuration in: " + errs[0],
			Notes: append(errs[1:], "the configuration that was taken in before stays"),
			Hints: []string{"superctl verify"},
		}
	}
	m.mu.Lock()
	r := difference(m.config, c)
	m.mu.Unlock()
	r.Warnings = warnings
	m.adopt(c)
	m.dropUnused()
	if err := m.serveMetrics(c.Manager.MetricsListen); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
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

func difference(a, b *config.Config) ipc.Reloaded {
	d := config.Diff(a, b)
	return ipc.Reloaded{Added: d.Added, Removed: d.Removed, Changed: d.Changed}
}

// adopt makes c what counts, with an actor for each service in it.
func (m *Manager) adopt(c *config.Config) {
	stamps := stampsOf(c.Files)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config, m.stamps = c, stamps
	for _, spec := range c.Services {
		if m.services[spec.Name] == nil {
			m.add(spec.Name, unit.Service{})
		}
	}
}

// dropUnused lets go of services and sockets that the configuration no longer
// names and that have no process any more.
func (m *Manager) dropUnused() {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := map[string]bool{}
	for name, s := range m.services {
		v := s.shown.Load()
		if !m.names(name) && !v.busy() {
			close(s.quit)
			delete(m.services, name)
			m.log.Info().Str("unit", name).Msg("forgotten: the configuration no longer names it")
			continue
		}
		for _, b := range v.state.Builds {
			for _, socket := range b.Spec.SocketNames() {
				used[socket] = v.busy() || used[socket]
			}
		}
	}
	for _, s := range m.config.Sockets {
		used[s.Name] = true
	}
	for _, name := range m.o.Table.Names() {
		if of, _ := unit.SplitSocket(name); used[of] {
			continue
		}
		if err := m.doors.drop(name); err != nil {
			m.log.Error().Str("unit", name+".socket").Msg(err.Error())
		}
	}
}

// names needs m.mu.
func (m *Manager) names(service string) bool {
	return slices.ContainsFunc(m.config.Services, func(s *unit.Spec) bool { return s.Name == service })
}

// busy: it has a process, or will have one.
func (v *view) busy() bool {
	for range v.state.Procs() {
		return true
	}
	return v.state.Deadline() != 0 || v.state.Job.ID != 0
}

// A stamp tells whether a file is the one that was read.
type stamp struct {
	size int64
	mod  time.Time
}

func stampsOf(files []string) map[string]stamp {
	stamps := map[string]stamp{}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			stamps[f] = stamp{st.Size(), st.ModTime()}
		}
	}
	return stamps
}

// filesDiffer: what is on disk is not what was taken in.
func (m *Manager) filesDiffer() bool {
	m.mu.Lock()
	files, then := m.config.Files, m.stamps
	m.mu.Unlock()
	now := stampsOf(files)
	return slices.ContainsFunc(files, func(f string) bool { return now[f] != then[f] })
}
