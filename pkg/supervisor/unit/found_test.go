package unit

import (
	"fmt"
	"reflect"
	"slices"
	"syscall"
)

// A manager may die at any moment: before, among or after the effects of a step. What
// is held here makes that no loss, as long as somebody keeps the processes:
//
//   - [foundAsItWas]: Found changes nothing but the watchdogs. So what follows then is
//     what would have followed without it.
//   - [foundDoesAll]: Found orders all that a step has ordered and that is not stored
//     with the state. So it does not matter which of it was done.
//   - [heardOnce]: what is told twice changes nothing the second time. So who was told
//     something may die before anybody knows that.

// again says which transitions the last two are tried on: each costs another Step.
const again = 16

func (w *world) again(s Service, e Event, to Service, effects []Effect) {
	for _, why := range []string{foundDoesAll(to, effects), heardOnce(e, to)} {
		if why != "" {
			w.fail(s, e, to, effects, why)
		}
	}
}

// late is Found when everything has fallen due: it is asked later whether that still is.
func (w *world) late(s Service) {
	c := s.clone()
	for i := range c.Inst {
		c.Inst[i].Due = min(c.Inst[i].Due, past)
	}
	for p := range c.pointers() {
		p.By, p.Ping, p.Renew = min(p.By, past), min(p.Ping, past), min(p.Renew, past)
	}
	e := Found{Alive: c.ids()}
	to, effects := Step(c, now, e)
	if why := foundAsItWas(c, e, to, effects); why != "" {
		w.fail(c, e, to, effects, why)
	}
}

func (s Service) ids() (all []Invocation) {
	for p := range s.Procs() {
		all = append(all, p.ID)
	}
	return all
}

// foundAsItWas: where nobody is missing, Found without loss orders what the state calls
// for, and leaves the state as it is.
func foundAsItWas(s Service, e Event, to Service, effects []Effect) string {
	f, ok := e.(Found)
	if !ok || f.Lost {
		return ""
	}
	for p := range s.Procs() {
		if !slices.Contains(f.Alive, p.ID) && p.Phase != Spawning {
			return ""
		}
	}
	if want := s.wound(); !reflect.DeepEqual(to, want) {
		return fmt.Sprintf("what was found is as it was, but for the watchdogs: %+v", want)
	}
	if want := s.calls(); !slices.EqualFunc(effects, want, func(a, b Effect) bool { return reflect.DeepEqual(a, b) }) {
		return fmt.Sprintf("what was found is to be as the state says: %v", want)
	}
	return ""
}

// wound is s with one period more for each watchdog.
func (s Service) wound() Service {
	s = s.clone()
	for p := range s.pointers() {
		if p.Ping != 0 {
			p.Ping = max(p.Ping, now+Time(s.life(p.Gen).Watchdog))
		}
	}
	return s
}

// calls is all that s calls for, in the world as a whole.
func (s Service) calls() (all []Effect) {
	all = []Effect{Doors{s.Doors()}}
	if s.steered() {
		all = append(all, s.steer())
	}
	for i, in := range s.Inst {
		for _, p := range []Proc{in.Next, in.Main} {
			if p.ID != 0 && p.Phase == Spawning {
				all = append(all, Spawn{i, p.ID, p.Gen, p.Fresh})
			}
		}
	}
	for _, in := range s.Inst {
		for _, p := range in.Old {
			all = append(all, s.presses(p)...)
		}
	}
	if s.vanished() {
		all = append(all, Vanish{})
	}
	return all
}

// presses is the signal of the phase in which p leaves, if it has one.
func (s Service) presses(p Proc) []Effect {
	l := s.life(p.Gen)
	sig, ok := map[Phase]syscall.Signal{Aborted: syscall.SIGABRT, Asked: l.KillSignal, Told: syscall.SIGKILL}[p.Phase]
	if !ok {
		return nil
	}
	return []Effect{Signal{ID: p.ID, Signal: sig, Mode: l.KillMode, Leave: true}}
}

// foundDoesAll: of what a step has ordered, Finish and Forget are stored with the state,
// and an operator's signal may be lost. All else is ordered again, as it was in the end.
func foundDoesAll(to Service, effects []Effect) string {
	_, more := Step(to, now, Found{Alive: to.ids()})
	for i, f := range effects {
		if sig, ok := f.(Signal); ok {
			sig.Hung = false // that has been told
			f = sig
		}
		if !isStored(f, to) && !slices.ContainsFunc(effects[i+1:], func(g Effect) bool { return outdoes(g, f) }) && !slices.ContainsFunc(more, func(g Effect) bool { return reflect.DeepEqual(f, g) }) {
			return fmt.Sprintf("what was ordered is ordered again: %v, but there is only %v", f, more)
		}
	}
	return ""
}

// isStored: f is stored with the state, may be lost, or is for who need not start.
func isStored(f Effect, to Service) bool {
	switch f := f.(type) {
	case Finish, Forget:
		return true
	case Signal:
		return !f.Leave
	case Spawn:
		return to.Find(f.ID).Phase > Serving
	}
	return false
}

// outdoes: after g it does not matter whether f was done.
func outdoes(g, f Effect) bool {
	switch f := f.(type) {
	case Signal:
		later, ok := g.(Signal)
		return ok && later.ID == f.ID
	case Doors, Steer:
		return reflect.TypeOf(f) == reflect.TypeOf(g)
	}
	return false
}

// heardOnce: news of a process may come twice, as who was told them first has died.
func heardOnce(e Event, to Service) string {
	if about(e) == 0 {
		return ""
	}
	twice, effects := Step(to, now, e)
	if !reflect.DeepEqual(twice, to) {
		return fmt.Sprintf("news that come twice change nothing: %+v", twice)
	}
	for _, f := range effects {
		sig, ok := f.(Signal)
		if !ok || !sig.Leave {
			return fmt.Sprintf("news that come twice have no effect but signals: %v", effects)
		}
	}
	return ""
}

// startsAgain is how often Found spawns p, which was spawned before.
func startsAgain(e Event, p Proc) int {
	if f, ok := e.(Found); ok && !f.Lost && p.Phase == Spawning {
		return 1
	}
	return 0
}
