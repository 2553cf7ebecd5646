package unit

import "slices"

// adopt: supervisord is back, and these invocations still have processes. What
// was ordered may not have been done, so signals are sent again. What was said
// may not have been heard, so who was coming up starts over.
func (t *turn) adopt(alive []Invocation) {
	for i := range t.Inst {
		t.anew(&t.Inst[i])
	}
	for _, p := range slices.Collect(t.Procs()) {
		if !slices.Contains(alive, p.ID) {
			t.tell(p.ID, Gone{p.ID})
		}
	}
	t.effects = slices.DeleteFunc(t.effects, func(f Effect) bool { // one end may make others leave, that have ended as well
		sig, ok := f.(Signal)
		return ok && t.Find(sig.ID).ID == 0
	})
	for i := range t.Inst {
		for k := range t.Inst[i].Old {
			t.repeat(&t.Inst[i].Old[k])
		}
	}
}

// anew: READY said while nobody listens is never said again, and death in start
// may be the doing of supervisord's own. So the rollout starts another Next, and
// fill another Main: neither is a failure. The place to ask Main's probe is here.
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
