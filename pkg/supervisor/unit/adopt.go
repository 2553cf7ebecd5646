package unit

import "slices"

// A manager that comes back goes on in the state that its predecessor stored. Not all
// that was ordered may have been done, so it is ordered again: sockets, shares, starts
// and signals. All of that is the same when it is done twice.
//
// If a keeper had the processes, nothing was lost. The state stands, with all its
// deadlines: what was said and what ended meanwhile follows as news that came late, and
// what fell due is asked after that. So Found must be followed by all of it before the
// first Elapsed. Only a watchdog cannot know who pinged in time, and waits once more.
//
// If nobody had them, READY may have been said while nobody listened, and is never said
// again. So whoever was coming up starts over.

func (t *turn) adopt(e Found) {
	t.still = !e.Lost
	for i := range t.Inst {
		if e.Lost {
			t.anew(&t.Inst[i])
		} else {
			t.goOn(i)
		}
	}
	t.bury(e)
	for i := range t.Inst {
		for k := range t.Inst[i].Old {
			t.repeat(&t.Inst[i].Old[k])
		}
	}
}

// goOn orders again the starts that may not have been begun.
func (t *turn) goOn(i int) {
	in := &t.Inst[i]
	for _, p := range []*Proc{&in.Next, &in.Main} {
		if p.ID != 0 && p.Phase == Spawning {
			t.do(Spawn{i, p.ID, p.Gen, p.Fresh})
		}
		if p.Ping != 0 {
			p.Ping = max(p.Ping, t.in(t.life(p.Gen).Watchdog))
		}
	}
}

// bury tells that those are gone of whom nothing is left. One who was yet to be started
// may still be.
func (t *turn) bury(e Found) {
	for _, p := range slices.Collect(t.Procs()) {
		if slices.Contains(e.Alive, p.ID) || p.Phase == Spawning && !e.Lost {
			continue
		}
		t.still = false
		t.tell(p.ID, Gone{p.ID})
	}
	t.effects = slices.DeleteFunc(t.effects, func(f Effect) bool { // one end may make others leave, that have ended as well
		sig, ok := f.(Signal)
		return ok && t.Find(sig.ID).ID == 0
	})
}

// anew: death in start may be the doing of supervisord's own. So the rollout starts
// another Next, and fill another Main: neither is a failure. The place to ask Main's
// probe is here.
func (t *turn) anew(in *Instance) {
	for _, p := range []*Proc{&in.Next, &in.Main} {
		switch {
		case p.ID == 0:
		case p.Phase == Baking:
			t.enter(p, Baking, t.life(p.Gen).Bake)
		case p.Phase < Baking:
			t.shelve(in, p)
		}
		t.ping(p)
	}
}

func (t *turn) shelve(in *Instance, p *Proc) {
	if p == &in.Main {
		in.Due = t.now
	}
	t.onward(p)
	in.Old = append(in.Old, *p)
	*p = Proc{}
}
