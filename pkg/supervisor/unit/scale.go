package unit

import "slices"

// How many instances there are is the operator's last word on it: scale, or a
// configuration that says another number than the one before. Scale starts nothing in
// what is down; the number is for the next start.

// current makes g what the service runs. The first build says no other number than
// one before, so what scale has said stands.
func (t *turn) current(g Generation) {
	was, is := t.life(t.Current).Instances, t.life(g).Instances
	if changed := t.Current != 0 && is != was && g > t.Scaled; is > 0 && (changed || t.Size == 0) {
		t.Size = is
	}
	t.Current = g
	for i := range t.Inst {
		if in := &t.Inst[i]; in.Surplus {
			in.Gen = g
		}
	}
}

// fit makes the instances as many as there are to be. New ones start by
// themselves, if the others do; those beyond leave like what a reload has replaced, and
// are forgotten when their processes are gone.
func (t *turn) fit() {
	if t.Size == 0 {
		return // nobody has said
	}
	for i := range t.Inst {
		in := &t.Inst[i]
		switch {
		case i >= t.Size && !in.Surplus:
			t.withdraw(in)
		case i < t.Size && in.Surplus:
			*in = t.vacant(in.Old)
		}
	}
	for len(t.Inst) < t.Size {
		t.Inst = append(t.Inst, t.vacant(nil))
	}
	for n := len(t.Inst); n > t.Size && len(t.Inst[n-1].Old) == 0; n-- {
		t.Inst = t.Inst[:n-1]
	}
}

// vacant is an instance that has yet to start.
func (t *turn) vacant(old []Proc) Instance {
	in := Instance{Gen: t.Current, Old: old}
	if !t.Dormant() {
		in.Due = t.now
	}
	return in
}

// Dormant reports whether the service is down until an operator starts it: it is
// stopped, has failed, or has come to its end. While a rollout tries a new build, that
// build alone may bring it up again, in all instances.
func (s Service) Dormant() bool {
	switch {
	case s.Want != Up:
		return true
	case s.Job.ID != 0 && s.Target == 0: // it brings up what it adds
		return false
	}
	return !slices.ContainsFunc(s.Inst, func(in Instance) bool {
		return !in.Surplus && (in.Main.ID != 0 || in.Due != 0 || in.Done && s.life(in.Gen).RemainAfterExit)
	})
}

func (t *turn) withdraw(in *Instance) {
	if in.Main.ID != 0 {
		t.retire(in, in.Main)
	}
	t.leave(in, in.Next)
	*in = Instance{Gen: t.Current, Old: in.Old, Surplus: true}
}

// judgeScale: what is to come up does. What has failed before, is not started again
// or leaves of its own accord is as it was.
func (t *turn) judgeScale() bool {
	for _, in := range t.Inst {
		switch {
		case in.Surplus:
		case in.Due != 0 && t.stuck(in, in.Gen):
			return t.conclude(Failed, WhyStuck)
		case in.Due != 0, in.Main.ID != 0 && !in.Main.Stopping && !t.serves(in.Main):
			return false
		}
	}
	return t.conclude(Done, "")
}
