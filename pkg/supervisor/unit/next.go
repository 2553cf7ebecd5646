package unit

// next: Next comes up beside Main, which serves and is not touched. So one that
// fails costs nothing that it did not accept itself.
func (t *turn) next(in *Instance, e Event) {
	p := &in.Next
	switch e := e.(type) {
	case Started:
		t.begun(p, e.PID)
	case NotStarted:
		p.Exit = e.Exit
		t.lost(in, WhySpawn)
	case Said:
		t.nextSaid(p, e.Notice)
	case Exited:
		p.Exit = e.Exit
		t.nextExited(in)
	case Gone:
		t.lost(in, p.why())
	case Elapsed:
		t.nextElapsed(in)
	}
}

// lost: nothing is left of Next.
func (t *turn) lost(in *Instance, why Reason) {
	p := in.Next
	in.Next = t.forget(p)
	t.fail(p, why)
}

func (t *turn) nextSaid(p *Proc, n Notice) {
	switch {
	case n.Stopping:
		t.fail(*p, WhyStopping)
		return
	case n.Trigger && p.Phase == Baking:
		t.fail(*p, WhyWatchdog)
		return
	case n.Ready:
		t.ready(p)
	}
	t.keep(p, n)
}

// keep is what a process that comes up or serves says to be left alone.
func (t *turn) keep(p *Proc, n Notice) {
	if n.Ping {
		t.ping(p)
	}
	t.extend(p, n.Extend)
}

func (t *turn) nextExited(in *Instance) {
	if t.accomplished(in.Next) {
		t.accomplish(in, &in.Next)
		return
	}
	t.fail(in.Next, in.Next.why())
}

func (t *turn) nextElapsed(in *Instance) {
	switch p := in.Next; {
	case p.bitten(t.now):
		t.fail(p, WhyWatchdog)
	case p.Phase == Baking:
		t.change(in)
	default:
		t.fail(p, WhyTimeout)
	}
}

// change is the switch: Next is Main, and what was Main may go.
func (t *turn) change(in *Instance) {
	t.baked(&in.Next)
	t.retire(in, in.Main)
	in.Main, in.Next = in.Next, Proc{}
	t.settle(in, in.Main.Gen)
}

// settle: in runs g, and whatever happened before is history.
func (t *turn) settle(in *Instance, g Generation) {
	in.Gen, in.Due, in.Done = g, 0, false
	in.Crashes, in.Again, in.Window, in.Starts = 0, 0, 0, 0
	in.Result, in.Exit = Success, Exit{}
}
