package unit

import "testing"

// To say how many there are to be is not to start them: what is down stays down, and has
// that many with its next start.
func TestScaleOfWhatIsDownIsForTheNextStart(t *testing.T) {
	exits := func(e Exit) func(*story) {
		return func(st *story) { st.step(Exited{1, e}, Gone{1}) }
	}
	for name, c := range map[string]struct {
		restart  Policy
		downfall func(*story)
		reload   JobResult // what becomes of one
	}{
		"never started":       {Always, nil, Refused},
		"stopped":             {Always, func(st *story) { st.step(asks(2, Stop, nil, 0), Gone{1}) }, Refused},
		"stopping":            {Always, func(st *story) { st.step(asks(2, Stop, nil, 0)) }, Refused},
		"failed":              {No, exits(badly), ""},
		"failed and forgiven": {No, func(st *story) { exits(badly)(st); st.step(Clears{}) }, Refused},
		"come to its end":     {OnFailure, exits(well), Refused},
	} {
		t.Run(name, func(t *testing.T) {
			l := usual
			l.Restart, l.Instances, l.Type = c.restart, 1, Exec
			spec := &Spec{Name: "api", Life: l}
			st := &story{s: Service{Inst: make([]Instance, 1)}, now: now}
			if c.downfall != nil {
				st.step(asks(1, Start, spec, 0), Started{1, 1001}, Elapsed{})
				c.downfall(st)
			}
			effects := st.step(asks(3, Scale, spec, 3))
			if spawns(effects) || !finishes(effects, Done) || st.s.Job.Verb == Scale || len(st.s.Inst) != 3 {
				t.Fatalf("%v\n%v", st, effects)
			}
			again, effects := Step(st.s, st.now, asks(4, Reload, spec, 0))
			if c.reload != "" && !finishes(effects, c.reload) || c.reload == "" && again.Target == 0 {
				t.Errorf("a reload: %v", effects)
			}
			effects = st.step(asks(5, Start, spec, 0))
			for i, in := range st.s.Inst {
				if len(st.s.Inst) != 3 || in.Main.ID == 0 {
					t.Errorf("instance %d: %v\n%v", i, st, effects)
				}
			}
		})
	}
}

// A rollout that is to bring up what has failed brings up all that there are to be,
// and none if it fails.
func TestScaleWhileAReloadTriesToRevive(t *testing.T) {
	for _, good := range []bool{true, false} {
		l := usual
		l.Restart, l.Type = No, Exec
		spec := &Spec{Name: "api", Life: l}
		st := &story{s: Service{Inst: make([]Instance, 1)}, now: now}
		st.step(asks(1, Start, spec, 0), Started{1, 1001}, Exited{1, badly}, Gone{1}, asks(2, Reload, spec, 0), Started{2, 1002})
		if effects := st.step(asks(3, Scale, spec, 2)); spawns(effects) {
			t.Fatalf("the build that has failed is started: %v", effects)
		}
		want := []Generation{2, 2}
		if !good {
			want = []Generation{0, 0}
			st.step(Exited{2, badly}, Gone{2})
		} else {
			st.step(Elapsed{})
			st.step(Started{3, 1003}, Elapsed{})
		}
		for i, in := range st.s.Inst {
			if len(st.s.Inst) != 2 || in.Main.Gen != want[i] {
				t.Errorf("instance %d runs generation %d: %v", i, in.Main.Gen, st)
			}
		}
		if st.s.Job.ID != 0 {
			t.Errorf("what was asked for goes on: %v", st)
		}
	}
}

// step has all of it happen, and returns the effects of the last. Elapsed is at the
// deadline.
func (st *story) step(events ...Event) (effects []Effect) {
	for _, e := range events {
		if _, ok := e.(Elapsed); ok {
			st.now = max(st.now, st.s.Deadline())
		}
		st.s, effects = Step(st.s, st.now, e)
	}
	return effects
}

func finishes(effects []Effect, r JobResult) bool {
	for _, e := range effects {
		if f, ok := e.(Finish); ok && f.Result == r {
			return true
		}
	}
	return false
}
