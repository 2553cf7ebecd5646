package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A verb makes one job for each unit. The jobs are supervisord's: superctl only
// watches them, and whatever becomes of superctl they go on.

// waiting is how a verb is waited for.
type waiting struct {
	noBlock bool
	wait    string        // done, or drained: also for the old processes
	timeout time.Duration // 0: as long as it takes
}

// jobCommand makes the command of a verb.
func (s *session) jobCommand(v unit.Verb, c *cobra.Command) *cobra.Command {
	c.Args = someUnits
	return s.waitingCommand(c, func(_ *cobra.Command, names []string) (ipc.JobRequest, []string, error) {
		return ipc.JobRequest{Verb: v.String()}, unique(names), nil
	})
}

// waitingCommand makes a command that begins jobs and waits for them; what they
// are and for which units, request takes from its arguments.
func (s *session) waitingCommand(c *cobra.Command, request func(*cobra.Command, []string) (ipc.JobRequest, []string, error)) *cobra.Command {
	w := waiting{wait: "done"}
	c.ValidArgsFunction = s.completeUnits
	f := c.Flags()
	f.BoolVar(&w.noBlock, "no-block", false, "do not wait for the outcome: print the job's id and exit")
	f.DurationVar(&w.timeout, "timeout", 0, "stop waiting after `DURATION` and exit 7; the job continues")
	choose(c, &choice{of: []string{"done", "drained"}, is: &w.wait}, "wait", "", "wait until the job is done, or until the old processes have exited too")
	s.outputFlag(c, "text")
	c.RunE = func(c *cobra.Command, args []string) error {
		if w.noBlock && (w.wait != "done" || w.timeout != 0) {
			return misuse(c, "--no-block does not wait: it cannot be combined with --wait or --timeout")
		}
		if w.timeout < 0 {
			return misuse(c, "invalid --timeout \"%s\": it must not be negative", w.timeout)
		}
		r, names, err := request(c, args)
		if err != nil {
			return err
		}
		return s.runJobs(c.Context(), r, names, w)
	}
	return c
}

// A task is a job as superctl watches it.
type task struct {
	unit string
	job  ipc.Job
	err  error // why it could not be begun or watched to its end
	last time.Time
	over bool
}

// runJobs begins the jobs and, unless that is all, watches them to their ends.
func (s *session) runJobs(ctx context.Context, r ipc.JobRequest, names []string, w waiting) error {
	tasks := make([]*task, len(names))
	for i, name := range names {
		r.Unit = name
		j, err := s.client().Submit(ctx, r)
		if err != nil && ctx.Err() != nil {
			s.err.print("superctl: detached: it is not known whether the %s of %s has begun\n", r.Verb, name)
			s.hint("superctl status " + name)
			return s.detach(tasks[:i])
		}
		if err != nil {
			j = notBegun(r, err)
		}
		tasks[i] = &task{unit: name, job: j, err: err, last: time.Now(), over: err != nil}
	}
	if w.noBlock {
		return s.report(tasks, true)
	}
	if err := s.watch(ctx, tasks, w); err != nil {
		return err
	}
	return s.report(tasks, false)
}

// notBegun stands for a job that there is not: supervisord has refused it, or nobody
// has answered.
func notBegun(r ipc.JobRequest, err error) ipc.Job {
	j := ipc.Job{Unit: r.Unit, Verb: r.Verb}
	if asError(err).Code != ipc.Unreachable {
		j.State = ipc.JobRefused
	}
	return j
}

// A step is one thing that happened in the course of a task's job; the last has
// over set.
type step struct {
	task  *task
	event ipc.Event
	job   ipc.Job // at the end
	err   error
	over  bool
}

// watch shows the progress of all tasks until each is over, there was enough
// waiting, or the user has seen enough.
func (s *session) watch(ctx context.Context, tasks []*task, w waiting) error {
	wctx, cancel := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	steps := make(chan step)
	for _, t := range tasks {
		if id := t.job.ID; !t.over {
			followers.Go(func() { s.follow(wctx, id, w, func(st step) { st.task = t; deliver(wctx, steps, st) }) })
		}
	}
	p := newProgress(s, tasks)
	defer p.clear()
	tick := time.NewTicker(s.pace)
	defer tick.Stop()
	enough := after(w.timeout)
	for goingOn(tasks) {
		select {
		case st := <-steps:
			st.task.take(st)
			if !st.over {
				p.step(st.task, st.event)
			} else {
				p.clear()
				s.tellAccount(p, st.task)
			}
		case <-tick.C:
			p.wait(s.reasons(wctx, tasks, s.patience))
		case <-enough:
			p.clear()
			s.giveUp(wctx, tasks, w)
			return nil
		case <-ctx.Done():
			p.clear()
			return s.detach(tasks)
		}
	}
	return nil
}

// after is a channel that never says anything for no duration.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

func goingOn(tasks []*task) bool {
	return slices.ContainsFunc(tasks, func(t *task) bool { return !t.over })
}

func (t *task) take(st step) {
	t.last = time.Now()
	if st.over {
		t.over, t.err = true, st.err
	}
	if st.over && st.err == nil {
		t.job = st.job
	}
}

func deliver(ctx context.Context, steps chan<- step, st step) {
	select {
	case steps <- st:
	case <-ctx.Done():
	}
}

// follow tells what happens in the course of a job, then what became of it.
func (s *session) follow(ctx context.Context, id string, w waiting, tell func(step)) {
	var told *ipc.Job
	for e, err := range s.client().JobEvents(ctx, id, w.wait == "drained") {
		switch {
		case err != nil && (told == nil || w.wait == "drained"):
			tell(step{err: err, over: true})
			return
		case err != nil: // supervisord ends, and has said what became of the job
			tell(step{job: *told, over: true})
			return
		case e.Job != nil:
			told = e.Job
		}
		tell(step{event: e})
	}
	if told != nil {
		tell(step{job: *told, over: true})
		return
	}
	j, err := s.client().Job(ctx, id)
	tell(step{job: j, err: err, over: true})
}

// answerTime is how long a question may take that is only asked to say more.
const answerTime = 5 * time.Second

// reasons is what those tasks wait for in which nothing has happened for a while.
func (s *session) reasons(ctx context.Context, tasks []*task, while time.Duration) map[*task][]string {
	silent := map[string]*task{}
	for _, t := range tasks {
		if !t.over && time.Since(t.last) >= while {
			silent[t.unit] = t
		}
	}
	if len(silent) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	st, err := s.client().Status(ctx, slices.Collect(maps.Keys(silent))...)
	if err != nil {
		return nil // the stream will tell
	}
	why := map[*task][]string{}
	for _, u := range st.Services {
		if t := silent[u.Name]; t != nil {
			why[t] = u.Waiting
		}
	}
	return why
}

// giveUp ends the watching, not the jobs.
func (s *session) giveUp(ctx context.Context, tasks []*task, w waiting) {
	why := s.reasons(ctx, tasks, 0)
	for _, t := range tasks {
		if !t.over {
			t.err = &ipc.Error{
				Code:    ipc.TimedOut,
				Message: fmt.Sprintf("%s of %s is not done after %s; it continues as job %s", t.job.Verb, t.unit, w.timeout, t.job.ID),
				Notes:   why[t],
				Hints:   []string{"superctl status " + t.unit},
			}
		}
	}
}

// detach: Ctrl-C ends the watching, not the jobs.
func (s *session) detach(tasks []*task) error {
	for _, t := range tasks {
		if !t.over {
			s.err.print("superctl: detached: the %s of %s continues as job %s\n", t.job.Verb, t.unit, t.job.ID)
			s.hint("superctl status " + t.unit)
		}
	}
	return exitStatus(exitDetached)
}

// report says what became of the jobs, and is the exit status.
func (s *session) report(tasks []*task, begun bool) error {
	status := exitOK
	for _, t := range tasks {
		if t.job.Error = t.failure(begun); t.job.Error != nil {
			status = worst(status, s.complain(t.job.Error))
		}
		switch {
		case s.json:
			if err := s.out.jsonLine(t.job); err != nil {
				return err
			}
		case begun && t.err == nil:
			s.out.print("%s\n", t.job.ID)
		}
	}
	if status != exitOK {
		return exitStatus(status)
	}
	return nil
}

// failure is why a job is not done, if it should be.
func (t *task) failure(begun bool) *ipc.Error {
	switch {
	case t.err != nil:
		return asError(t.err)
	case begun || t.job.Error != nil || t.job.State == ipc.JobDone:
		return t.job.Error
	}
	return &ipc.Error{Code: ipc.Failed, Message: fmt.Sprintf("cannot %s %s: job %s is %s", t.job.Verb, t.unit, t.job.ID, t.job.State)}
}
