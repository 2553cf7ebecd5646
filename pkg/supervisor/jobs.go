package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// keptJobs is how many ended jobs can still be asked about.
const keptJobs = 16384

// jobs is the list of jobs asked for: those in progress and the last that ended.
type jobs struct {
	epoch string

	mu   sync.Mutex
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
	ended chan struct{} // closed when it has its result

	before []ipc.SocketAccount // when it began
}

func newJobs(epoch string) *jobs { return &jobs{epoch: epoch, byID: map[unit.JobID]*job{}} }

// add makes a job that is to be given to the unit's actor. by is the uid of who
// asked for it; nil: nobody has.
func (j *jobs) add(name string, verb unit.Verb, by *uint32, after uint64) unit.JobID {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	j.byID[j.last] = &job{
		Job:   ipc.Job{ID: j.name(j.last), Unit: name, Verb: verb.String(), State: ipc.JobRunning, Asked: time.Now()},
		verb:  verb,
		by:    by,
		began: after,
		ended: make(chan struct{}),
	}
	return j.last
}

// name is the id under which the world knows a job. A number of another
// supervisord is no job of this one.
func (j *jobs) name(id unit.JobID) string { return fmt.Sprintf("%s-%d", j.epoch, id) }

func (j *jobs) names(ids []unit.JobID) (names []string) {
	slices.SortFunc(ids, func(a, b unit.JobID) int { return cmp.Compare(a, b) })
	for _, id := range slices.Compact(ids) {
		names = append(names, j.name(id))
	}
	return names
}

// get returns a copy of a job.
func (j *jobs) get(id unit.JobID) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.byID[id]
	if e == nil {
		return job{}, false
	}
	return *e, true
}

func (j *jobs) find(name string) (job, unit.JobID, bool) {
	number, ok := strings.CutPrefix(name, j.epoch+"-")
	id, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return job{}, 0, false
	}
	e, ok := j.get(unit.JobID(id))
	return e, unit.JobID(id), ok
}

// update changes what is known of a job.
func (j *jobs) update(id unit.JobID, f func(*job)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.byID[id]; e != nil {
		f(e)
	}
}

var jobStates = map[unit.JobResult]ipc.JobState{
	unit.Done: ipc.JobDone, unit.Failed: ipc.JobFailed, unit.Canceled: ipc.JobCanceled, unit.Refused: ipc.JobRefused,
}

// end gives a job its result, and returns it, unless it had one. Of jobs that
// ended, only the last are kept.
func (j *jobs) end(id unit.JobID, r unit.JobResult, why *ipc.Error) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.byID[id]
	if e == nil || e.Ended != nil {
		return job{}, false
	}
	at := time.Now()
	e.State, e.Ended, e.Error = jobStates[r], &at, why
	close(e.ended)
	if j.old = append(j.old, id); len(j.old) > keptJobs {
		delete(j.byID, j.old[0])
		j.old = j.old[1:]
	}
	return *e, true
}

// finished is the event of a job's end, for who has missed it.
func (j job) finished() ipc.Event {
	return ipc.Event{
		Type: "event", Time: j.Ended, Unit: j.Unit, Jobs: []string{j.ID}, Kind: unit.Finished,
		Text: j.Verb + ": " + string(j.State), Generation: j.Generation, State: j.State, Error: j.Error,
	}
}
