package supervisor

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Manager is what the control socket serves.
var _ ipc.Supervisor = (*Manager)(nil)

// Info says who this is.
func (m *Manager) Info() ipc.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ipc.Info{Version: m.o.Version, API: ipc.APIVersion, PID: os.Getpid(), Epoch: m.epoch, Since: m.began, Config: m.config.Path}
}

// Submit gives a job to the unit's actor.
func (m *Manager) Submit(r ipc.JobRequest, by ipc.Caller) (ipc.Job, error) {
	verb, err := ipc.ParseVerb(r.Verb)
	if err != nil {
		return ipc.Job{}, err
	}
	s, spec, err := m.target(r.Verb, r.Unit)
	if err != nil {
		return ipc.Job{}, err
	}
	if spec == nil && verb != unit.Stop {
		return ipc.Job{}, &ipc.Error{Code: ipc.Refused, Message: fmt.Sprintf("cannot %s %s: the configuration no longer names it", r.Verb, r.Unit)}
	}
	if verb == unit.Scale {
		if err := m.roomFor(spec, r.Size); err != nil {
			return ipc.Job{}, err
		}
	}
	uid := by.UID
	id := m.jobs.add(r.Unit, verb, &uid, m.journal.end())
	m.log.Info().Str("unit", r.Unit).Uint32("uid", uid).Str("job", m.jobs.name(id)).Msg("asked to " + r.Verb)
	if !s.tell(unit.Asks{Job: unit.Job{ID: id, Verb: verb}, Build: &unit.Build{Spec: spec}, Size: r.Size}) {
		return ipc.Job{}, m.isEnding(r.Verb, r.Unit)
	}
	j, _ := m.jobs.get(id)
	return j.Job, nil
}

// target is the service that a verb is for, and its configuration as it was
// taken in; nil: it has none any more.
func (m *Manager) target(verb, name string) (*service, *unit.Spec, error) {
	m.mu.Lock()
	s, ending := m.services[name], m.ending
	m.mu.Unlock()
	switch {
	case s == nil:
		return nil, nil, m.noSuchUnit(verb, name)
	case ending && verb != "kill":
		return nil, nil, m.isEnding(verb, name)
	}
	return s, m.specOf(name), nil
}

func (m *Manager) specOf(name string) *unit.Spec {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, spec := range m.config.Services {
		if spec.Name == name {
			return spec
		}
	}
	return nil
}

func (m *Manager) isEnding(verb, name string) error {
	return &ipc.Error{Code: ipc.Ending, Message: fmt.Sprintf("cannot %s %s: supervisord is stopping", verb, name)}
}

func (m *Manager) noSuchUnit(verb, name string) error {
	e := &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot %s %s: there is no such service", verb, name)}
	if bare, ok := strings.CutSuffix(name, ".socket"); ok && verb != "show" {
		e.Message = fmt.Sprintf("cannot %s %s: verbs are for services, and %s is a socket", verb, name, bare)
	}
	var names []string
	m.mu.Lock()
	for _, s := range m.list() {
		names = append(names, s.name)
	}
	m.mu.Unlock()
	if len(names) > 0 && len(names) <= 12 {
		e.Hints = []string{"there is " + strings.Join(names, ", ")}
	} else {
		e.Hints = []string{"superctl status lists what there is"}
	}
	return e
}

// Job returns a job as it is now.
func (m *Manager) Job(id string) (ipc.Job, error) {
	j, _, ok := m.jobs.find(id)
	if !ok {
		return ipc.Job{}, m.noSuchJob(id)
	}
	if s := m.service(j.Unit); s != nil && j.Ended == nil {
		j.Waiting = s.shown.Load().waiting()
	}
	return j.Job, nil
}

func (m *Manager) noSuchJob(id string) error {
	return &ipc.Error{Code: ipc.NoSuchJob, Message: fmt.Sprintf("there is no job %s: it ended long ago, or belongs to another supervisord", id)}
}

func (m *Manager) service(name string) *service {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.services[name]
}

// jobIn is the first of those who share a job in progress.
func (m *Manager) jobIn(j unit.Job) *ipc.Job {
	if x, ok := m.jobs.get(j.ID); ok {
		return &x.Job
	}
	return nil
}

// JobEvents yields what happens in the course of a job.
func (m *Manager) JobEvents(ctx context.Context, id string, since uint64, drained bool) (iter.Seq[ipc.Event], error) {
	j, _, ok := m.jobs.find(id)
	if !ok {
		return nil, m.noSuchJob(id)
	}
	s := m.service(j.Unit)
	return func(yield func(ipc.Event) bool) {
		ended := false
		for e := range m.journal.follow(ctx, max(since, j.began), j.Unit, m.quit) {
			mine := slices.Contains(e.Jobs, id)
			if e.Type != "event" || mine || ended && e.Unit == j.Unit {
				if !yield(e) {
					return
				}
			}
			if e.Type == "lost" && !ended {
				if now, _, ok := m.jobs.find(id); ok && now.Ended != nil { // its end is among what was lost
					ended = true
					if !yield(now.finished()) {
						return
					}
				}
			}
			ended = ended || mine && e.Kind == unit.Finished
			if ended && (!drained || s == nil || !s.shown.Load().draining()) {
				return
			}
		}
	}, nil
}

// draining: some process is on its way out.
func (v *view) draining() bool {
	return slices.ContainsFunc(v.state.Inst, func(in unit.Instance) bool {
		return slices.ContainsFunc(in.Old, func(p unit.Proc) bool { return p.Phase != unit.Stuck })
	})
}

// Events yields all that happens.
func (m *Manager) Events(ctx context.Context, since uint64) iter.Seq[ipc.Event] {
	if since == 0 {
		since = m.journal.end()
	}
	return m.journal.follow(ctx, since, "", m.quit)
}

// Kill sends a signal to processes of a service.
func (m *Manager) Kill(r ipc.KillRequest, by ipc.Caller) error {
	s, _, err := m.target("kill", r.Unit)
	if err != nil {
		return err
	}
	v := s.shown.Load()
	if !v.has(r.Whom) {
		return &ipc.Error{Code: ipc.NotActive, Message: fmt.Sprintf("cannot kill %s: %s", r.Unit, v.absent(r.Whom))}
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Str("whom", string(r.Whom)).Msg("asked to send " + SignalName(r.Signal))
	if !s.tell(unit.Kills{Signal: syscall.Signal(r.Signal), Whom: r.Whom}) {
		return m.isEnding("kill", r.Unit)
	}
	return nil
}

// has: there is a process of that role.
func (v *view) has(whom unit.Whom) bool {
	for _, in := range v.state.Inst {
		switch {
		case whom == unit.KillMain && in.Main.ID != 0, whom == unit.KillNext && in.Next.ID != 0, whom == unit.KillOld && len(in.Old) > 0:
			return true
		case whom == unit.KillAll && (in.Main.ID != 0 || in.Next.ID != 0 || len(in.Old) > 0):
			return true
		}
	}
	return false
}

func (v *view) absent(whom unit.Whom) string {
	if whom == unit.KillAll {
		return "it has no process"
	}
	return fmt.Sprintf("it has no %s process", whom)
}

// ResetFailed forgets the failures of a service.
func (m *Manager) ResetFailed(r ipc.UnitRequest, by ipc.Caller) error {
	s, _, err := m.target("reset", r.Unit)
	if err != nil {
		return err
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Msg("asked to forget its failures")
	if !s.tell(unit.Clears{}) {
		return m.isEnding("reset", r.Unit)
	}
	return nil
}

// Logs yields what services have written.
func (m *Manager) Logs(ctx context.Context, r ipc.LogRequest) (iter.Seq[ipc.LogLine], error) {
	names := r.Units
	if len(names) == 0 {
		m.mu.Lock()
		for _, s := range m.list() {
			names = append(names, s.name)
		}
		m.mu.Unlock()
	}
	var sources []source
	for _, name := range names {
		s := m.service(name)
		if s == nil {
			return nil, m.noSuchUnit("show the logs of", name)
		}
		q := logs.Query{N: r.N, Follow: r.Follow, Generation: unit.Generation(r.Generation)}
		if r.Invocation != "" {
			id, ok := s.shown.Load().invocation(r.Invocation)
			if !ok {
				return nil, &ipc.Error{Code: ipc.Usage, Message: fmt.Sprintf("cannot show the logs of %s: it has no invocation %s", name, r.Invocation)}
			}
			q.Invocation = id
		}
		spec := m.logSpec(s)
		sources = append(sources, source{name, m.sink(spec), q})
	}
	return merge(ctx, sources, r.N), nil
}

// invocation finds a process by its $INVOCATION_ID.
func (v *view) invocation(id string) (unit.Invocation, bool) {
	for n, r := range v.runs {
		if r.trace.InvocationID == id {
			return n, true
		}
	}
	return 0, false
}

// logSpec is how a service's output is kept: as its processes were started, or
// as the files say.
func (m *Manager) logSpec(s *service) *unit.Spec {
	v := s.shown.Load()
	if b := v.state.Build(v.state.Current); b != nil {
		return b.Spec
	}
	if spec := m.specOf(s.name); spec != nil {
		return spec
	}
	return &unit.Spec{Name: s.name}
}
