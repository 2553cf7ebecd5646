package unit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Here a job has in its id which verb it is and when it was asked, and a build has
// in its release when it was asked for. So every answer can be judged by itself:
// also those of who joined, or was absorbed.

const latest = 1 << 20 // later than all that waits in the walk

func asks(at int, v Verb, spec *Spec, size int) Asks {
	return Asks{Job{ID: idOf(at, v), Verb: v}, &Build{Spec: spec, Release: strconv.Itoa(at)}, size}
}

func idOf(asked int, v Verb) JobID { return JobID(asked)<<16 | JobID(v) }

func (id JobID) verb() Verb             { return Verb(id & 15) }
func (id JobID) asked() int             { return int(id >> 16) }
func (id JobID) number(n int) JobID     { return id | JobID(n)<<4 }
func (id JobID) brings() bool           { return id.verb() == Restart || id.verb() == Reload }
func (id JobID) outdates(b *Build) bool { return id.brings() && b.asked() < id.asked() }

func (b *Build) asked() int {
	n, _ := strconv.Atoi(b.Release)
	return n
}

// answersAreTrue: done is what was asked for, with a build that is no older.
func answersAreTrue(s Service, e Event, to Service, effects []Effect) string {
	for _, f := range effects {
		f, ok := f.(Finish)
		if !ok {
			continue
		}
		if f.Result == Failed && slices.ContainsFunc(effects, f.blamesAnother) {
			return fmt.Sprintf("who shares a failure is told of the same process: job %d %s", f.Jobs, f.Why)
		}
		for _, id := range f.Jobs {
			if why := untrue(s, e, to, id, f.Result); why != "" {
				return fmt.Sprintf("%s: %s of job %d", why, id.verb(), id)
			}
		}
	}
	return ""
}

func (f Finish) blamesAnother(e Effect) bool {
	g, ok := e.(Finish)
	return ok && g.Result == f.Result && g.Why == f.Why && g.Proc != f.Proc
}

func untrue(s Service, e Event, to Service, id JobID, r JobResult) string {
	switch v := id.verb(); {
	case r == Failed && v == Reload:
		return notKept(s, to)
	case r != Done:
		return ""
	case v.leaves():
		return stopped(to)
	case v == Scale:
		return scaled(s, e, to)
	case to.Target != 0 && v != Reload: // what waited has begun, or what is up goes on being replaced
		return ""
	case v == Reload:
		return reloaded(s, to, id)
	case to.Want != Up || !to.up() && !to.active():
		return "up is up"
	}
	return newEnough(to, id)
}

// notKept: a rollout that failed leaves nothing of itself, if there was anything
// better.
func notKept(s, to Service) string {
	if s.Current != 0 && s.Build(s.Current).Baked && to.Current != s.Current && to.Current != s.Target {
		return "what failed is not kept"
	}
	return ""
}

func stopped(to Service) string {
	if to.lives() {
		return "stopped is stopped"
	}
	return ""
}

func scaled(s Service, e Event, to Service) string {
	for i, in := range to.Inst {
		if a, ok := e.(Asks); ok && a.Job.Verb == Scale && in.Surplus != (i >= a.Size) {
			return "scaled is scaled"
		}
	}
	if to.Want == Up && to.Target == 0 {
		return grown(s, to)
	}
	return ""
}

// reloaded: all that was there runs the new build, and the instances that the build
// adds are up.
func reloaded(s, to Service, id JobID) string {
	if to.Current != cmp.Or(s.Target, s.Current) || !to.Build(to.Current).Baked || id.outdates(to.Build(to.Current)) {
		return "reloaded is reloaded, and baked"
	}
	if why := grown(s, to); to.Target == 0 && why != "" {
		return why
	}
	for i, in := range s.Inst {
		if in.Next.ID != 0 && !in.renews() && i < to.Size && to.Target == 0 && !(to.Inst[i].Done || to.Inst[i].Main.ID == in.Next.ID && to.serves(to.Inst[i].Main)) {
			return "up is up"
		}
	}
	return newEnough(to, id)
}

// grown: nothing that is to serve is still coming up. What was up and has a dead socket
// is replaced by its like, whatever was asked.
func grown(s, to Service) string {
	for i, in := range to.Inst {
		if i < len(s.Inst) && s.Inst[i].Main.Ruined != "" {
			continue
		}
		coming := in.Due != 0 || in.Main.ID != 0 && !in.Main.Stopping && !to.serves(in.Main)
		if !in.Surplus && coming {
			return "what is asked for is there"
		}
	}
	return ""
}

func newEnough(to Service, id JobID) string {
	for _, in := range to.Inst {
		if in.Main.ID != 0 && !in.Surplus && id.outdates(to.Build(in.Main.Gen)) {
			return "what runs is no older than what was asked for"
		}
	}
	return ""
}

// canonJobs leaves of the jobs their verbs, in an order of their own, and of when
// they were asked only which builds are new enough for them. Where that is not
// looked at (aged), who has joined a job counts only as one more.
func canonJobs(s *Service, aged bool) {
	var times []int
	if aged {
		times = s.askedTimes()
	}
	n := 0
	for _, j := range []*Job{&s.Job, &s.Queue} {
		if j.ID == 0 {
			continue
		}
		if j.Why != "" {
			j.Why = WhySpawn
		}
		first := []JobID{j.ID}
		for k := range j.Also {
			if !aged {
				j.Also[k] = j.ID // who joined is one more of the same
			}
		}
		for _, ids := range [][]JobID{first, j.Also, j.Starts, j.Scales} {
			n = canonIDs(ids, times, n)
		}
		j.ID = first[0]
	}
	for i := range s.Builds {
		b := &s.Builds[i]
		b.Release = strconv.Itoa(satisfied(times, b.asked()))
	}
	s.Job.Ruins = min(s.Job.Ruins, len(s.Inst)+1)
}

func (s *Service) askedTimes() (times []int) {
	for _, j := range []Job{s.Job, s.Queue} {
		for _, id := range j.IDs() {
			if id.brings() {
				times = append(times, id.asked())
			}
		}
	}
	slices.Sort(times)
	return slices.Compact(times)
}

// satisfied is how many of times are not after t.
func satisfied(times []int, t int) int {
	n, found := slices.BinarySearch(times, t)
	if found {
		n++
	}
	return n
}

func canonIDs(ids []JobID, times []int, n int) int {
	for k, id := range ids {
		at := 0
		if id.brings() && len(times) > 0 {
			at = satisfied(times, id.asked())
		}
		ids[k] = idOf(at, id.verb())
	}
	slices.Sort(ids)
	for k := range ids {
		n++
		ids[k] = ids[k].number(n)
	}
	return n
}
