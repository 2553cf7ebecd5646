package supervisor

import (
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// publish makes what changed known: to the jobs, to supervisord's own log, to the
// history, and to the journal, whose readers are superctl and all who follow.
func (m *Manager) publish(cs []unit.Change, before unit.Service, v *view) {
	at := time.Now()
	course := m.jobs.names(append(before.Job.IDs(), v.state.Job.IDs()...))
	events := make([]ipc.Event, len(cs))
	for i, c := range cs {
		e := ipc.Event{
			Time: &at, Unit: v.name, Jobs: course, Kind: c.Kind, Text: v.text(c),
			Instance: c.Inst, Role: string(c.Role), PID: c.Proc.PID, Generation: uint32(c.Proc.Gen),
			From: string(c.From), To: string(c.To),
		}
		switch c.Kind {
		case unit.Queued, unit.Begun:
			m.begun(&e, c, before, v.state.Size)
		case unit.Finished:
			m.finished(&e, c.Finish, v)
		case unit.HasExited:
			m.exited(c, before, v)
		case unit.IsGone:
			m.exited(c, before, v)
			m.trim(v)
		}
		v.count(c)
		events[i] = e
		m.logEvent(e, c)
	}
	m.journal.add(events...)
}

// trim lets go of addresses that only processes knew which are gone now.
func (m *Manager) trim(v *view) {
	b := v.state.Build(v.state.Current)
	if b == nil || v.draining() {
		return
	}
	if err := m.doors.trim(v.name); err != nil {
		m.log.Error().Str("unit", v.name).Msg(err.Error())
	}
}

// begun notes what a job brings, and what ran before.
func (m *Manager) begun(e *ipc.Event, c unit.Change, before unit.Service, size int) {
	ids := c.Job.IDs()
	e.Jobs, e.Generation = m.jobs.names(ids), uint32(c.Job.Gen)
	e.Text = begins(c.Job, before.Current, size)
	state := ipc.JobRunning
	if c.Kind == unit.Queued {
		state, e.Text = ipc.JobQueued, fmt.Sprintf("waits for the %s in progress", before.Job.Verb)
	}
	if before.Current != 0 && c.Job.Gen != 0 && c.Job.Gen != before.Current {
		e.From = fmt.Sprint(before.Current)
	}
	counted := m.account(e.Unit)
	for _, id := range ids {
		m.jobs.update(id, func(j *job) {
			if c.Kind == unit.Begun {
				j.before = counted
			}
			j.State, j.Generation, j.From = state, uint32(c.Job.Gen), uint32(before.Current)
		})
	}
}

// finished gives jobs their result, in words if it is a bad one.
func (m *Manager) finished(e *ipc.Event, f unit.Finish, v *view) {
	e.Jobs, e.State = m.jobs.names(f.Jobs), jobStates[f.Result]
	for i, id := range f.Jobs {
		j, ok := m.jobs.get(id)
		if !ok {
			continue
		}
		e.Text = fmt.Sprintf("%s: %s", j.Verb, f.Result)
		var why *ipc.Error
		if f.Result != unit.Done {
			why = v.explain(j.verb, f)
			e.Error = why
		}
		var counted []ipc.SocketAccount
		if (j.verb == unit.Reload || j.verb == unit.Restart) && j.before != nil { // else there is nothing to compare with
			counted = since(j.before, m.account(v.name))
		}
		if v.counts.Job(j.verb, f.Result); i == 0 { // the others shared what it did
			v.counts.Reload(counted)
		}
		m.jobs.update(id, func(j *job) {
			if j.Sockets = counted; j.Generation == 0 {
				j.Generation = uint32(v.state.Current)
			}
		})
		if j, ok := m.jobs.end(id, f.Result, why); ok {
			m.remember(j.record())
		}
	}
}

// logEvent is one line of supervisord's own log.
func (m *Manager) logEvent(e ipc.Event, c unit.Change) {
	l := m.log.WithLevel(level(c)).Str("unit", e.Unit)
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
	case unit.Scheduled:
		return zerolog.WarnLevel
	case unit.Spawned, unit.IsGone, unit.HasBaked, unit.Begun:
		return zerolog.DebugLevel
	}
	return zerolog.InfoLevel
}

// text says a change in the words in which all tell it: the log, the events, the
// progress of a job.
func (v *view) text(c unit.Change) string {
	p := c.Proc
	switch c.Kind {
	case unit.Spawned:
		return fmt.Sprintf("starting a process of generation %d", p.Gen)
	case unit.Began:
		return fmt.Sprintf("started pid %d", p.PID)
	case unit.IsReady:
		return v.ready(c)
	case unit.HasBaked:
		return fmt.Sprintf("stayed ready for %s", short(v.life(p).Bake))
	case unit.Switched:
		return fmt.Sprintf("switched to generation %d (pid %d)", p.Gen, p.PID)
	case unit.Waits:
		return fmt.Sprintf("connections are still on their way to pid %d", p.PID)
	case unit.Leaving:
		return v.leaving(c)
	case unit.HasExited:
		return fmt.Sprintf("pid %d %s", p.PID, Ended(p.Exit))
	case unit.IsStuck:
		return "SIGKILL does not end " + strings.Join(v.survivors(p), ", ")
	case unit.IsGone:
		return v.gone(p)
	case unit.State:
		return fmt.Sprintf("%s (was %s)", c.To, c.From)
	case unit.Scheduled:
		if c.Due <= v.at {
			return "starts again at once"
		}
		return fmt.Sprintf("starts again in %s", until(c.Due, v.at))
	case unit.Finished:
		return string(c.Finish.Result)
	}
	return string(c.Kind)
}

func (v *view) ready(c unit.Change) string {
	if l := v.life(c.Proc); c.Role == unit.RoleNext || l.Type == unit.Exec {
		return fmt.Sprintf("ready, baking for %s", short(l.Bake))
	}
	return "ready"
}

func (v *view) gone(p unit.Proc) string {
	if p.PID == 0 {
		return "it never ran"
	}
	return fmt.Sprintf("pid %d is gone", p.PID)
}

// begins says what a job brings.
func begins(j unit.Job, current unit.Generation, size int) string {
	switch {
	case j.Verb == unit.Scale:
		return fmt.Sprintf("instances: %d", size)
	case j.Verb == unit.Stop:
		return "stopping"
	case current == 0 || current == j.Gen:
		return fmt.Sprintf("generation %d", j.Gen)
	}
	return fmt.Sprintf("generation %d -> %d", current, j.Gen)
}

func (v *view) leaving(c unit.Change) string {
	p, l := c.Proc, v.life(c.Proc)
	who := fmt.Sprintf("pid %d", p.PID)
	switch {
	case p.PID == 0:
		return "told the process that was being started to go"
	case p.Exit.Kind != unit.NotExited:
		return "sent SIGKILL to what " + who + " left behind"
	}
	switch p.Phase {
	case unit.Settling:
		return who + " gets no new connections"
	case unit.Aborted:
		return fmt.Sprintf("sent SIGABRT to %s: it missed its watchdog", who)
	case unit.Told:
		return fmt.Sprintf("sent SIGKILL to %s: it did not end within timeout_stop_sec = %s", who, short(l.Stop))
	}
	return fmt.Sprintf("sent %s to %s", SignalName(int(l.KillSignal)), who)
}
