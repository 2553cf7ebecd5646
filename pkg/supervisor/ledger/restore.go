package ledger

import (
	"cmp"
	"slices"
	"strconv"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Jobs outlive supervisord: whoever asked for one and has lost the connection asks again,
// and gets that job. So a job is stored before anything is done for it, and when it ends
// before that is told.

// A Record has the jobs of a unit: those in progress, and the last that ended.
type Record struct {
	Jobs []JobRecord
	Last unit.JobID // the last number that any unit's job had
	Done []string   `json:",omitempty"` // the Request-Ids of what else was done for it last
}

// A JobRecord is a job in a [Record].
type JobRecord struct {
	Job ipc.Job
	Ask
	Before []ipc.SocketAccount `json:",omitempty"` // when it began
}

// keptWithUnit is how many jobs that ended are stored with those of a unit.
const keptWithUnit = 32

// save stores the jobs of a unit as they are. Who saves the same unit waits, or an older
// record could be the last.
func (l *Ledger) save(name string) {
	if l.world.Save == nil {
		return
	}
	turn := l.turn(name)
	turn.Lock()
	defer turn.Unlock()
	l.world.Save(name, l.record(name))
}

func (l *Ledger) turn(name string) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.savers[name] == nil {
		l.savers[name] = &sync.Mutex{}
	}
	return l.savers[name]
}

func (l *Ledger) record(name string) Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ended := Record{Last: l.jobs.last, Done: slices.Clone(l.jobs.done[name])}, 0
	for _, id := range slices.Backward(l.jobs.of[name]) {
		j := l.jobs.byID[id]
		if j.Ended != nil {
			ended++
		}
		if j.Ended == nil || ended <= keptWithUnit {
			r.Jobs = append(r.Jobs, JobRecord{j.Job, j.Ask, j.before})
		}
	}
	slices.Reverse(r.Jobs)
	return r
}

// Did notes that a request was carried out that makes no job. Who sends it again is to
// have it done once.
func (l *Ledger) Did(name, request string) {
	if request == "" {
		return
	}
	l.mu.Lock()
	done := append(l.jobs.done[name], request)
	l.jobs.done[name] = done[max(0, len(done)-keptWithUnit):]
	l.mu.Unlock()
	l.save(name)
}

// HasDone reports whether a request was carried out.
func (l *Ledger) HasDone(name, request string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return request != "" && slices.Contains(l.jobs.done[name], request)
}

// An Unfinished is a job in progress that a former supervisord has taken.
type Unfinished struct {
	ID   unit.JobID
	Unit string
	Verb unit.Verb
	Ask
}

// Restore makes the ledger know the jobs of former supervisords. It returns those that
// have not ended, in the order in which they were asked for. It is called before anything
// happens.
func (l *Ledger) Restore(all map[string]Record) (todo []Unfinished) {
	var over []*job
	for name, r := range all {
		l.jobs.last, l.jobs.done[name] = max(l.jobs.last, r.Last), r.Done
		for _, k := range r.Jobs {
			if j := k.job(); j != nil {
				over = append(over, j)
			}
		}
	}
	slices.SortFunc(over, func(a, b *job) int { return cmp.Compare(idOf(a), idOf(b)) })
	for _, j := range over {
		l.jobs.add(idOf(j), j)
		l.jobs.last = max(l.jobs.last, idOf(j))
		if j.Ended == nil {
			todo = append(todo, Unfinished{idOf(j), j.Unit, j.verb, j.Ask})
		}
	}
	l.retireAll(over)
	return todo
}

// retireAll has those that ended forgotten in the order in which they did.
func (l *Ledger) retireAll(js []*job) {
	js = slices.DeleteFunc(js, func(j *job) bool { return j.Ended == nil })
	slices.SortStableFunc(js, func(a, b *job) int { return a.Ended.Compare(*b.Ended) })
	for _, j := range js {
		close(j.ended)
		l.jobs.retire(idOf(j))
	}
}

// job is nil if k makes no sense.
func (k JobRecord) job() *job {
	verb, err := ipc.ParseVerb(k.Job.Verb)
	if id, wrong := strconv.ParseUint(k.Job.ID, 10, 64); err != nil || wrong != nil || id == 0 {
		return nil
	}
	return &job{Job: k.Job, Ask: k.Ask, verb: verb, ended: make(chan struct{}), before: k.Before}
}

func idOf(j *job) unit.JobID {
	id, _ := strconv.ParseUint(j.ID, 10, 64)
	return unit.JobID(id)
}
