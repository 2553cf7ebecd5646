package unit

// How many instances there are is the operator's last word on it: scale, or a
// configuration that says another number than the one before.

// current makes g what the service runs.
func (t *turn) current(g Generation) {
	if was, is := t.life(t.Current).Instances, t.life(g).Instances; is != was && is > 0 && g > t.Scaled {
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
// themselves; those beyond leave like what a reload has replaced, and are
// forgotten when their processes are gone.
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
	if t.Want == Up {
		in.Due = t.now
	}
	return in
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
