package service

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An actor may end at any moment, and another goes on from its record. It does again
// what the record orders: all of it has the same effect when it is done twice. Then it
// listens to what happened meanwhile; only when it has heard everything does it look at
// the clock.

// catchUp is how long the clock waits for news of what happened meanwhile. Who has told
// nothing by then hangs.
const catchUp = 10 * time.Second

// Resume returns an actor that goes on where the one ended that stored r, with the
// processes that were found. Its inbox is not read before it has done again what r
// orders, so its view is complete when the first message has been taken.
func Resume(name string, r Record, found unit.Found, w World) *Actor {
	a := newActor(name, w)
	a.restore(r)
	a.found, a.owed = &found, r
	a.show()
	return a
}

// resume does what has to be done before anything new is.
func (a *Actor) resume() {
	if a.found == nil {
		return
	}
	found := *a.found
	found.Alive = slices.DeleteFunc(slices.Clone(found.Alive), func(id unit.Invocation) bool { return !a.takeOn(id, found.Lost) })
	a.late = a.world.Now() + unit.Time(catchUp)
	a.show()
	a.redo()
	a.pin()
	a.step(found)
}

// takeOn takes on an invocation that was found, and says whether there is one. Step
// orders again those that were being started.
func (a *Actor) takeOn(id unit.Invocation, lost bool) bool {
	i, p := a.locate(id)
	if p.ID == 0 {
		return false
	}
	r := a.run(id)
	if a.behind[id] = true; p.Phase == unit.Spawning && !lost {
		return true
	}
	o := a.order(unit.Spawn{Inst: i, ID: id, Gen: p.Gen, Fresh: p.Fresh})
	if r.Handle = a.world.Resume(o, r.stored, r.trace); r.Handle == nil {
		delete(a.behind, id)
	}
	return r.Handle != nil
}

// locate is the zero Proc if there is none with this id.
func (a *Actor) locate(id unit.Invocation) (inst int, p unit.Proc) {
	for i, in := range a.state.Inst {
		for _, p := range append([]unit.Proc{in.Main, in.Next}, in.Old...) {
			if p.ID == id {
				return i, p
			}
		}
	}
	return 0, unit.Proc{}
}

// redo tells again what may not have been told.
func (a *Actor) redo() {
	r := a.owed
	if r.Past != nil {
		var effects []unit.Effect
		for _, f := range r.Finish {
			effects = append(effects, f)
		}
		a.tell(unit.Changes(a.past, a.state, effects), a.past)
	}
	for _, id := range r.Forget {
		a.letGo(id)
	}
}

// caughtUp lets the clock be looked at when everybody is.
func (a *Actor) caughtUp(id unit.Invocation) {
	delete(a.behind, id)
	a.arm()
}

// waits: somebody may still tell what happened before now.
func (a *Actor) waits() bool { return len(a.behind) > 0 && a.world.Now() < a.late }

// run is what is known of an invocation. Of one that is new it has the id, which is to be
// stored before it is started.
func (a *Actor) run(id unit.Invocation) *Run {
	if a.runs[id] == nil {
		a.runs[id] = &Run{}
	}
	if r := a.runs[id]; r.Invocation == "" {
		r.Invocation = newID()
	}
	return a.runs[id]
}

// newID is 128 random bits in hex (systemd.exec(5), $INVOCATION_ID).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
