package unit

// main: Main comes up, serves, and is started again when it ends. What happens
// to Next or an Old is none of its business, nor the other way round.
func (t *turn) main(in *Instance, e Event) {
	p := &in.Main
	switch e := e.(type) {
	case Started:
		t.begun(p, e.PID)
	case NotStarted:
		p.Exit = e.Exit
		q := *p
		*p = t.forget(q)
		t.crash(in, q, Resources, WhySpawn)
	case Said:
		t.mainSaid(in, e.Notice)
	case Exited:
		p.Exit = e.Exit
		t.mainExited(in)
	case Gone:
		q := *p
		*p = t.forget(q)
		t.crash(in, q, Unknown, q.why())
	case Elapsed:
		t.mainElapsed(in)
	}
}

// mainSaid: one that says STOPPING leaves of its own accord. It keeps its place
// until it has, since only its end tells whether another is to follow.
func (t *turn) mainSaid(in *Instance, n Notice) {
	p := &in.Main
	switch {
	case p.Stopping:
		t.extend(p, n.Extend)
		return
	case n.Stopping:
		p.Stopping, p.Ping = true, 0
		if p.Phase == Baking {
			p.Phase = Serving // not for long; and bake it will not
		}
		t.enter(p, p.Phase, t.life(p.Gen).Stop)
		return
	case n.Trigger && p.Phase >= Baking:
		t.lose(in, WatchdogBit, WhyWatchdog)
		return
	case n.Ready:
		t.ready(p)
	}
	t.keep(p, n)
}

func (t *turn) mainExited(in *Instance) {
	p := in.Main
	if t.accomplished(p) {
		t.accomplish(in, &in.Main)
		return
	}
	t.lose(in, t.result(p), p.why())
}

func (t *turn) mainElapsed(in *Instance) {
	switch p := &in.Main; {
	case p.bitten(t.now):
		t.lose(in, WatchdogBit, WhyWatchdog)
	case p.Stopping:
		t.lose(in, Timeout, WhyLeaving)
	case p.Phase == Baking:
		t.baked(p)
	case p.Phase == Serving:
		t.lose(in, Timeout, WhyRuntime)
	default:
		t.lose(in, Timeout, WhyTimeout)
	}
}

// result: an end before it was ready is a failure, whatever its status.
func (t *turn) result(p Proc) Result {
	r := t.life(p.Gen).Judge(p.Exit)
	if r == Success && p.Phase < Baking {
		return Protocol
	}
	return r
}

// accomplished: p's program has done all that it was started for.
func (t *turn) accomplished(p Proc) bool {
	l := t.life(p.Gen)
	return l.Type == Oneshot && p.Phase == Starting && l.Judge(p.Exit) == Success
}

// accomplish: the program of in's Main or Next has done its work, which is as
// good as a bake. What it left behind leaves.
func (t *turn) accomplish(in *Instance, p *Proc) {
	q := *p
	*p = Proc{}
	t.proven(q.Gen)
	t.retire(in, in.Main)
	in.Main = Proc{}
	t.leave(in, q)
	t.settle(in, q.Gen)
	in.Done = true
}

// lose: Main is of no use any more. Whatever is left of it leaves as an Old.
func (t *turn) lose(in *Instance, r Result, why Reason) {
	p := in.Main
	in.Main = Proc{}
	if r == WatchdogBit {
		t.abort(in, p)
	} else {
		t.leave(in, p)
	}
	t.crash(in, p, r, why)
}

// crash: in has lost its Main. A replaced instance that crashes speaks against
// its build, so the rollout goes back.
func (t *turn) crash(in *Instance, p Proc, r Result, why Reason) {
	t.strike(in, p)
	in.Result, in.Exit, in.Due = r, p.Exit, 0
	t.again(in)
	if t.Target == 0 || in.Gen == t.Target && t.Roll == Forward {
		t.fail(p, why)
	}
	t.reconsider(in)
}

// strike counts one more failure in a row of in, by the doing of p. Health makes
// earlier ones forgotten.
func (t *turn) strike(in *Instance, p Proc) {
	if p.Since != 0 && t.now-p.Since >= Time(t.life(in.Gen).ResetSec) {
		in.Crashes = 0
	}
	in.Crashes++
}

// reconsider: what in runs next is Current, if its own build is being taken back
// or never baked.
func (t *turn) reconsider(in *Instance) {
	if t.Roll == Forward && (t.Target != 0 || t.Build(in.Gen).Baked) {
		return
	}
	if in.renews() && in.Gen != t.Current {
		t.leave(in, in.Next)
		in.Next = Proc{}
	}
	if t.Roll == Back && in.Gen == t.Target {
		in.Due = t.now // by the rollout, whatever the policy is: it was up before
	}
	in.Gen = t.Current
}

// fill starts a Main wherever one is due and there is room for it.
func (t *turn) fill() {
	for i := range t.Inst {
		in := &t.Inst[i]
		if in.Due != 0 && in.Due <= t.now && t.mayFill(i) {
			in.Due, in.Main = 0, t.respawn(i)
		}
	}
}

// respawn starts a Main. A file that was good once and fails again and again may
// not fit what is around it any more, as after an upgrade: then it takes turns
// with what is at the path now.
func (t *turn) respawn(i int) Proc {
	in := t.Inst[i]
	fresh := t.Build(in.Gen).Baked && in.Crashes > often && in.Crashes%2 == 0
	p := t.spawn(i, in.Gen)
	if fresh {
		p.Fresh = true
		t.effects[len(t.effects)-1] = Spawn{i, p.ID, p.Gen, true}
	}
	return p
}
