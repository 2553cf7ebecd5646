package service

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A View is a snapshot of a unit. It never changes, and anyone may read it without
// waiting for the actor.
type View struct {
	Name  string
	State unit.Service
	Past  unit.Service // one step earlier: it has the builds of processes that are gone now
	At    unit.Time
	Fault error // why the state could not be stored; nil: it is stored

	Runs  map[unit.Invocation]Run // including processes that are gone with the last step
	Baked map[unit.Generation]Program
	Last  []byte // the last output of the process that went last; it may begin within a line

	LastOf unit.Invocation // which that was
}

// A Run is what is known about an invocation until it is forgotten.
type Run struct {
	Handle     Handle    // nil until its pid is known
	Invocation string    // $INVOCATION_ID
	Began      unit.Time // when its pid was known
	Status     string    // STATUS= of it
	Errno      int       // ERRNO= of it
	Reloading  bool      // it said RELOADING=1

	stored  RunRecord // of a former actor
	trace   json.RawMessage
	doomed  bool                    // it was told to go before it had a pid
	giveUp  context.CancelCauseFunc // says so to whoever starts it
	unwatch func()                  // as it settles: ends the watch over that; nil: it is not watched
	pinned  bool                    // its executable is the one kept open
}

type shown = atomic.Pointer[View]

// View returns the current state of the unit.
func (a *Actor) View() *View { return a.shown.Load() }

// show makes the state what anyone sees.
func (a *Actor) show() {
	v := &View{
		Name: a.name, State: a.state, Past: a.past, At: a.at, Fault: a.fault,
		Runs: map[unit.Invocation]Run{}, Baked: maps.Clone(a.baked), Last: a.last, LastOf: a.lastOf,
	}
	for id, r := range a.runs {
		v.Runs[id] = *r
	}
	a.shown.Store(v)
}

// Draining reports whether some process is on its way out.
func (v *View) Draining() bool {
	for _, in := range v.State.Inst {
		for _, p := range in.Old {
			if p.Phase != unit.Stuck {
				return true
			}
		}
	}
	return false
}

// Has reports whether one of the processes has this $INVOCATION_ID, or one that begins
// with it.
func (v *View) Has(invocation string) bool {
	for _, r := range v.Runs {
		if r.Handle != nil && strings.HasPrefix(r.Handle.InvocationID(), invocation) {
			return true
		}
	}
	return false
}
