package service

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Record is what is stored of a unit: all that its actor knows, so that the next actor
// goes on as if nothing had happened. It is stored before what it orders is done. What of
// that cannot be derived from the state again is in it.
type Record struct {
	Service unit.Service
	At      unit.Time                           // of the step
	Traces  map[unit.Invocation]json.RawMessage // identify the processes, of those that have one
	Runs    map[unit.Invocation]RunRecord       // also of those that are gone with the step
	Baked   map[unit.Generation]json.RawMessage // identify the executables that are kept
	Failed  string                              `json:",omitempty"` // the file of the build whose rollout last failed
	Last    []byte                              `json:",omitempty"` // the last output of the process that went last
	LastOf  unit.Invocation                     `json:",omitempty"` // which that was
	Counts  json.RawMessage                     `json:",omitempty"` // what has been counted, see [World.Counts]

	// Past is the state before the step, if what the step has changed may not have been
	// told yet. Of its builds those that Service has, too, are without their Spec.
	Past   *unit.Service     `json:",omitempty"`
	Finish []unit.Finish     `json:",omitempty"`
	Forget []unit.Invocation `json:",omitempty"`
}

// A RunRecord is what is stored of an invocation besides its trace.
type RunRecord struct {
	Invocation string    // $INVOCATION_ID
	Began      unit.Time `json:",omitempty"`
	Status     string    `json:",omitempty"`
	Errno      int       `json:",omitempty"`
	Reloading  bool      `json:",omitempty"`
	File       string    `json:",omitempty"` // [Handle.File]
	Pinned     bool      `json:",omitempty"`
}

// keep stores all that there is to know after a step, unless nothing of it has changed.
func (a *Actor) keep(before unit.Service, effects []unit.Effect, cs []unit.Change) {
	if len(effects) == 0 && a.fault == nil && !a.isDue() && reflect.DeepEqual(durable(before), durable(a.state)) {
		return
	}
	r := a.record(before, effects, cs)
	if a.save(r); r.Past != nil {
		a.owed = r
	}
}

func (a *Actor) save(r Record) {
	a.fault = a.world.Save(r)
	a.unsaved = 0
}

func (a *Actor) record(before unit.Service, effects []unit.Effect, cs []unit.Change) Record {
	r := Record{
		Service: a.state, At: a.world.Now(), Failed: a.failed, Last: a.last, LastOf: a.lastOf, Counts: a.counts(),
		Traces: map[unit.Invocation]json.RawMessage{}, Runs: map[unit.Invocation]RunRecord{}, Baked: map[unit.Generation]json.RawMessage{},
	}
	for id, u := range a.runs {
		r.Runs[id] = u.record()
		if u.trace != nil && a.state.Find(id).ID != 0 {
			r.Traces[id] = u.trace
		}
	}
	for g, p := range a.baked {
		r.Baked[g] = p.Trace()
	}
	for _, f := range effects {
		switch f := f.(type) {
		case unit.Finish:
			r.Finish = append(r.Finish, f)
		case unit.Forget:
			r.Forget = append(r.Forget, f.ID)
		}
	}
	if slices.ContainsFunc(cs, isOwed) {
		r.Past = without(before, a.state)
	}
	return r
}

func (r *Run) record() RunRecord {
	file := r.stored.File
	if r.Handle != nil {
		file = r.Handle.File()
	}
	return RunRecord{r.Invocation, r.Began, r.Status, r.Errno, r.Reloading, file, r.pinned}
}

func (a *Actor) counts() json.RawMessage {
	if a.world.Counts == nil {
		return nil
	}
	return a.world.Counts()
}

// isOwed: somebody waits for c, or counts it. So a manager that dies before it has told c
// leaves that to the next one. Of the rest a status tells enough.
func isOwed(c unit.Change) bool {
	switch c.Kind {
	case unit.Finished, unit.HasExited, unit.IsGone, unit.Scheduled:
		return true
	}
	return false
}

// without is s without the specs that of has; with is the inverse.
func without(s, of unit.Service) *unit.Service {
	s.Builds = slices.Clone(s.Builds)
	for i := range s.Builds {
		if b := of.Build(s.Builds[i].Gen); b != nil && b.Spec == s.Builds[i].Spec {
			s.Builds[i].Spec = nil
		}
	}
	return &s
}

func with(s *unit.Service, of unit.Service) unit.Service {
	c := *s
	c.Builds = slices.Clone(s.Builds)
	for i := range c.Builds {
		if b := of.Build(c.Builds[i].Gen); b != nil && c.Builds[i].Spec == nil {
			c.Builds[i].Spec = b.Spec
		}
	}
	return c
}

// durable is s without what each ping changes: a restore gives a watchdog a new period.
func durable(s unit.Service) unit.Service {
	c := s
	c.Inst = slices.Clone(s.Inst)
	for i := range c.Inst {
		c.Inst[i].Main.Ping, c.Inst[i].Next.Ping = 0, 0
	}
	return c
}

// restore makes the actor know what r says.
func (a *Actor) restore(r Record) {
	a.state, a.past, a.at, a.failed, a.last, a.lastOf = r.Service, r.Service, r.At, r.Failed, r.Last, r.LastOf
	if r.Past != nil {
		a.past = with(r.Past, r.Service)
	}
	for id, k := range r.Runs {
		a.runs[id] = &Run{
			Invocation: k.Invocation, Began: k.Began, Status: k.Status, Errno: k.Errno, Reloading: k.Reloading,
			stored: k, trace: r.Traces[id], pinned: k.Pinned,
		}
	}
	for id, trace := range r.Traces {
		if a.runs[id] == nil { // stored by a version that knew no more
			a.runs[id] = &Run{trace: trace}
		}
	}
	for g, trace := range r.Baked {
		if p := a.program(g, trace); p != nil {
			a.baked[g] = p
		}
	}
}

func (a *Actor) program(g unit.Generation, trace json.RawMessage) Program {
	if a.world.Program == nil {
		return nil
	}
	return a.world.Program(g, trace)
}

// Has reports whether the actor that stored r had taken a job. One that it had not is to
// be given to the next.
func (r Record) Has(id unit.JobID) bool {
	in := func(ids []unit.JobID) bool { return slices.Contains(ids, id) }
	return in(r.Service.Job.IDs()) || in(r.Service.Queue.IDs()) || slices.ContainsFunc(r.Finish, func(f unit.Finish) bool { return in(f.Jobs) })
}
