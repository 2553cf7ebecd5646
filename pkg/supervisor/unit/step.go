package unit

import (
	"math"
	"slices"
	"syscall"
	"time"
)

// Step is the rule: it returns what becomes of s when e happens at time now, and the
// effects to carry out. It does not change anything that s refers to, and equal
// arguments give equal results.
func Step(s Service, now Time, e Event) (Service, []Effect) {
	t := &turn{Service: s.clone(), now: now}
	t.event(e)
	if !t.still {
		t.follow()
	}
	t.Builds = slices.DeleteFunc(t.Builds, func(b Build) bool { return !t.names(b.Gen) })
	return t.Service, t.ordered(s, e)
}

// ordered are the effects of a step from s. What can be derived is: so no rule
// has to remember it.
func (t *turn) ordered(s Service, e Event) []Effect {
	before, after := s.needs(), t.needs()
	was := s.doors(before)
	is := was // if the needs are the same, so are their builds
	if !slices.Equal(before, after) {
		is = t.doors(after)
	}
	either := union(was, is)
	return slices.Concat(opening(was, either, e), steering(s, t.Service, e), t.effects, shutting(either, is), vanishing(s, t.Service, e))
}

// A turn is a Service in the middle of Step, with the verbs that the rules are
// written in.
type turn struct {
	Service
	now     Time
	effects []Effect
	heir    Job  // for those who waited for a job that has ended, when the event is over
	rise    bool // with a start of what is down
	hung    bool // whoever is signalled now hangs: see [Signal]
	still   bool // nothing has changed, so nothing follows
}

func (t *turn) event(e Event) {
	switch e := e.(type) {
	case Asks:
		t.ask(e)
	case Clears:
		t.clear()
	case Kills:
		t.kill(e)
	case Named:
		t.named(e.Is)
	case Broken:
		t.broken(e)
	case Found:
		t.adopt(e)
	case Elapsed:
		t.elapse(e)
	case Started:
		t.tell(e.ID, e)
	case NotStarted:
		t.tell(e.ID, e)
	case Said:
		t.tell(e.ID, e)
	case Exited:
		t.tell(e.ID, e)
	case Gone:
		t.tell(e.ID, e)
	case Traffic:
		t.tell(e.ID, e)
	}
}

// elapse tells each process whose time has come, if it still has when its turn
// is there: what another came to may have given it more.
func (t *turn) elapse(e Elapsed) {
	type place struct {
		inst int
		id   Invocation
	}
	var all []place
	for i, p := range t.located() {
		all = append(all, place{i, p.ID})
	}
	for _, at := range all {
		in := &t.Inst[at.inst]
		if p := in.find(at.id); p != nil && p.due(t.now) {
			t.inform(in, at.id, e)
		}
	}
}

// find is nil if in has no such process.
func (in *Instance) find(id Invocation) *Proc {
	switch id {
	case in.Main.ID:
		return &in.Main
	case in.Next.ID:
		return &in.Next
	}
	if i := slices.IndexFunc(in.Old, func(p Proc) bool { return p.ID == id }); i >= 0 {
		return &in.Old[i]
	}
	return nil
}

// tell brings e to the process it is about. News of one that is forgotten
// changes nothing.
func (t *turn) tell(id Invocation, e Event) {
	for i := range t.Inst {
		t.inform(&t.Inst[i], id, e)
	}
}

func (t *turn) inform(in *Instance, id Invocation, e Event) {
	switch {
	case id == 0:
	case id == in.Main.ID:
		t.main(in, e)
	case id == in.Next.ID:
		t.next(in, e)
	default:
		t.old(in, id, e)
	}
}

// follow does what the state calls for, whatever the event was. So no rule has
// to remember what may have waited for it.
func (t *turn) follow() {
	t.resume()
	t.inherit()
	t.fit()
	t.abide()
	t.renew() // before a job is judged that is to be true after it
	for t.resume() || t.dequeue() || t.judge() {
	}
	t.renew()
	t.fill()
	t.abide()
	t.roll()
}

func (t *turn) do(e Effect) { t.effects = append(t.effects, e) }

// in is the time d from now, or never.
func (t *turn) in(d time.Duration) Time {
	if d >= Infinity-time.Duration(t.now) {
		return 0
	}
	return t.now + Time(d)
}

// enter puts p into a phase that lasts d.
func (t *turn) enter(p *Proc, f Phase, d time.Duration) {
	p.Phase, p.By = f, t.in(d)
	t.allow(p)
}

// allow sets how far p may put off its deadline: where it is the process that
// takes its time, by ExtendMax in all.
func (t *turn) allow(p *Proc) {
	p.Last = p.By
	if p.By != 0 && p.Phase.patient() {
		p.Last = Time(min(uint64(p.By)+uint64(t.life(p.Gen).ExtendMax), math.MaxInt64))
	}
}

func (f Phase) patient() bool {
	return f == Starting || f == Serving || f == Asked || f == Aborted
}

// extend puts p's deadlines off, never beyond what its phase may last.
func (t *turn) extend(p *Proc, d time.Duration) {
	if d <= 0 {
		return
	}
	if p.By != 0 {
		p.By = max(p.By, min(t.in(min(d, Infinity/2)), p.Last))
	}
	if p.Ping != 0 {
		p.Ping = max(p.Ping, t.in(min(d, t.life(p.Gen).ExtendMax)))
	}
}

func (p Proc) due(now Time) bool {
	return p.By != 0 && p.By <= now || p.bitten(now)
}

// bitten: the watchdog has waited for a ping in vain.
func (p Proc) bitten(now Time) bool { return p.Ping != 0 && p.Ping <= now }

func (t *turn) spawn(i int, g Generation) Proc {
	t.LastInv++
	t.do(Spawn{Inst: i, ID: t.LastInv, Gen: g})
	p := Proc{ID: t.LastInv, Gen: g}
	t.enter(&p, Spawning, t.life(g).Start)
	return p
}

func (t *turn) signal(p *Proc, sig syscall.Signal) {
	t.do(Signal{ID: p.ID, Signal: sig, Mode: t.life(p.Gen).KillMode, Leave: true, Hung: t.hung})
}

// begun: p's program runs. What need not say that it is ready, is.
func (t *turn) begun(p *Proc, pid int) {
	if p.Phase != Spawning {
		return
	}
	p.PID, p.Phase = pid, Starting // under the deadline that it has: spawning took of it
	t.allow(p)
	if t.life(p.Gen).Type == Exec {
		t.ready(p)
	}
}

// ready: p can serve. Whether it is any good, its bake will tell.
func (t *turn) ready(p *Proc) {
	l := t.life(p.Gen)
	if p.Phase != Starting || l.Type == Oneshot {
		return
	}
	t.enter(p, Baking, l.Bake)
	p.Since = t.now
	t.ping(p)
}

// ping winds the watchdog up, if there is one.
func (t *turn) ping(p *Proc) {
	if d := t.life(p.Gen).Watchdog; d > 0 && (p.Phase == Baking || p.Phase == Serving) && !p.Stopping {
		p.Ping = t.in(d)
	}
}

// baked: p stayed ready. While no build had baked, Current was only the first
// that came; the first that bakes takes its place.
func (t *turn) baked(p *Proc) {
	left := Infinity
	if r := t.life(p.Gen).Runtime; r > 0 && r < Infinity {
		left = max(0, r-time.Duration(t.now-p.Since))
	}
	t.enter(p, Serving, left)
	t.proven(p.Gen)
}

func (t *turn) proven(g Generation) {
	t.Build(g).Baked = true
	if !t.Build(t.Current).Baked {
		t.current(g)
	}
}

// why says what it means that p ends in the phase it is in.
func (p Proc) why() Reason {
	switch p.Phase {
	case Spawning, Starting:
		return WhyExited
	case Baking:
		return WhyBaking
	}
	return WhyCrashed
}

// mint adds b as a new generation.
func (t *turn) mint(b *Build) Generation {
	t.LastGen++
	t.Builds = append(t.Builds, Build{Gen: t.LastGen, Spec: b.Spec, Release: b.Release})
	return t.LastGen
}
