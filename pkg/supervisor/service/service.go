// Package service runs one unit: an actor around [unit.Step].
//
// Everything that happens to the unit arrives in the actor's inbox. For each event the
// actor asks Step what follows, stores the result, carries out the effects, and only
// then publishes the new state. So if the status says that a process serves, the kernel
// sends it clients already.
//
// An actor never waits. It begins whatever may take time, such as a start, a file
// system or a reader of logs, and leaves the rest to others; the outcome is another
// event. It takes only locks that are held for moments.
package service

import (
	"bytes"
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An Actor runs one unit. Its fields belong to the goroutine in Run, except shown.
type Actor struct {
	name  string
	world World
	inbox chan any // a [unit.Event], [Heard] or [Staged]
	quit  chan struct{}
	close sync.Once
	ended chan struct{} // closed when nothing takes from the inbox any more

	state  unit.Service
	past   unit.Service // before the last step
	at     unit.Time    // of which
	runs   map[unit.Invocation]*Run
	baked  map[unit.Generation]Program // what generations that have baked run again after a crash
	timer  *time.Timer
	failed string // the file of the build whose rollout last failed
	last   []byte // the last output of the process that went last
	lastOf unit.Invocation
	fault  error // why the last state could not be stored

	unsaved unit.Time // when what the last record does not have is to be stored; 0: it has everything
	owed    Record    // with a Past: what it has changed has yet to be told

	found  *unit.Found              // nil: it is new
	behind map[unit.Invocation]bool // kept ones, of which not all is known that happened
	late   unit.Time                // when nobody waits for that any more

	over bool // it was removed, and nothing is left of it

	shown shown
}

// New returns the actor of a unit that has no processes. The actor does nothing before
// Run. A unit that may have some is for [Resume].
func New(name string, state unit.Service, w World) *Actor {
	a := newActor(name, w)
	a.state, a.at = state, w.Now()
	a.arm()
	a.show()
	return a
}

func newActor(name string, w World) *Actor {
	return &Actor{
		name: name, world: w,
		inbox: make(chan any), quit: make(chan struct{}), ended: make(chan struct{}),
		runs: map[unit.Invocation]*Run{}, baked: map[unit.Generation]Program{}, behind: map[unit.Invocation]bool{},
		timer: time.NewTimer(time.Hour),
	}
}

// Name returns the name of the unit.
func (a *Actor) Name() string { return a.name }

// Run runs the actor until Close, or until its unit has vanished.
func (a *Actor) Run() {
	a.resume()
	a.live()
	a.release()
	close(a.ended)
	if a.over {
		a.world.Vanish()
	}
}

func (a *Actor) live() {
	for !a.over {
		select {
		case <-a.quit:
			return
		case <-a.timer.C:
			a.wake()
		case m := <-a.inbox:
			a.take(m)
		}
	}
}

// Close makes Run return. It does not wait for that, and may be called again.
func (a *Actor) Close() { a.close.Do(func() { close(a.quit) }) }

func (a *Actor) release() {
	a.timer.Stop()
	for _, r := range a.runs {
		r.letBe()
	}
	for _, p := range a.baked {
		p.Close()
	}
}

// Tell sends the actor a message. It returns true when the actor has taken the
// message, and false if the actor has ended.
func (a *Actor) Tell(m any) bool { return a.Ask(context.Background(), m) == nil }

// Ask is like Tell, but gives up when ctx is done. The error is ctx's, or [ErrEnded].
func (a *Actor) Ask(ctx context.Context, m any) error {
	select {
	case a.inbox <- m:
		return nil
	case <-a.ended:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Actor) take(m any) {
	switch m := m.(type) {
	case unit.Event:
		a.step(m)
	case Heard:
		if a.hear(m); m.Stored != nil {
			m.Stored()
		}
	case Staged:
		a.stage(m)
	case CaughtUp:
		a.caughtUp(m.ID)
	}
}

// wake is called when it is time for something.
func (a *Actor) wake() {
	if !a.waits() {
		a.step(unit.Elapsed{})
		return
	}
	a.keep(a.state, nil, nil)
	a.arm()
}

// step asks the rules what follows from e, and does it.
func (a *Actor) step(e unit.Event) {
	before := a.state
	a.at = a.world.Now()
	next, effects := unit.Step(before, a.at, e)
	a.past, a.state = before, next
	changes := unit.Changes(before, next, effects)
	a.note(effects)
	a.keep(before, effects, changes)
	for _, f := range effects {
		a.do(f)
	}
	a.pin()
	a.settle()
	a.show()
	a.tell(changes, before)
	a.forget(effects)
	a.arm()
}

// note has known what is to be stored with the state.
func (a *Actor) note(effects []unit.Effect) {
	for _, f := range effects {
		if f, ok := f.(unit.Spawn); ok {
			a.run(f.ID)
		}
	}
	a.learn(effects)
	a.remember(effects)
}

// tell tells what has changed, and stores that it has, if it matters.
func (a *Actor) tell(cs []unit.Change, before unit.Service) {
	a.world.Changed(cs, before, a.View())
	if a.owed.Past != nil {
		a.told()
	}
}

func (a *Actor) told() {
	r := a.owed
	a.owed, r.Past, r.Counts = Record{}, nil, a.counts()
	a.save(r)
	a.show()
}

func (a *Actor) do(f unit.Effect) {
	switch f := f.(type) {
	case unit.Doors:
		a.world.Doors(f.Doors)
	case unit.Steer:
		a.world.Steer(f)
	case unit.Spawn:
		a.spawn(f)
	case unit.Signal:
		a.signal(f)
	case unit.Vanish:
		a.over = true
	}
}

func (a *Actor) spawn(f unit.Spawn) {
	var ctx context.Context
	ctx, a.run(f.ID).giveUp = context.WithCancelCause(context.Background())
	a.world.Start(ctx, a.order(f))
}

func (a *Actor) order(f unit.Spawn) Order {
	return Order{
		Spawn: f, Spec: a.state.Build(f.Gen).Spec, Invocation: a.run(f.ID).Invocation, Kept: a.behind[f.ID],
		Pinned: a.baked[f.Gen], Failed: a.failed,
	}
}

// stage takes on a process that may run its program once its identity is stored.
func (a *Actor) stage(m Staged) {
	r := a.runs[m.ID]
	if r == nil || r.doomed {
		m.Handle.Proceed(ErrDoomed)
		return
	}
	a.at = a.world.Now()
	r.Handle, r.Began, r.trace = m.Handle, cmp.Or(r.Began, a.at), m.Handle.Trace()
	a.save(a.record(a.state, nil, nil))
	a.show()
	m.Handle.Proceed(nil)
}

// signal sends a signal to a process. One that has no pid yet is kept from
// starting, if its own leaving is what the signal is for.
func (a *Actor) signal(f unit.Signal) {
	switch r := a.runs[f.ID]; {
	case r == nil:
	case r.Handle == nil:
		if f.Leave {
			r.doom()
		}
	default:
		if f.Leave {
			r.Handle.Leave()
		}
		r.Handle.Signal(f.Signal, f.Mode) // it may be gone; Step is told so by its end
	}
}

// doom has it known that what has no pid yet need not start.
func (r *Run) doom() {
	if r.doomed = true; r.giveUp != nil {
		r.giveUp(ErrDoomed)
	}
}

// remember keeps the last that was written by a process that is gone, for who asks
// while there is none.
func (a *Actor) remember(effects []unit.Effect) {
	const enough = 4 << 10
	for _, f := range effects {
		if f, ok := f.(unit.Forget); ok && a.runs[f.ID] != nil && a.runs[f.ID].Handle != nil {
			tail := a.runs[f.ID].Handle.Tail()
			a.last, a.lastOf = bytes.Clone(tail[max(0, len(tail)-enough):]), f.ID
		}
	}
}

// forget lets go of processes that are told to be gone.
func (a *Actor) forget(effects []unit.Effect) {
	for _, f := range effects {
		if f, ok := f.(unit.Forget); ok {
			a.letGo(f.ID)
		}
	}
}

// letGo: the end of this one is stored and told.
func (a *Actor) letGo(id unit.Invocation) {
	a.runs[id].letBe()
	delete(a.runs, id)
	delete(a.behind, id)
	if a.world.Release != nil {
		a.world.Release(id)
	}
}

// hear takes what a process said. What it says of its state goes to the rules.
func (a *Actor) hear(h Heard) {
	r := a.runs[h.ID]
	if r == nil {
		return
	}
	before := *r
	if h.Status != nil {
		r.Status = *h.Status
	}
	if h.Errno != nil {
		r.Errno = *h.Errno
	}
	r.Reloading = h.Reloading || r.Reloading && !h.Notice.Ready
	switch {
	case r.Errno != before.Errno, r.Reloading != before.Reloading:
		a.unsaved = a.world.Now()
	case r.Status != before.Status && a.unsaved == 0:
		a.unsaved = a.world.Now() + unit.Time(saveStatus)
	}
	a.step(unit.Said{ID: h.ID, Notice: h.Notice})
}

// saveStatus is how long a STATUS that changes nothing else waits to be stored: a process
// may say one many times a second.
const saveStatus = time.Second

// isDue: there is something to store, now.
func (a *Actor) isDue() bool { return a.unsaved != 0 && a.unsaved <= a.world.Now() }

// settle has those watched that settle, as long as they do.
func (a *Actor) settle() {
	for p := range a.state.Procs() {
		switch r := a.runs[p.ID]; {
		case r == nil:
		case !p.Phase.Settles():
			r.letBe()
		case r.unwatch == nil:
			var ctx context.Context
			ctx, r.unwatch = context.WithCancel(context.Background())
			a.world.Settle(ctx, p.ID)
		}
	}
}

// letBe ends the watch over a process that settled, if there is one.
func (r *Run) letBe() {
	if r != nil && r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
}

// retrySave is how long a state that could not be stored waits for another try.
const retrySave = 5 * time.Second

// arm sets the one timer to the one deadline.
func (a *Actor) arm() {
	now := a.world.Now()
	d := a.state.Deadline()
	if a.waits() {
		d = a.late
	}
	if d = sooner(d, a.unsaved); a.fault != nil {
		d = sooner(d, now+unit.Time(retrySave))
	}
	a.timer.Stop()
	if d != 0 {
		a.timer.Reset(max(0, time.Duration(d-now)))
	}
}

// sooner is the first of two times, of which 0 is never.
func sooner(a, b unit.Time) unit.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
