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
		t.nextSaid(in, e.Notice)
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
	p, renewed := in.Next, in.renews()
	in.Next = t.forget(p)
	if renewed {
		t.renewAgain(in, p)
	} else {
		t.fail(p, why)
	}
}

// failNext: Next has to go.
func (t *turn) failNext(in *Instance, why Reason) {
	if in.renews() {
		t.failRenewal(in, why)
	} else {
		t.fail(in.Next, why)
	}
}

func (t *turn) nextSaid(in *Instance, n Notice) {
	p := &in.Next
	switch {
	case n.Stopping:
		t.failNext(in, WhyStopping)
		return
	case n.Trigger && p.Phase == Baking:
		t.failNext(in, WhyWatchdog)
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
	t.failNext(in, in.Next.why())
}

func (t *turn) nextElapsed(in *Instance) {
	switch p := in.Next; {
	case p.bitten(t.now):
		t.failNext(in, WhyWatchdog)
	case p.Phase == Baking:
		t.change(in)
	default:
		t.failNext(in, WhyTimeout)
	}
}

// change is the switch: Next is Main, and what was Main may go.
func (t *turn) change(in *Instance) {
	t.baked(&in.Next)
	t.retire(in, in.Main)
	renewed := in.renews()
	in.Main, in.Next, in.Due = in.Next, Proc{}, 0
	if !renewed { // else what has failed so far still counts
		t.settle(in, in.Main.Gen)
	}
}

// settle: in runs g, and whatever happened before is history.
func (t *turn) settle(in *Instance, g Generation) {
	in.Gen, in.Due, in.Done = g, 0, false
	in.Crashes, in.Again, in.Window, in.Starts = 0, 0, 0, 0
	in.Result, in.Exit = Success, Exit{}
}
