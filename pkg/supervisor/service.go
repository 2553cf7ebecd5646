package supervisor

import (
	"maps"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A service is the actor that runs one unit. What happens to the unit arrives
// in its inbox; for each event it asks [unit.Step] what follows, stores that,
// publishes it, and only then does it. The fields belong to the goroutine in
// run, save shown.
type service struct {
	name  string
	world world
	inbox chan any      // a [unit.Event], heard or staged
	quit  chan struct{} // closed by its owner: run is to return
	ended chan struct{} // closed when it has: nothing takes from the inbox

	state unit.Service
	past  unit.Service // before the last step
	runs  map[unit.Invocation]*run
	baked map[unit.Generation]program // what generations that have baked run again after a crash
	timer *time.Timer
	fault error // why the last state could not be stored

	counts *metrics.Counters
	shown  atomic.Pointer[view] // for anyone
}

// A world is what an actor needs of everything outside.
type world struct {
	now func() unit.Time
	// save stores a record. Nothing that the record orders is done before.
	save func(record) error
	// start starts an invocation in the background, and tells what becomes of it.
	start func(order)
	// steer says who gets new connections. It has its effect when it returns, so
	// that who is signalled next gets no more.
	steer func([]unit.Share)
	// settle watches in the background what is on its way to a process that gets
	// no new connections, and tells when that is nothing.
	settle func(id unit.Invocation, atMost time.Duration, tell func(unit.Event) bool)
	// publish is told what changed, what was before, and what is now.
	publish func([]unit.Change, unit.Service, *view)
	// settled is told that all effects of a step are done.
	settled func(*view)
}

// A handle is a process, from the moment its pid is known.
type handle interface {
	Trace() Trace
	Signal(syscall.Signal, unit.KillMode) error
	Program() program // what it runs, kept open; nil: not known
	Tail() []byte     // the last that it wrote
	Survivors() []process.Survivor
}

// A program is an executable that is kept open.
type program interface {
	Path() string
	Differs(path string) bool
	Moved() bool
	Close() error
}

// An order is what start is to do.
type order struct {
	unit.Spawn
	spec   *unit.Spec
	pinned program // what to run; nil: what is at the path now
	heir   bool    // it is to be Main, with nobody before it

	// staged gives the actor the process, which runs nothing yet. It may go on
	// when its identity is stored, that is when staged returned nil.
	staged func(handle) error
	// tell gives the actor an event. It returns when the actor has it or is no more.
	tell func(any)
}

// A run is what an actor keeps of an invocation until it is forgotten.
type run struct {
	handle  handle    // nil until its pid is known
	began   unit.Time // when that was
	trace   Trace
	doomed  bool // it was told to go before that
	watched bool // for when it has settled
	heard   heard
}

// heard is what a process said of itself that changes nothing but what is shown.
type heard struct {
	id        unit.Invocation
	message   notify.Message
	status    string
	errno     int
	reloading bool
}

// staged is an invocation whose pid is known.
type staged struct {
	id     unit.Invocation
	handle handle
	answer chan<- error
}

// A record is what is stored of a service: the state, what identifies the
// processes in it, and the effects that the state itself would not order again.
type record struct {
	Service unit.Service
	Traces  map[unit.Invocation]Trace
	Finish  []unit.Finish     `json:",omitempty"`
	Forget  []unit.Invocation `json:",omitempty"`
}

func newService(name string, state unit.Service, w world) *service {
	s := &service{
		name: name, world: w, state: state,
		inbox: make(chan any), quit: make(chan struct{}), ended: make(chan struct{}),
		runs: map[unit.Invocation]*run{}, baked: map[unit.Generation]program{},
		timer: time.NewTimer(time.Hour), counts: metrics.NewCounters(),
	}
	s.arm()
	s.show()
	return s
}

// run is the life of the actor.
func (s *service) run() {
	defer close(s.ended)
	defer s.timer.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-s.timer.C:
			s.step(unit.Elapsed{})
		case m := <-s.inbox:
			s.take(m)
		}
	}
}

// tell gives the actor m. It returns when the actor has taken it, or is no more.
func (s *service) tell(m any) bool {
	select {
	case s.inbox <- m:
		return true
	case <-s.ended:
		return false
	}
}

func (s *service) take(m any) {
	switch m := m.(type) {
	case unit.Event:
		s.step(m)
	case heard:
		s.hear(m)
	case staged:
		m.answer <- s.stage(m)
	}
}

// step asks the rules what follows from e, and does it.
func (s *service) step(e unit.Event) {
	before := s.state
	next, effects := unit.Step(before, s.world.now(), e)
	s.past, s.state = before, next
	s.keep(before, effects)
	s.show()
	s.world.publish(unit.Changes(before, next, effects), before, s.shown.Load())
	for _, f := range effects {
		s.do(f)
	}
	s.pin()
	s.settle()
	s.arm()
	s.world.settled(s.shown.Load())
}

// keep stores the state, unless only deadlines moved: a restore sets those anew.
func (s *service) keep(before unit.Service, effects []unit.Effect) {
	if len(effects) == 0 && s.fault == nil && reflect.DeepEqual(durable(before), durable(s.state)) {
		return
	}
	r := record{Service: s.state, Traces: map[unit.Invocation]Trace{}}
	for id, u := range s.runs {
		if s.state.Find(id).ID != 0 {
			r.Traces[id] = u.trace
		}
	}
	for _, f := range effects {
		switch f := f.(type) {
		case unit.Finish:
			r.Finish = append(r.Finish, f)
		case unit.Forget:
			r.Forget = append(r.Forget, f.ID)
		}
	}
	s.fault = s.world.save(r)
}

// durable is s without what a ping or a request for more time changes.
func durable(s unit.Service) unit.Service {
	c := s
	c.Inst = make([]unit.Instance, len(s.Inst))
	for i, in := range s.Inst {
		for _, p := range []*unit.Proc{&in.Main, &in.Next} {
			p.By, p.Last, p.Ping = 0, 0, 0
		}
		old := make([]unit.Proc, len(in.Old))
		for k, p := range in.Old {
			p.By, p.Last, p.Ping = 0, 0, 0
			old[k] = p
		}
		in.Old = old
		c.Inst[i] = in
	}
	return c
}

func (s *service) do(f unit.Effect) {
	switch f := f.(type) {
	case unit.Spawn:
		s.spawn(f)
	case unit.Signal:
		s.signal(f)
	case unit.Steer:
		s.world.steer(f.Shares)
	case unit.Forget:
		delete(s.runs, f.ID)
	}
}

func (s *service) spawn(f unit.Spawn) {
	s.runs[f.ID] = &run{}
	b := s.state.Build(f.Gen)
	s.world.start(order{
		Spawn: f, spec: b.Spec, pinned: s.baked[f.Gen], heir: s.state.Inst[f.Inst].Main.ID == f.ID,
		tell:   func(m any) { s.tell(m) },
		staged: func(h handle) error { return s.await(f.ID, h) },
	})
}

// await is called by who starts an invocation: it returns when the actor has
// stored who it is.
func (s *service) await(id unit.Invocation, h handle) error {
	answer := make(chan error, 1)
	if !s.tell(staged{id, h, answer}) {
		return errEnded
	}
	return <-answer
}

// stage takes on a process that may run its program once its identity is stored.
func (s *service) stage(m staged) error {
	r := s.runs[m.id]
	if r == nil || r.doomed {
		return errDoomed
	}
	r.handle, r.trace, r.began = m.handle, m.handle.Trace(), s.world.now()
	s.keep(s.state, []unit.Effect{unit.Spawn{ID: m.id}})
	s.show()
	return nil
}

// signal sends a signal to a process, or keeps one from starting that has no
// pid yet.
func (s *service) signal(f unit.Signal) {
	switch r := s.runs[f.ID]; {
	case r == nil:
	case r.handle == nil:
		r.doomed = true
	default:
		r.handle.Signal(f.Signal, f.Mode) // it may be gone; Step is told so by its end
	}
}

// hear takes what a process said. What it says of its state goes to the rules.
func (s *service) hear(h heard) {
	r := s.runs[h.id]
	if r == nil {
		return
	}
	m := h.message
	if m.Status != nil {
		r.heard.status = *m.Status
	}
	if m.Errno != nil {
		r.heard.errno = *m.Errno
	}
	r.heard.reloading = m.Reloading || r.heard.reloading && !m.Notice.Ready
	s.step(unit.Said{ID: h.id, Notice: m.Notice})
}

// pin keeps the executables of generations that have baked, and lets go of
// those that nothing names any more.
func (s *service) pin() {
	for g, p := range s.baked {
		if s.state.Build(g) == nil {
			p.Close()
			delete(s.baked, g)
		}
	}
	for p := range s.state.Procs() {
		r := s.runs[p.ID]
		if b := s.state.Build(p.Gen); b == nil || !b.Baked || s.baked[p.Gen] != nil || r == nil || r.handle == nil {
			continue
		}
		if prog := r.handle.Program(); prog != nil {
			s.baked[p.Gen] = prog
		}
	}
}

// settle has those watched that settle.
func (s *service) settle() {
	for p := range s.state.Procs() {
		if r := s.runs[p.ID]; r != nil && p.Phase == unit.Settling && !r.watched {
			r.watched = true
			l := s.state.Build(p.Gen).Spec.Life
			s.world.settle(p.ID, l.Settle+l.Empty, func(e unit.Event) bool { return s.tell(e) })
		}
	}
}

// retrySave is how long a state that could not be stored waits for another try.
const retrySave = 5 * time.Second

// arm sets the one timer to the one deadline.
func (s *service) arm() {
	now := s.world.now()
	d := s.state.Deadline()
	if retry := now + unit.Time(retrySave); s.fault != nil && (d == 0 || d > retry) {
		d = retry
	}
	s.timer.Stop()
	if d != 0 {
		s.timer.Reset(max(0, time.Duration(d-now)))
	}
}

// show makes the state what anyone sees.
func (s *service) show() {
	v := &view{name: s.name, state: s.state, past: s.past, at: s.world.now(), fault: s.fault, counts: s.counts, runs: map[unit.Invocation]run{}, baked: maps.Clone(s.baked)}
	for id, r := range s.runs {
		v.runs[id] = *r
	}
	s.shown.Store(v)
}

// A view is a service as it was at a moment. It is never changed.
type view struct {
	name  string
	state unit.Service
	past  unit.Service // one step before: it has the builds of what is gone now
	at    unit.Time
	fault error

	counts *metrics.Counters // they go on

	runs  map[unit.Invocation]run
	baked map[unit.Generation]program
}
