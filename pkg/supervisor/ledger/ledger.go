// Package ledger keeps account of what was asked and of what happened: jobs, the
// journal of events that superctl follows, and what the history remembers.
//
// Actors write it and clients read it. One lock guards all of it, and is held for
// moments; who follows waits for a channel, so nobody polls and no writer ever
// waits for a reader.
package ledger

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// A World is what a ledger needs of everything outside. None of it waits.
type World struct {
	// Account is what the kernel counts at the sockets of a service now.
	Account func(*service.View) []ipc.SocketAccount
	// Queueing are the addresses of a service that is down whose clients wait for its
	// next start.
	Queueing func(*service.View) []string
	// Shared are the sockets of a service that are to be steered and are not yet.
	Shared func(*service.View) []string
	// Remember adds a record to the history.
	Remember func(ipc.Record)
	// Save stores the jobs of a unit, so that they outlive this supervisord. It may take as
	// long as a file in memory does. nil: nothing is stored.
	Save func(unit string, r Record)
	// Reserve stores that events may have numbers up to that one. It does not wait. nil:
	// nothing is stored.
	Reserve func(upTo uint64)
	// States are the states of a unit, or of all (""), for who has missed what happened. nil:
	// nobody has.
	States func(unit string) []ipc.Event
	// Log writes one event to supervisord's own log.
	Log func(ipc.Event, unit.Change)
}

// A Ledger is safe for use by several goroutines.
type Ledger struct {
	world World

	mu   sync.Mutex
	jobs jobs
	journal
	savers map[string]*sync.Mutex // by unit: records are stored in the order in which they are made
}

// New returns an empty ledger, whose first job has the number after last.
func New(last unit.JobID, w World) *Ledger {
	return &Ledger{world: w, jobs: newJobs(last), journal: newJournal(), savers: map[string]*sync.Mutex{}}
}

// Ended says how a job ended.
type Ended struct {
	Verb    unit.Verb
	Result  unit.JobResult
	First   bool // of those that share a result
	Sockets []ipc.SocketAccount

	told chan struct{} // to be closed when its event is in the journal
}

// Changed enters what a step of a service has changed, and returns the jobs that
// ended by it.
func (l *Ledger) Changed(cs []unit.Change, before unit.Service, v *service.View) (ended []Ended) {
	at := time.Now()
	course := names(append(before.Job.IDs(), v.State.Job.IDs()...))
	events := make([]ipc.Event, len(cs))
	for i, c := range cs {
		e := ipc.Event{
			Time: &at, Unit: v.Name, Jobs: course, Kind: c.Kind, Text: words.Change(v, c),
			Instance: c.Inst, Role: string(c.Role), PID: c.Proc.PID, Generation: uint32(c.Proc.Gen),
			From: string(c.From), To: string(c.To),
		}
		switch c.Kind {
		case unit.Queued, unit.Begun:
			l.begun(&e, c, before, v)
		case unit.Finished:
			ended = append(ended, l.finished(&e, c.Finish, v)...)
		case unit.HasExited, unit.IsGone:
			l.exited(c, before, v)
		}
		events[i] = e
		l.world.Log(e, c)
	}
	if slices.ContainsFunc(cs, func(c unit.Change) bool {
		return c.Kind == unit.Queued || c.Kind == unit.Begun || c.Kind == unit.Finished
	}) {
		l.save(v.Name)
	}
	l.add(events...)
	for _, x := range ended {
		close(x.told)
	}
	return ended
}

// begun notes what a job brings, and what ran before.
func (l *Ledger) begun(e *ipc.Event, c unit.Change, before unit.Service, v *service.View) {
	ids := c.Job.IDs()
	e.Jobs, e.Generation = names(ids), uint32(c.Job.Gen)
	e.Text = words.Begins(c.Job, before.Current, v.State.Size)
	state := ipc.JobRunning
	if c.Kind == unit.Queued {
		state, e.Text = ipc.JobQueued, fmt.Sprintf("waits for the %s in progress", before.Job.Verb)
	}
	if before.Current != 0 && c.Job.Gen != 0 && c.Job.Gen != before.Current {
		e.From = fmt.Sprint(before.Current)
	}
	counted := l.world.Account(v)
	for _, id := range ids {
		l.update(id, func(j *job) {
			if c.Kind == unit.Begun {
				j.before = counted
			}
			j.State, j.Generation, j.From = state, uint32(c.Job.Gen), uint32(before.Current)
		})
	}
}

// finished gives jobs their result, in words if it is a bad one.
func (l *Ledger) finished(e *ipc.Event, f unit.Finish, v *service.View) (all []Ended) {
	e.Jobs, e.State = names(f.Jobs), jobStates[f.Result]
	var now []ipc.SocketAccount
	for i, id := range f.Jobs {
		j, ok := l.get(id)
		if !ok {
			continue
		}
		e.Text = fmt.Sprintf("%s: %s", j.Verb, f.Result)
		var why *ipc.Error
		if f.Result != unit.Done {
			why = words.Explain(v, j.verb, f)
			e.Error = why
		}
		if compares(j) && now == nil {
			now = l.world.Account(v)
		}
		var notes, hints []string
		if f.Result == unit.Done {
			notes, hints = l.done(j.verb, v)
		}
		ended, ok := l.end(id, f.Result, why, func(j *job) {
			if compares(*j) {
				j.Sockets = since(j.before, now)
			}
			j.Notes, j.Hints = notes, hints
			if j.Generation == 0 {
				j.Generation = uint32(v.State.Current)
			}
		})
		if ok {
			l.world.Remember(ended.record())
			all = append(all, Ended{j.verb, f.Result, i == 0, ended.Sockets, ended.ended})
		}
	}
	return all
}

// done is what the asker of a job may not expect though it is done, and what to do
// about it.
func (l *Ledger) done(verb unit.Verb, v *service.View) (notes, hints []string) {
	switch verb {
	case unit.Stop:
		return waitingClients(l.world.Queueing(v)), nil
	case unit.Scale:
		return words.Scaled(v)
	case unit.Reload:
		if b := v.State.Build(v.State.Current); b != nil {
			notes, hints = words.StillShared(v, l.world.Shared(v))
			return append(words.Shared(b.Spec), notes...), hints
		}
	}
	return nil, nil
}

// compares: there is something to compare its sockets with when it ends.
func compares(j job) bool {
	return (j.verb == unit.Reload || j.verb == unit.Restart) && j.before != nil
}

// since takes what was counted before from what is counted now.
func since(before, now []ipc.SocketAccount) []ipc.SocketAccount {
	all := make([]ipc.SocketAccount, len(now))
	for i, a := range now {
		a.QueueBefore = -1
		for _, b := range before {
			if a.Unit == b.Unit && a.Address == b.Address && a.Drops >= b.Drops {
				a.QueueBefore = b.Queue
				a.Drops -= b.Drops
			}
		}
		all[i] = a
	}
	return all
}

func waitingClients(addresses []string) (notes []string) {
	for _, a := range addresses {
		notes = append(notes, "clients of "+a+" wait until the next start")
	}
	return notes
}
