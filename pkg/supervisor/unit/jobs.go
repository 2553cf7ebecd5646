package unit

import "slices"

// What becomes of a request, by what is in progress. A request never waits
// behind one that it makes pointless, and every id gets a result once.
var merge = [...][7]move{
	//        none    start    stop     restart  reload  scale   end
	Start:   {begin, join, replace, join, outlast, absorb, refuse},
	Stop:    {begin, replace, join, replace, replace, replace, refuse},
	Restart: {begin, absorb, replace, absorb, replace, absorb, refuse},
	Reload:  {begin, queue, refuse, queue, queue, queue, refuse},
	Scale:   {begin, join, refuse, join, join, join, refuse},
	End:     {begin, replace, absorb, replace, replace, replace, join},
}

type move uint8

const (
	begin   move = iota // now
	join                // share the result of what is in progress
	outlast             // the same, but done only when all instances are up
	absorb              // now; what is in progress shares the result
	replace             // now; what is in progress and queued is canceled
	queue               // after it, merged with the reload that already waits
	refuse
)

// superseded says by what a job was canceled.
var superseded = map[Verb]Reason{Start: WhyStart, Stop: WhyStop, Restart: WhyRestart, End: WhyEnding}

func (t *turn) ask(e Asks) {
	j := e.Job
	if why := t.forbids(j.Verb, e.Build); why != "" {
		t.end(j, Refused, why)
		return
	}
	if j.Verb == Scale {
		t.Size, t.Scaled = max(1, e.Size), t.LastGen
		t.fit()
	}
	if j.Verb == Start && t.active() || j.Verb == Scale && (t.Want != Up || t.up()) {
		t.end(j, Done, "") // also in the middle of a reload, whose result says nothing of it
		return
	}
	switch merge[j.Verb][t.Job.Verb] {
	case begin:
		t.begin(j, e.Build)
	case join:
		t.Job.join(j)
	case outlast:
		t.Job.Starts = append(t.Job.Starts, j.ID)
	case absorb:
		j.join(t.Job)
		t.begin(j, e.Build)
		t.outdate()
	case replace:
		t.cancel(superseded[j.Verb])
		t.begin(j, e.Build)
	case queue:
		t.enqueue(j, e.Build)
	case refuse:
		t.end(j, Refused, WhyDown)
	}
}

func (t *turn) begin(j Job, b *Build) {
	t.Job = j
	switch j.Verb {
	case Start:
		t.start(b)
	case Stop:
		t.stop()
	case Restart:
		t.stop()
		t.start(b)
	case Reload:
		t.reload(b)
	case End:
		t.depart()
	}
}

// outdate cancels the reload that waits, if the job that has begun brings what
// is newer.
func (t *turn) outdate() {
	if t.Job.Gen > t.Queue.Gen {
		t.end(t.Queue, Canceled, superseded[t.Job.Verb])
		t.Queue = Job{}
	}
}

// enqueue keeps the newest build only: all who wait get the result of that.
func (t *turn) enqueue(j Job, b *Build) {
	if t.Queue.ID == 0 {
		j.Gen = t.mint(b)
		t.Queue = j
		return
	}
	*t.Build(t.Queue.Gen) = Build{Gen: t.Queue.Gen, Spec: b.Spec, Release: b.Release}
	t.Queue.join(j)
}

// dequeue begins what waits, and says whether it did.
func (t *turn) dequeue() bool {
	j := t.Queue
	if t.Job.ID != 0 || j.ID == 0 {
		return false
	}
	t.Queue = Job{}
	t.begin(j, nil)
	return true
}

func (t *turn) cancel(why Reason) {
	t.finish(Canceled, why)
	t.end(t.Queue, Canceled, why)
	t.Queue = Job{}
	t.Target, t.Roll = 0, Forward
}

// judge ends the job in progress if its outcome is known, and says whether it
// did. A job that waits for processes fails when one that waits to be started
// has its place held by the Stuck.
func (t *turn) judge() bool {
	switch {
	case t.Job.ID == 0:
		return false
	case t.Job.Verb.leaves():
		return t.judgeStop()
	case t.Target != 0:
		return t.judgeRoll()
	case t.Job.Verb == Scale:
		return t.judgeScale()
	case t.up():
		return t.finish(Done, "")
	case t.held():
		return t.finish(Failed, WhyStuck)
	}
	return false
}

// fail: what the job in progress waits for did not happen, by the doing of p.
func (t *turn) fail(p Proc, why Reason) {
	switch {
	case t.Target != 0:
		t.back(p, why)
	case !t.Job.Verb.leaves():
		t.Job.Who = p
		t.finish(Failed, why)
	}
}

func (t *turn) finish(r JobResult, why Reason) bool {
	j := t.Job
	t.Job = Job{}
	return t.end(j, r, why)
}

func (t *turn) end(j Job, r JobResult, why Reason) bool {
	if j.ID != 0 {
		t.do(Finish{j.IDs(), r, why, j.Who})
	}
	return j.ID != 0
}

func (j *Job) join(k Job) { j.Also = append(j.Also, k.IDs()...) }

// IDs returns the ids of all jobs that share j's result. The zero Job has none.
func (j Job) IDs() []JobID {
	if j.ID == 0 {
		return nil
	}
	return slices.Concat([]JobID{j.ID}, j.Also, j.Starts)
}
