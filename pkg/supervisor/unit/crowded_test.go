package unit

import "testing"

// However many ask for the same while it is under way, what is kept of them has a
// bound: the others are told so, and what they ask for is being done anyway. Only the
// end is never refused.
func TestNotAllMayWaitForTheSame(t *testing.T) {
	l := usual
	l.Type = Notify
	spec := &Spec{Name: "api", Life: l}
	down := Service{Inst: make([]Instance, 1)}
	coming, _ := Step(down, now, asks(1, Start, spec, 0))
	up, _ := Step(coming, now, Started{1, 101})
	up, _ = Step(up, now, Said{1, Notice{Ready: true}})
	stopping, _ := Step(up, now, asks(1, Stop, nil, 0))
	reloading, _ := Step(up, now, asks(1, Reload, spec, 0))
	for name, c := range map[string]struct {
		s    Service
		verb Verb
		size int
	}{
		"start":                   {coming, Start, 0},
		"stop":                    {stopping, Stop, 0},
		"restart":                 {coming, Restart, 0},
		"reload":                  {reloading, Reload, 0},
		"scale":                   {coming, Scale, 2},
		"scale during a reload":   {reloading, Scale, 2},
		"start of more, the same": {grownTo(reloading, 2), Start, 0},
	} {
		s, refused := c.s, 0
		for at := range 2000 {
			var effects []Effect
			s, effects = Step(s, now, asks(2+at, c.verb, spec, c.size))
			for _, f := range effects {
				if f, ok := f.(Finish); ok && f.Result == Refused && f.Why == WhyCrowded {
					refused++
				}
			}
		}
		if n := len(s.Job.IDs()) + len(s.Queue.IDs()); n > 2*mostWaiting || refused < 1500 {
			t.Errorf("%s: %d wait, %d of 2000 were refused", name, n, refused)
		}
		s, effects := Step(s, now, asks(9999, End, nil, 0))
		if s.Want != Ended {
			t.Errorf("%s: the end was refused: %v", name, effects)
		}
	}
}

func grownTo(s Service, n int) Service {
	s, _ = Step(s, now, asks(1, Scale, nil, n))
	return s
}
