package unit

// start wants a Main in every instance, now, whatever crashes there were. From
// nothing it runs what the configuration and the disk have now, as a new
// generation; beside what still serves, only what that runs.
func (t *turn) start(b *Build) {
	t.Want = Up
	t.hasten()
	if t.Current == 0 || !t.serving() {
		t.current(t.mint(b))
	}
	t.Job.Gen = t.Current
	t.rouse()
}

// rouse has a Main started wherever there is none.
func (t *turn) rouse() {
	for i := range t.Inst {
		in := &t.Inst[i]
		if in.Surplus {
			continue
		}
		in.Crashes, in.Again, in.Window, in.Starts = 0, 0, 0, 0
		if in.Main.ID == 0 {
			in.Due, in.Gen, in.Done = t.now, t.Current, false
		}
	}
}

// hasten tells each Main to go that leaves of its own accord. Who was to replace
// one is there already.
func (t *turn) hasten() {
	for i := range t.Inst {
		if in := &t.Inst[i]; in.Main.Stopping && !in.Surplus {
			t.leave(in, in.Main)
			in.Main = Proc{}
		}
	}
	t.inherit()
}

// serving: some instance has a Main that means to stay.
func (s Service) serving() bool {
	for _, in := range s.Inst {
		if in.Main.ID != 0 && !in.Main.Stopping {
			return true
		}
	}
	return false
}

// stop makes everything leave, from whatever state.
func (t *turn) stop() {
	t.Want = Down
	for i := range t.Inst {
		in := &t.Inst[i]
		for k := range in.Old {
			if in.Old[k].Phase.Settles() {
				t.press(&in.Old[k])
			}
		}
		t.leave(in, in.Main)
		t.leave(in, in.Next)
		in.Main, in.Next, in.Due, in.Done, in.Owed = Proc{}, Proc{}, 0, false, false
		in.Result, in.Exit = Success, Exit{}
	}
}

// judgeStop: down is when nothing is left but what cannot be removed.
func (t *turn) judgeStop() bool {
	var stuck Proc
	for p := range t.Procs() {
		if p.Phase != Stuck {
			return false
		}
		stuck = p
	}
	if t.Job.Who = stuck; stuck.ID != 0 {
		return t.finish(Failed, WhyStuck)
	}
	return t.finish(Done, "")
}
