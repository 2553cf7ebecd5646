package unit

import "slices"

// A rollout takes the instances to Target, each through its bake: the first
// alone, then as many at once as surge lets. When one fails, those that were
// replaced go back to Current the same way. In what cannot overlap, Main leaves
// first, and Next has the place alone.

// reload begins a rollout; b is nil if the build has waited in the queue.
func (t *turn) reload(b *Build) {
	switch {
	case t.idle():
		t.finish(Refused, WhyDown)
	case slices.ContainsFunc(t.Inst, func(in Instance) bool { return !in.Surplus && len(in.Old) >= t.life(t.Current).MaxDraining }):
		t.finish(Refused, WhyDraining)
	default:
		if b != nil {
			t.Job.Gen = t.mint(b)
		}
		t.Target, t.Roll = t.Job.Gen, Forward
	}
}

// idle: there is nothing that a reload could replace, or start again.
func (s Service) idle() bool {
	return s.Want != Up || !slices.ContainsFunc(s.Inst, func(in Instance) bool {
		return !in.Surplus && (in.Main.ID != 0 || in.Due != 0 || in.Result != Success && in.Result != "" || in.Done && s.life(in.Gen).RemainAfterExit)
	})
}

// goal is where the rollout goes.
func (s Service) goal() Generation {
	if s.Roll == Back {
		return s.Current
	}
	return s.Target
}

// turns are the instances whose turn it is; none when all are there. The first
// that is to try a build tries it alone.
func (s Service) turns() (turns []int) {
	if s.Target == 0 || s.Roll == Halt {
		return nil
	}
	most, tried := max(1, s.life(s.goal()).Surge), s.Roll == Back
	for i, in := range s.Inst {
		switch {
		case in.Surplus:
		case in.Gen == s.goal():
			tried = true
		case len(turns) < most:
			turns = append(turns, i)
		}
	}
	if len(turns) > 1 && (!tried || s.alone(s.Current, s.Target)) {
		turns = turns[:1]
	}
	return turns
}

func (s Service) hasTurn(i int) bool { return slices.Contains(s.turns(), i) }

// awaits: the rollout is to replace what instance i runs, now or later.
func (s Service) awaits(i int) bool {
	in := s.Inst[i]
	return s.Target != 0 && s.Roll != Halt && !in.Surplus && in.Gen != s.goal()
}

// roll starts Next where it is due.
func (t *turn) roll() {
	for _, i := range t.turns() {
		in := &t.Inst[i]
		if in.Next.ID != 0 {
			continue
		}
		if t.alone(in.Gen, t.goal()) && in.Main.ID != 0 {
			t.leave(in, in.Main)
			in.Main, in.Due = Proc{}, t.now // if Next fails, Main is started again
		}
		if t.room(*in, t.goal()) {
			in.Next = t.spawn(i, t.goal())
		}
	}
}

// back: the rollout has failed, by the doing of p. With nothing better to go
// back to, or if going back failed, it ends where it is: what serves goes on
// serving.
func (t *turn) back(p Proc, why Reason) {
	if t.Roll == Forward {
		t.Job.Why, t.Job.Who = why, p
	}
	if t.Roll != Forward || t.Current == t.Target {
		t.Roll = Halt
	} else {
		t.Roll = Back
	}
	t.Job.Ruins = 0
	t.withdrawNexts(p, why)
}

// withdrawNexts takes all that the rollout has brought, but not what replaces its
// like in an instance that stays as it is.
func (t *turn) withdrawNexts(p Proc, why Reason) {
	for i := range t.Inst {
		in := &t.Inst[i]
		switch {
		case in.renews() && !(t.Roll == Back && in.Gen == t.Target):
			continue
		case why == WhyWatchdog && in.Next.ID == p.ID && p.ID != 0:
			t.abort(in, in.Next)
		default:
			t.leave(in, in.Next)
		}
		in.Next = Proc{}
	}
}

// judgeRoll: a rollout succeeds with the last switch. One that fails ends when
// the process that failed has left, so that its last words are known by then.
func (t *turn) judgeRoll() bool {
	turns := t.turns()
	switch {
	case slices.ContainsFunc(turns, func(i int) bool { return t.Inst[i].Next.ID == 0 && t.stuck(t.Inst[i], t.goal()) }):
		t.back(Proc{}, WhyStuck)
		return t.judgeRoll()
	case len(turns) > 0:
		return false
	case t.Roll == Forward:
		return t.arrive()
	}
	if p := t.Find(t.Job.Who.ID); p.ID != 0 && p.Phase != Stuck {
		return false
	}
	return t.conclude(Failed, t.Job.Why)
}

// arrive: all instances that there were run the new build. What the job still waits
// for are those that it adds; whether they come up or not, nothing is taken back.
func (t *turn) arrive() bool {
	t.current(t.Target)
	t.Target, t.Job.Why, t.Job.Who = 0, "", Proc{}
	t.fit()
	return t.judge()
}

// conclude ends a rollout, or the job that waited for instances. Who asked for more
// than that meanwhile has it done next.
func (t *turn) conclude(r JobResult, why Reason) bool {
	starts, scales := t.Job.Starts, t.Job.Scales
	t.Job.Starts, t.Job.Scales = nil, nil
	t.Target, t.Roll = 0, Forward
	t.finish(r, why)
	t.fit() // it may have brought another number
	switch {
	case len(starts) > 0:
		t.heir = jobOf(Start, t.Current, slices.Concat(starts, scales))
		t.rise = r != Done // else all is up that is to be, and a oneshot has run
	case len(scales) > 0:
		t.heir = jobOf(Scale, 0, scales)
	}
	return true
}

// resume begins the job that follows on one that has ended. What else the same event
// brings is about that one.
func (t *turn) resume() bool {
	if t.heir.ID == 0 {
		return false
	}
	t.Job, t.heir = t.heir, Job{}
	if t.rise {
		t.rouse()
	}
	return true
}
