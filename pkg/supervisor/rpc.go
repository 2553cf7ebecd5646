package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// A Manager is what the control socket serves.
var _ ipc.Supervisor = (*Manager)(nil)

// Info says who this is.
func (m *Manager) Info() ipc.Info {
	return ipc.Info{Version: m.o.Version, API: ipc.APIVersion, PID: os.Getpid(), Epoch: m.epoch, Since: m.began, Config: m.configuration().Path}
}

// answerWithin is how long a request waits for an actor to take it.
const answerWithin = 10 * time.Second

// Submit gives a job to the unit's actor.
func (m *Manager) Submit(r ipc.JobRequest, by ipc.Caller) (ipc.Job, error) {
	verb, err := ipc.ParseVerb(r.Verb)
	if err != nil {
		return ipc.Job{}, err
	}
	e, err := m.target(r.Verb, r.Unit)
	if err != nil {
		return ipc.Job{}, err
	}
	if verb == unit.Scale {
		if err := m.roomFor(e, r.Size); err != nil {
			return ipc.Job{}, err
		}
	}
	uid := by.UID
	id, _ := m.ledger.Asked(r.Unit, verb, &uid)
	j, _ := m.ledger.JobOf(id)
	m.numbers.job(id)
	m.log.Info().Str("unit", r.Unit).Uint32("uid", uid).Str("job", j.ID).Msg("asked to " + r.Verb)
	if err := m.ask(r.Verb, e, unit.Asks{Job: unit.Job{ID: id, Verb: verb}, Build: e.build(), Size: r.Size}); err != nil {
		m.ledger.Unasked(id)
		return ipc.Job{}, err
	}
	j, _ = m.ledger.JobOf(id)
	return j, nil
}

// build is what a job is to run; nil: the configuration no longer says.
func (e entry) build() *unit.Build {
	if e.spec == nil {
		return nil
	}
	return &unit.Build{Spec: e.spec}
}

// ask gives an event to the actor, or says why that cannot be.
func (m *Manager) ask(verb string, e entry, event unit.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	switch err := e.Ask(ctx, event); {
	case err == nil:
		return nil
	case errors.Is(err, service.ErrEnded) && m.isEnding():
		return ending(verb, e.Name())
	case errors.Is(err, service.ErrEnded):
		return m.noSuchUnit(verb, e.Name())
	}
	return &ipc.Error{
		Code: ipc.Internal, Message: fmt.Sprintf("cannot %s %s: what it was asked before takes more than %s", verb, e.Name(), words.Short(answerWithin)),
		Notes: []string{"nothing was changed"}, Hints: []string{"the disk of the runtime directory may not answer: see superctl status"},
	}
}

// target is the service that a verb is for.
func (m *Manager) target(verb, name string) (entry, error) {
	e := m.find(name)
	if e.Actor != nil {
		return e, nil
	}
	if a, ok := asideOf(m.configuration(), name); ok {
		return e, spoiled(verb, a)
	}
	return e, m.noSuchUnit(verb, name)
}

func (m *Manager) isEnding() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ending
}

func ending(verb, name string) error {
	return &ipc.Error{Code: ipc.Ending, Message: fmt.Sprintf("cannot %s %s: supervisord is stopping", verb, name)}
}

func (m *Manager) noSuchUnit(verb, name string) error {
	e := &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot %s %s: there is no such service", verb, name)}
	if bare, ok := strings.CutSuffix(name, ".socket"); ok && verb != "show" {
		e.Message = fmt.Sprintf("cannot %s %s: verbs are for services, and %s is a socket", verb, name, bare)
	}
	var names []string
	for _, u := range m.list() {
		names = append(names, u.Name())
	}
	if len(names) > 0 && len(names) <= 12 {
		e.Hints = []string{"there is " + strings.Join(names, ", ")}
	} else {
		e.Hints = []string{"superctl status lists what there is"}
	}
	return e
}

// Job returns a job as it is now.
func (m *Manager) Job(id string) (ipc.Job, error) {
	j, ok := m.ledger.Job(id)
	if !ok {
		return ipc.Job{}, noSuchJob(id)
	}
	if e := m.find(j.Unit); e.Actor != nil && j.Ended == nil {
		j.Waiting = words.Waiting(e.View(), now())
	}
	return j, nil
}

func noSuchJob(id string) error {
	return &ipc.Error{Code: ipc.NoSuchJob, Message: fmt.Sprintf("there is no job %s: it ended long ago, or belongs to another supervisord", id)}
}

// JobEvents yields what happens in the course of a job.
func (m *Manager) JobEvents(ctx context.Context, id string, since uint64, drained bool) (iter.Seq[ipc.Event], error) {
	j, ok := m.ledger.Job(id)
	if !ok {
		return nil, noSuchJob(id)
	}
	e := m.find(j.Unit)
	return m.ledger.FollowJob(ctx, id, since, m.quit, func() bool {
		return !drained || e.Actor == nil || !e.View().Draining()
	}), nil
}

// Events yields all that happens.
func (m *Manager) Events(ctx context.Context, since uint64) iter.Seq[ipc.Event] {
	if since == 0 {
		since = m.ledger.End()
	}
	return m.ledger.Follow(ctx, since, "", m.quit)
}

// Kill sends a signal to processes of a service.
func (m *Manager) Kill(r ipc.KillRequest, by ipc.Caller) error {
	e, err := m.target("kill", r.Unit)
	if err != nil {
		return err
	}
	if why := words.NobodyToKill(e.View(), r.Whom); why != "" {
		return &ipc.Error{Code: ipc.NotActive, Message: fmt.Sprintf("cannot kill %s: %s", r.Unit, why)}
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Str("whom", string(r.Whom)).Msg("asked to send " + words.SignalName(r.Signal))
	return m.ask("kill", e, unit.Kills{Signal: syscall.Signal(r.Signal), Whom: r.Whom})
}

// ResetFailed forgets the failures of a service.
func (m *Manager) ResetFailed(r ipc.UnitRequest, by ipc.Caller) error {
	e, err := m.target("reset", r.Unit)
	if err != nil {
		return err
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Msg("asked to forget its failures")
	return m.ask("reset", e, unit.Clears{})
}
