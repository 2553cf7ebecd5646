package ledger

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// keptJobs is how many ended jobs can still be asked about.
const keptJobs = 16384

// jobs are those asked for: in progress, and the last that ended.
type jobs struct {
	last unit.JobID
	byID map[unit.JobID]*job
	old  []unit.JobID // that ended, in that order
}

// A job is what its asker sees of it.
type job struct {
	ipc.Job
	verb  unit.Verb
	by    *uint32       // uid of who asked; nil: supervisord itself
	began uint64        // the number of the last event before it
	ended chan struct{} // closed when its result is told

	before []ipc.SocketAccount // when it began
}

// Asked makes a job that is to be given to the unit's actor. by is the uid of who
// asked for it; nil: nobody has.
func (l *Ledger) Asked(name string, verb unit.Verb, by *uint32) (unit.JobID, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs.last++
	j := &job{
		Job:   ipc.Job{ID: l.name(l.jobs.last), Unit: name, Verb: verb.String(), State: ipc.JobRunning, Asked: time.Now()},
		verb:  verb,
		by:    by,
		began: l.journal.last,
		ended: make(chan struct{}),
	}
	l.jobs.byID[l.jobs.last] = j
	return l.jobs.last, j.ended
}

// Unasked takes back a job that no actor has taken.
func (l *Ledger) Unasked(id unit.JobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs.byID[id]; j != nil && j.Ended == nil {
		close(j.ended)
		delete(l.jobs.byID, id)
	}
}

// Last is the number of the last job.
func (l *Ledger) Last() unit.JobID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jobs.last
}

// name is the id under which the world knows a job. A number of another
// supervisord is no job of this one.
func (l *Ledger) name(id unit.JobID) string { return fmt.Sprintf("%s-%d", l.epoch, id) }

func (l *Ledger) names(ids []unit.JobID) (names []string) {
	slices.SortFunc(ids, func(a, b unit.JobID) int { return cmp.Compare(a, b) })
	for _, id := range slices.Compact(ids) {
		names = append(names, l.name(id))
	}
	return names
}

// get returns a copy of a job.
func (l *Ledger) get(id unit.JobID) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs.byID[id]; j != nil {
		return *j, true
	}
	return job{}, false
}

func (l *Ledger) find(name string) (job, bool) {
	number, ok := strings.CutPrefix(name, l.epoch+"-")
	id, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return job{}, false
	}
	return l.get(unit.JobID(id))
}

// Job returns a job as it is now, by the id that the world knows.
func (l *Ledger) Job(id string) (ipc.Job, bool) {
	j, ok := l.find(id)
	return j.Job, ok
}

// JobOf is Job by the number that the rules know.
func (l *Ledger) JobOf(id unit.JobID) (ipc.Job, bool) {
	j, ok := l.get(id)
	return j.Job, ok
}

// update changes what is known of a job.
func (l *Ledger) update(id unit.JobID, f func(*job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs.byID[id]; j != nil {
		f(j)
	}
}

var jobStates = map[unit.JobResult]ipc.JobState{
	unit.Done: ipc.JobDone, unit.Failed: ipc.JobFailed, unit.Canceled: ipc.JobCanceled, unit.Refused: ipc.JobRefused,
}

// end gives a job its result, and returns it, unless it had one. Of jobs that
// ended, only the last are kept.
func (l *Ledger) end(id unit.JobID, r unit.JobResult, why *ipc.Error, complete func(*job)) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs.byID[id]
	if j == nil || j.Ended != nil {
		return job{}, false
	}
	complete(j)
	at := time.Now()
	j.State, j.Ended, j.Error = jobStates[r], &at, why
	if l.jobs.old = append(l.jobs.old, id); len(l.jobs.old) > keptJobs {
		delete(l.jobs.byID, l.jobs.old[0])
		l.jobs.old = l.jobs.old[1:]
	}
	return *j, true
}

// complete makes the event of a job's end say what became of the job, so that who
// follows it need not ask.
func (l *Ledger) complete(e *ipc.Event, id string) {
	if j, ok := l.Job(id); ok {
		e.Job = &j
	}
}

// finished is the event of a job's end, for who has missed it.
func (j job) finished() ipc.Event {
	return ipc.Event{
		Type: "event", Time: j.Ended, Unit: j.Unit, Jobs: []string{j.ID}, Kind: unit.Finished,
		Text: j.Verb + ": " + string(j.State), Generation: j.Generation, State: j.State, Error: j.Error,
		Job: &j.Job,
	}
}

// FollowJob yields what happens in the course of a job, after the event number
// since, until it has ended; with a drained that says false then, until it says
// true. There is no such job: nil.
func (l *Ledger) FollowJob(ctx context.Context, id string, since uint64, quit <-chan struct{}, drained func() bool) iter.Seq[ipc.Event] {
	j, ok := l.find(id)
	if !ok {
		return nil
	}
	return func(yield func(ipc.Event) bool) {
		ended := false
		for e := range l.Follow(ctx, max(since, j.began), j.Unit, quit) {
			mine := slices.Contains(e.Jobs, id)
			if mine && e.Kind == unit.Finished {
				l.complete(&e, id)
			}
			if e.Type != "event" || mine || ended && e.Unit == j.Unit {
				if !yield(e) {
					return
				}
			}
			if e.Type == "lost" && !ended {
				if now, ok := l.find(id); ok && now.Ended != nil { // its end is among what was lost
					ended = true
					if !yield(now.finished()) {
						return
					}
				}
			}
			if ended = ended || mine && e.Kind == unit.Finished; ended && drained() {
				return
			}
		}
	}
}
