package unit

import (
	"slices"
	"time"
)

// A socket can die while processes hold it: one of them shut it down, or its path
// was removed. Only a process that is started now gets the living one. So what
// serves is replaced by its like: the same build, by nobody's order. What leaves
// needs no clients. A rollout that comes by anyway does it along the way.

// often is how many failures in a row are no accident.
const often = 3

// leastRenewal is what is between two replacements at least, the first apart.
const leastRenewal = time.Second

func (t *turn) broken(e Broken) {
	t.breakNexts(e)
	for i := range t.Inst {
		in := &t.Inst[i]
		if e.has(in.Main) && in.Main.Ruined == "" && !in.Main.Stopping && t.life(in.Gen).Type != Oneshot {
			in.Main.Ruined = e.Socket
			t.renewal(in, in.Main)
		}
	}
}

func (e Broken) has(p Proc) bool { return p.ID != 0 && slices.Contains(e.Procs, p.ID) }

// breakNexts: the rollout tries again with the living socket, as nobody knows
// whose doing it was. A build that ruins its socket each time is no good.
func (t *turn) breakNexts(e Broken) {
	if slices.ContainsFunc(t.Inst, func(in Instance) bool { return e.has(in.Next) && !in.renews() }) {
		t.Job.Ruins++
	}
	for i := range t.Inst {
		in := &t.Inst[i]
		if !e.has(in.Next) || t.life(in.Next.Gen).Type == Oneshot {
			continue
		}
		in.Next.Ruined = e.Socket
		if !in.renews() && t.Job.Ruins <= len(t.Inst) {
			t.leave(in, in.Next)
			in.Next = Proc{}
			continue
		}
		t.failNext(in, WhySocket)
	}
}

// renews: Next is the like of Main, not what a rollout brings.
func (in Instance) renews() bool { return in.Next.ID != 0 && in.Next.Gen == in.Gen }

// renewal counts one more failure of p and says when Main is to be replaced: at
// once, or by restart's back-off when it happens again and again.
func (t *turn) renewal(in *Instance, p Proc) {
	t.strike(in, p)
	d := t.delay(in, t.life(in.Gen))
	if in.Crashes > 1 {
		d = max(d, leastRenewal)
	}
	in.Main.Renew = t.in(d)
	if in.Crashes > often && t.Target == 0 && !t.serves(in.Main) {
		t.fail(in.Main, WhySocket)
	}
}

// failRenewal: Next is no good, and Main is all that there is.
func (t *turn) failRenewal(in *Instance, why Reason) {
	p := in.Next
	in.Next = Proc{}
	if why == WhyWatchdog {
		t.abort(in, p)
	} else {
		t.leave(in, p)
	}
	t.renewAgain(in, p)
}

func (t *turn) renewAgain(in *Instance, p Proc) {
	if in.Main.ID != 0 {
		t.renewal(in, p)
	}
}

// mayRenew: instance i's Main is to be replaced, and can be.
func (s Service) mayRenew(i int) bool {
	in := s.Inst[i]
	switch {
	case in.Main.ID == 0, in.Main.Renew == 0, in.Main.Stopping, in.Next.ID != 0:
		return false
	case s.Removed, s.Queue.ID != 0, s.awaits(i):
		return false
	case !s.life(in.Gen).Overlap:
		return !s.stuck(in, in.Gen) // else nothing would come after it
	}
	return s.room(in, in.Gen)
}

// renew replaces each Main whose time has come. What cannot overlap leaves first.
func (t *turn) renew() {
	for i := range t.Inst {
		in := &t.Inst[i]
		switch {
		case in.Main.Renew == 0 || in.Main.Renew > t.now || !t.mayRenew(i):
		case t.life(in.Gen).Overlap:
			in.Next = t.spawn(i, in.Gen)
		default:
			t.leave(in, in.Main)
			in.Main, in.Due = Proc{}, t.now
		}
	}
}

// inherit: a Next of what in runs is simply its Main, when there is none.
func (t *turn) inherit() {
	for i := range t.Inst {
		if in := &t.Inst[i]; in.Main.ID == 0 && in.renews() {
			in.Main, in.Next, in.Due = in.Next, Proc{}, 0
		}
	}
}
