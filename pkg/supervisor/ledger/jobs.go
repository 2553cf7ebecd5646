package ledger

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// keptJobs is how many ended jobs can still be asked about.
const keptJobs = 16384

// jobs are those asked for: in progress, and the last that ended.
type jobs struct {
	last      unit.JobID
	byID      map[unit.JobID]*job
	byRequest map[string]unit.JobID
	of        map[string][]unit.JobID // by unit, as they were asked for
	done      map[string][]string     // by unit: see Did
	old       []unit.JobID            // that ended, in that order
}

func newJobs(last unit.JobID) jobs {
	return jobs{last: last, byID: map[unit.JobID]*job{}, byRequest: map[string]unit.JobID{}, of: map[string][]unit.JobID{}, done: map[string][]string{}}
}

// add makes a job one that can be asked about.
func (js *jobs) add(id unit.JobID, j *job) {
	js.byID[id] = j
	js.of[j.Unit] = append(js.of[j.Unit], id)
	if j.Request != "" {
		js.byRequest[j.Request] = id
	}
}

// drop is the inverse.
func (js *jobs) drop(id unit.JobID) {
	j := js.byID[id]
	delete(js.byID, id)
	delete(js.byRequest, j.Request)
	js.of[j.Unit] = slices.DeleteFunc(js.of[j.Unit], func(other unit.JobID) bool { return other == id })
	if len(js.of[j.Unit]) == 0 {
		delete(js.of, j.Unit)
	}
}

// retire notes that a job has ended. Of those, only the last are kept.
func (js *jobs) retire(id unit.JobID) {
	if js.old = append(js.old, id); len(js.old) > keptJobs {
		js.drop(js.old[0])
		js.old = js.old[1:]
	}
}

// A job is what its asker sees of it.
type job struct {
	ipc.Job
	Ask
	verb  unit.Verb
	began uint64        // the number of the last event before it
	ended chan struct{} // closed when its result is told

	before []ipc.SocketAccount // when it began
}

// An Ask is what somebody asks for.
type Ask struct {
	Size    int     `json:",omitempty"` // scale: how many instances
	By      *uint32 `json:",omitempty"` // uid of who asks; nil: supervisord itself
	Request string  `json:",omitempty"` // Request-Id; "": it does not matter if it is asked for twice
}

// Asked makes a job that is to be given to the unit's actor. It is stored when Asked
// returns. A request that is repeated gets the job that it got before, and asked is false:
// then that job need not be given to anybody.
func (l *Ledger) Asked(name string, verb unit.Verb, ask Ask) (id unit.JobID, ended <-chan struct{}, asked bool) {
	id, ended, asked = l.asked(name, verb, ask)
	if asked && verb != unit.End { // the signal that ends supervisord is told to the next one as well
		l.save(name)
	}
	return id, ended, asked
}

func (l *Ledger) asked(name string, verb unit.Verb, ask Ask) (unit.JobID, <-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, known := l.jobs.byRequest[ask.Request]; known {
		return id, l.jobs.byID[id].ended, false
	}
	l.jobs.last++
	j := &job{
		Job:   ipc.Job{ID: nameOf(l.jobs.last), Unit: name, Verb: verb.String(), State: ipc.JobRunning, Asked: time.Now()},
		Ask:   ask,
		verb:  verb,
		began: l.journal.last,
		ended: make(chan struct{}),
	}
	l.jobs.add(l.jobs.last, j)
	return l.jobs.last, j.ended, true
}

// Repeated returns the job that a request got before, if this is not the first time.
func (l *Ledger) Repeated(request string) (unit.JobID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id, known := l.jobs.byRequest[request]
	return id, known
}

// Same reports whether a job is what was asked for: a Request-Id is for one request.
func (l *Ledger) Same(id unit.JobID, name string, verb unit.Verb, ask Ask) bool {
	j, ok := l.get(id)
	by := func(a Ask) int64 {
		if a.By == nil {
			return -1
		}
		return int64(*a.By)
	}
	return ok && j.Unit == name && j.verb == verb && j.Size == ask.Size && by(j.Ask) == by(ask)
}

// Unasked takes back a job that no actor has taken.
func (l *Ledger) Unasked(id unit.JobID) {
	if j, ok := l.unasked(id); ok {
		l.save(j.Unit)
	}
}

func (l *Ledger) unasked(id unit.JobID) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs.byID[id]
	if j == nil || j.Job.Ended != nil {
		return job{}, false
	}
	close(j.ended)
	l.jobs.drop(id)
	return *j, true
}

// Last is the number of the last job.
func (l *Ledger) Last() unit.JobID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jobs.last
}

// nameOf is the id under which the world knows a job. It is another's never again.
func nameOf(id unit.JobID) string { return strconv.FormatUint(uint64(id), 10) }

func names(ids []unit.JobID) (names []string) {
	slices.SortFunc(ids, func(a, b unit.JobID) int { return cmp.Compare(a, b) })
	for _, id := range slices.Compact(ids) {
		names = append(names, nameOf(id))
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
	id, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
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
	l.jobs.retire(id)
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
			if e.Type != "event" || mine || ended && e.Unit == j.Unit || e.Seq <= l.begin {
				if !yield(e) {
					return
				}
			}
			if (e.Type == "lost" || e.Kind == ipc.Restarted) && !ended {
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
