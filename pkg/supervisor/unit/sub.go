package unit

import (
	"iter"
	"slices"
)

// Everything here follows from a Service and is never stored.

// SubState is where a service is in its life, in systemd's words.
type SubState string

// ActiveState summarizes a SubState, as in systemd.
type ActiveState string

// From the most to the least of use; a service has the least of its instances.
var subStates = []SubState{"running", "exited", "bake", "reload", "start", "auto-restart", "stop-sigterm", "stop-sigkill", "dead", "failed"}

var activeStates = map[SubState]ActiveState{
	"running": "active", "exited": "active",
	"bake": "reloading", "reload": "reloading",
	"start": "activating", "auto-restart": "activating",
	"stop-sigterm": "deactivating", "stop-sigkill": "deactivating",
	"dead": "inactive", "failed": "failed",
}

// ActiveStates returns all active states, the most useful first.
func ActiveStates() (all []ActiveState) {
	for _, sub := range subStates {
		if a := activeStates[sub]; !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// SubState returns the SubState of the instance that is least useful.
func (s Service) SubState() SubState {
	least := 0
	for i, in := range s.Inst {
		if in.Surplus && s.Want == Up {
			continue
		}
		least = max(least, slices.Index(subStates, s.Sub(i)))
	}
	return subStates[least]
}

// ActiveState returns the ActiveState that corresponds to s.SubState.
func (s Service) ActiveState() ActiveState { return activeStates[s.SubState()] }

// Sub returns the SubState of instance i.
func (s Service) Sub(i int) SubState {
	in := s.Inst[i]
	switch {
	case in.Next.Phase == Baking:
		return "bake"
	case in.Next.ID != 0, in.Main.ID == 0 && s.hasTurn(i):
		return "reload"
	case in.Main.Stopping:
		return "stop-sigterm"
	case in.Main.ID != 0 && in.Main.Phase < Baking:
		return "start"
	case in.Main.ID != 0:
		return "running"
	}
	return s.subDown(in)
}

// subDown: nothing serves in in, nor is about to.
func (s Service) subDown(in Instance) SubState {
	has := func(fs ...Phase) bool {
		return slices.ContainsFunc(in.Old, func(p Proc) bool { return slices.Contains(fs, p.Phase) })
	}
	switch {
	case in.Done && s.life(in.Gen).RemainAfterExit:
		return "exited"
	case in.Due != 0 && s.room(in, in.Gen):
		return "auto-restart"
	case has(Settling, Emptying, Aborted, Asked):
		return "stop-sigterm"
	case has(Told):
		return "stop-sigkill"
	case has(Stuck), in.Result != Success && in.Result != "":
		return "failed"
	}
	return "dead"
}

// Deadline returns the time at which the one timer must fire. Zero means never.
func (s Service) Deadline() (d Time) {
	soonest := func(t Time) {
		if t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	for p := range s.Procs() {
		soonest(p.By)
		soonest(p.Ping)
	}
	for i, in := range s.Inst {
		if s.mayFill(i) {
			soonest(in.Due)
		}
		if s.mayRenew(i) {
			soonest(in.Main.Renew)
		}
	}
	return d
}

// up: every instance has a Main that can serve, or has done its work.
func (s Service) up() bool {
	return !slices.ContainsFunc(s.Inst, func(in Instance) bool { return !in.Surplus && !in.Done && !s.serves(in.Main) })
}

// active: up, and a start would change nothing.
func (s Service) active() bool {
	return !slices.ContainsFunc(s.Inst, func(in Instance) bool {
		return !in.Surplus && !s.serves(in.Main) && !(in.Done && s.life(in.Gen).RemainAfterExit)
	})
}

// serves: p is known to serve. Of what cannot say so itself, only its bake tells.
func (s Service) serves(p Proc) bool {
	return p.ID != 0 && !p.Stopping && (p.Phase == Serving || p.Phase == Baking && s.life(p.Gen).Type == Notify)
}

// held: an instance has no Main and will not get one soon.
func (s Service) held() bool {
	return slices.ContainsFunc(s.Inst, func(in Instance) bool {
		return !in.Surplus && in.Main.ID == 0 && !in.Done && (in.Due == 0 || s.stuck(in, in.Gen))
	})
}

// alone: processes of a and b must not run side by side.
func (s Service) alone(a, b Generation) bool {
	return s.Job.Verb == Restart || !s.life(a).Overlap || !s.life(b).Overlap
}

// most is how many Old there may be in in when a process of g starts: a Next, if
// g is not in's own, else a Main. A Main is allowed what a crash leaves behind on
// top of a full drain, or what drains could keep the service down; but not more,
// or a crash loop could fill the machine.
func (s Service) most(in Instance, g Generation) int {
	n := s.life(g).MaxDraining
	switch {
	case s.alone(in.Gen, g):
		return 0
	case g != in.Gen:
		return n - 1
	}
	return n + 1
}

// room: a process of g may be started in in.
func (s Service) room(in Instance, g Generation) bool {
	if s.alone(in.Gen, g) && (in.Main.ID != 0 || in.Next.ID != 0) {
		return false
	}
	return len(in.Old) <= s.most(in, g)
}

// stuck: only a miracle makes room for g in in.
func (s Service) stuck(in Instance, g Generation) bool {
	n := 0
	for _, p := range in.Old {
		if p.Phase == Stuck {
			n++
		}
	}
	return n > s.most(in, g)
}

// mayFill: instance i may have a Main when one is due. Where Next needs the
// place alone, Main waits for what becomes of it.
func (s Service) mayFill(i int) bool {
	in := s.Inst[i]
	return in.Main.ID == 0 && s.room(in, in.Gen) && !(s.alone(in.Gen, s.goal()) && s.hasTurn(i))
}

// Procs yields all processes: every Next, then every Main, then every Old.
func (s Service) Procs() iter.Seq[Proc] {
	return func(yield func(Proc) bool) {
		for _, p := range s.located() {
			if !yield(*p) {
				return
			}
		}
	}
}

// located is Procs with the instance of each.
func (s Service) located() iter.Seq2[int, *Proc] {
	return func(yield func(int, *Proc) bool) {
		for i := range s.Inst {
			if p := &s.Inst[i].Next; p.ID != 0 && !yield(i, p) {
				return
			}
		}
		for i := range s.Inst {
			if p := &s.Inst[i].Main; p.ID != 0 && !yield(i, p) {
				return
			}
		}
		for i := range s.Inst {
			for k := range s.Inst[i].Old {
				if !yield(i, &s.Inst[i].Old[k]) {
					return
				}
			}
		}
	}
}

// Find returns the process with this id, or the zero Proc if there is none.
func (s Service) Find(id Invocation) Proc {
	for p := range s.Procs() {
		if p.ID == id {
			return p
		}
	}
	return Proc{}
}

// names says whether anything still needs build g.
func (s Service) names(g Generation) bool {
	for p := range s.Procs() {
		if p.Gen == g {
			return true
		}
	}
	return g == s.Current || g == s.Target || g == s.Queue.Gen ||
		slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Gen == g })
}

// Build returns the build of g, or nil if nothing refers to g any more.
func (s Service) Build(g Generation) *Build {
	i := slices.IndexFunc(s.Builds, func(b Build) bool { return b.Gen == g })
	if i < 0 {
		return nil
	}
	return &s.Builds[i]
}

func (s Service) spec(g Generation) *Spec {
	if b := s.Build(g); b != nil {
		return b.Spec
	}
	return &Spec{}
}

func (s Service) life(g Generation) *Life { return &s.spec(g).Life }

func (s Service) clone() Service {
	s.Inst = slices.Clone(s.Inst)
	for i := range s.Inst {
		s.Inst[i].Old = slices.Clone(s.Inst[i].Old)
	}
	s.Builds = slices.Clone(s.Builds)
	s.Job.Also, s.Job.Starts, s.Job.Scales = slices.Clone(s.Job.Also), slices.Clone(s.Job.Starts), slices.Clone(s.Job.Scales)
	s.Queue.Also = slices.Clone(s.Queue.Also)
	return s
}
