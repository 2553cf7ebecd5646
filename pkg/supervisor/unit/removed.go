package unit

// What the configuration no longer names runs on as it is. It is started by
// nobody any more, not even by its own crash, and forgotten when nothing is left
// of it. A job that was in progress by then may still do what it was asked for.

// named: a daemon-reload has read the files.
func (t *turn) named(is bool) {
	switch {
	case is && t.Removed:
		t.Removed = false
		t.revive()
	case !is:
		t.Removed = true
		t.end(t.Queue, Refused, WhyRemoved)
		t.Queue = Job{}
	}
}

// revive starts what has crashed meanwhile, by the rules for a crash, and what was
// due for another reason.
func (t *turn) revive() {
	for i := range t.Inst {
		in := &t.Inst[i]
		owed := in.Owed
		in.Owed = false
		if t.Want != Up || in.Surplus || in.Main.ID != 0 || in.Due != 0 || in.Done || in.Result == StartLimitHit {
			continue
		}
		if in.Result != "" {
			t.again(in)
		}
		if owed && in.Due == 0 {
			in.Due = t.now
		}
	}
}

// abide drops what would be started by nobody's word, and remembers it for the case
// that the configuration names the service again.
func (t *turn) abide() {
	for i := range t.Inst {
		if in := &t.Inst[i]; t.Removed && t.Job.ID == 0 && in.Due != 0 {
			in.Due, in.Owed = 0, true
		}
	}
}

// vanished: the configuration does not name it, and nothing is left of it.
func (s Service) vanished() bool {
	for range s.Procs() {
		return false
	}
	for _, in := range s.Inst {
		if in.Due != 0 {
			return false
		}
	}
	return s.Removed && s.Job.ID == 0
}

// vanishing is ordered once, and again by who may not know that it was.
func vanishing(before, after Service, e Event) []Effect {
	n, named := e.(Named)
	_, found := e.(Found)
	again := found || named && !n.Is
	if !after.vanished() || before.vanished() && !again {
		return nil
	}
	return []Effect{Vanish{}}
}
