package service

import "github.com/supervisord-go/supervisord/pkg/supervisor/unit"

// pin keeps the executables of generations that have baked, and lets go of
// those that nothing names any more.
func (a *Actor) pin() {
	for g, p := range a.baked {
		if a.state.Build(g) == nil {
			p.Close()
			delete(a.baked, g)
		}
	}
	for p := range a.state.Procs() {
		if r := a.runs[p.ID]; r != nil && r.Handle != nil && !r.pinned && a.toKeep(p) {
			r.pinned = a.keepOpen(p.Gen, r.Handle.Program())
		}
	}
}

// learn remembers the file of a build whose rollout failed: restarts do not try it.
func (a *Actor) learn(effects []unit.Effect) {
	for _, f := range effects {
		f, ok := f.(unit.Finish)
		if r := a.runs[f.Proc.ID]; ok && f.Result == unit.Failed && f.Proc.Gen != a.state.Current && r != nil && r.Handle != nil {
			a.failed = r.Handle.File()
		}
	}
}

// toKeep: what p runs is the executable of its generation from now on. The first
// that baked is that, until one that ran what was at the path instead has baked.
// No start may be borrowing what is replaced.
func (a *Actor) toKeep(p unit.Proc) bool {
	b := a.state.Build(p.Gen)
	if b == nil || !b.Baked {
		return false
	}
	return a.baked[p.Gen] == nil || p.Fresh && p.Phase == unit.Serving && !a.launching(p.Gen)
}

// launching: a process of g is on its way to its program.
func (a *Actor) launching(g unit.Generation) bool {
	for p := range a.state.Procs() {
		if p.Gen == g && p.PID == 0 {
			return true
		}
	}
	return false
}

func (a *Actor) keepOpen(g unit.Generation, p Program) bool {
	if p == nil {
		return false
	}
	if was := a.baked[g]; was != nil {
		was.Close()
	}
	a.baked[g] = p
	return true
}
