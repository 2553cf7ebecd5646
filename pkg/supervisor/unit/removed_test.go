package unit

import "testing"

// A verb can arrive after the files have lost its service, and before that was told
// to the rules: then there is nothing that it could run. It is refused in any state.
func TestAVerbWithoutABuildIsRefused(t *testing.T) {
	l := usual
	l.Type = Exec
	spec := &Spec{Name: "api", Life: l}
	down := Service{Inst: make([]Instance, 1)}
	coming, _ := Step(down, now, asks(1, Start, spec, 0))
	up, _ := Step(coming, now, Started{1, 101})
	up, _ = Step(up, up.Deadline(), Elapsed{})
	reloading, _ := Step(up, now, asks(2, Reload, spec, 0))
	for name, s := range map[string]Service{"down": down, "coming up": coming, "up": up, "reloading": reloading} {
		for _, v := range []Verb{Start, Restart, Reload} {
			to, effects := Step(s, now, Asks{Job: Job{ID: 9, Verb: v}})
			if len(effects) != 1 || to.Job.ID != s.Job.ID || to.LastGen != s.LastGen {
				t.Fatalf("%s, %s: %v", name, v, effects)
			}
			if f, ok := effects[0].(Finish); !ok || f.Result != Refused || f.Why != WhyRemoved {
				t.Errorf("%s, %s: %v; want it refused", name, v, effects)
			}
		}
	}
}
