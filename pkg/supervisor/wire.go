package supervisor

import (
	"time"

	"github.com/rs/zerolog"
	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/invocation"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// actor makes the actor of a service, and lets it run. What it is given takes no
// lock of the Manager's.
func (m *Manager) actor(name string, state unit.Service, counts *metrics.Counters) *service.Actor {
	var a *service.Actor
	a = service.New(name, state, service.World{
		Now:   now,
		Save:  func(r service.Record) error { return m.save(name, r) },
		Doors: func(w []unit.Door) { m.doors.Set(name, w) },
		Steer: func(shares []unit.Share) { m.steer(name, shares) },
		Start: func(o service.Order) { m.start(a, o) },
		Settle: func(id unit.Invocation, atMost time.Duration) {
			m.runner.Go(func() { m.settle(a, id, atMost) })
		},
		Changed: func(cs []unit.Change, before unit.Service, v *service.View) {
			count(counts, cs, m.ledger.Changed(cs, before, v), v)
		},
		Vanish: func() { go m.vanish(name) },
	})
	m.actors.Go(a.Run)
	return a
}

// save stores what the next supervisord must know.
func (m *Manager) save(name string, r service.Record) error {
	m.numbers.note(name, r.Service.LastGen, r.Service.LastInv)
	err := m.o.Store.Put(recordKey+name, r)
	if err != nil {
		m.numbers.unsure(name)
	}
	return err
}

// start starts an invocation of a service.
func (m *Manager) start(a *service.Actor, o service.Order) {
	pinned, _ := o.Pinned.(*process.Executable)
	m.runner.Start(invocation.Order{
		ID: o.ID, Gen: o.Gen, Inst: o.Inst, Spec: o.Spec, Pinned: pinned, Fresh: o.Fresh, Heir: o.Heir,
	}, owner{a, o.ID})
}

// An owner tells an actor what becomes of one invocation.
type owner struct {
	*service.Actor
	id unit.Invocation
}

func (o owner) Staged(i *invocation.Invocation) {
	if !o.Tell(service.Staged{ID: o.id, Handle: handle{i}}) {
		i.Proceed(service.ErrEnded)
	}
}

func (o owner) Said(m notify.Message) {
	o.Tell(service.Heard{ID: o.id, Notice: m.Notice, Status: m.Status, Errno: m.Errno, Reloading: m.Reloading})
}

func (o owner) Happened(e unit.Event) { o.Tell(e) }

// A handle is an invocation as an actor sees it.
type handle struct{ *invocation.Invocation }

func (h handle) Program() service.Program {
	if e := h.Executable(); e != nil {
		return e
	}
	return nil
}

// steer says who of a service gets new connections.
func (m *Manager) steer(name string, shares []unit.Share) {
	if err := m.doors.Steer(name, shares); err != nil {
		m.log.Error().Str("unit", name).Msg(err.Error())
	}
}

// lookAgain is how often it is looked whether a process has settled.
const lookAgain = 10 * time.Millisecond

// settle tells when nothing is on its way to a process any more, or gives up
// when nobody can wait for that any longer.
func (m *Manager) settle(a *service.Actor, id unit.Invocation, atMost time.Duration) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	end := time.Now().Add(atMost)
	for !m.doors.Settled(a.Name(), id) {
		if time.Now().After(end) {
			return
		}
		<-tick.C
	}
	a.Tell(unit.Quiet{ID: id})
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

// remember adds a record to the history. It does not wait.
func (m *Manager) remember(r ipc.Record) {
	text, err := ipc.Encode(r)
	if err != nil {
		m.log.Error().Str("unit", r.Unit).Msg("cannot keep the history: " + err.Error())
		return
	}
	m.history.Add(text)
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
	case unit.Spawned, unit.IsGone, unit.HasBaked, unit.Begun:
		return zerolog.DebugLevel
	}
	return zerolog.InfoLevel
}
