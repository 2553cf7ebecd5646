package supervisor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
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

// Status is what anyone may see of the units. See [ipc.Supervisor].
func (m *Manager) Status(names []string) (ipc.Status, error) { return m.report.Status(names) }

// Count says how many services there are, and how many of them are active or
// failed. It costs little enough to be asked after each event.
func (m *Manager) Count() (all, active, failed int) { return m.report.Count() }

// answerWithin is how long a request waits for an actor to take it.
const answerWithin = 10 * time.Second

// Submit gives a job to the unit's actor.
func (m *Manager) Submit(r ipc.JobRequest, by ipc.Caller) (ipc.Job, error) {
	verb, err := ipc.ParseVerb(r.Verb)
	if err != nil {
		return ipc.Job{}, err
	}
	uid := by.UID
	ask := ledger.Ask{Size: r.Size, By: &uid, Request: r.RequestID}
	if id, known := m.ledger.Repeated(r.RequestID); known {
		return m.again(id, r, verb, ask)
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
	id, asked, err := m.noted(r, verb, ask)
	if err != nil {
		return ipc.Job{}, err
	}
	if !asked { // at the same time
		return m.again(id, r, verb, ask)
	}
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

// noted makes a job of a request, and has it stored. A disk that hangs is not waited for.
func (m *Manager) noted(r ipc.JobRequest, verb unit.Verb, ask ledger.Ask) (id unit.JobID, asked bool, err error) {
	type entered struct {
		id    unit.JobID
		asked bool
	}
	stored, late := make(chan entered), make(chan struct{})
	go func() {
		n, _, fresh := m.ledger.Asked(r.Unit, verb, ask)
		select {
		case stored <- entered{n, fresh}:
		case <-late:
			if fresh {
				m.ledger.Unasked(n)
			}
		}
	}()
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	select {
	case x := <-stored:
		return x.id, x.asked, nil
	case <-timer.C:
		close(late)
		return 0, false, tooSlow(r.Verb, r.Unit)
	}
}

// again is the job that a request got which is sent once more, as no answer has come.
func (m *Manager) again(id unit.JobID, r ipc.JobRequest, verb unit.Verb, ask ledger.Ask) (ipc.Job, error) {
	j, ok := m.ledger.JobOf(id)
	if !ok || !m.ledger.Same(id, r.Unit, verb, ask) {
		return ipc.Job{}, &ipc.Error{Code: ipc.Usage, Message: "this Request-Id was used for another request", Notes: []string{"nothing was changed"}}
	}
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
	return tooSlow(verb, e.Name())
}

func tooSlow(verb, name string) error {
	return &ipc.Error{
		Code: ipc.Internal, Message: fmt.Sprintf("cannot %s %s: what it was asked before takes more than %s", verb, name, words.Short(answerWithin)),
		Notes: []string{"nothing was changed"}, Hints: []string{"the disk of the runtime directory may not answer; to see whether it does: superctl status"},
	}
}

func ending(verb, name string) error {
	return &ipc.Error{Code: ipc.Ending, Message: fmt.Sprintf("cannot %s %s: supervisord is stopping", verb, name)}
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
	if m.ledger.HasDone(r.Unit, r.RequestID) {
		return nil
	}
	if why := words.NobodyToKill(e.View(), r.Whom); why != "" {
		return &ipc.Error{Code: ipc.NotActive, Message: fmt.Sprintf("cannot kill %s: %s", r.Unit, why)}
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Str("whom", string(r.Whom)).Msg("asked to send " + words.SignalName(r.Signal))
	if err := m.ask("kill", e, unit.Kills{Signal: syscall.Signal(r.Signal), Whom: r.Whom}); err != nil {
		return err
	}
	m.ledger.Did(r.Unit, r.RequestID)
	return nil
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

// roomFor refuses more instances than a service's sockets have ports for, or than can be
// steered: the configuration is held to the same.
func (m *Manager) roomFor(e entry, size int) error {
	if e.spec == nil {
		return nil // the rules refuse that
	}
	refuse := func(why, hint string) error {
		return &ipc.Error{Code: ipc.Refused, Message: fmt.Sprintf("cannot scale %s to %d: %s", e.Name(), size, why), Hints: []string{hint}}
	}
	for _, s := range e.spec.Sockets {
		if _, err := s.Of(size - 1); err != nil {
			return refuse(err.Error(), "choose a smaller number, or change the listen_stream of its sockets, then: superctl daemon-reload")
		}
		if n := config.Crowd(e.spec.Life, size); s.Steer && n > config.MaxSteered {
			return refuse(fmt.Sprintf("[socket.%s] is steered, which %d processes can be: with max_surge and max_draining there could be %d", s.Name, config.MaxSteered, n),
				"choose a smaller number, or lower max_draining, then: superctl daemon-reload")
		}
	}
	return nil
}
