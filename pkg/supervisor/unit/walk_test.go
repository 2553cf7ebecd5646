package unit

import (
	"cmp"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

var deep = flag.Int("deep", 0, "how many more Old the walk looks at in each world")

// The walk tries every event in every state that can be reached, and checks on
// each transition what must always hold. Times are reduced to armed or not, so
// each deadline may be the one that passes.
func TestWalk(t *testing.T) {
	for _, w := range []world{
		{name: "overlap, steered", n: 1, old: 2, waiters: 1, life: Life{Type: Notify, Overlap: true, Steer: true, Canary: 5, Restart: OnFailure, MaxDraining: 2}},
		{name: "exec, start limit", n: 1, old: 2, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, Burst: 2, MaxDraining: 2}},
		{name: "no overlap", n: 1, old: 2, waiters: 1, life: Life{Type: Notify, Restart: OnFailure, MaxDraining: 2}},
		{name: "to no overlap and back", n: 1, old: 2, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, mixed: true},
		{name: "no restart, mixed kill mode", n: 1, old: 2, life: Life{Type: Exec, Overlap: true, Restart: No, MaxDraining: 1, KillMode: Mixed}},
		{name: "watchdog and runtime", n: 1, old: 2, life: Life{Type: Notify, Overlap: true, Restart: Always, MaxDraining: 1, Watchdog: hour, Runtime: 2 * hour}},
		{name: "oneshot", n: 1, old: 2, life: Life{Type: Oneshot, Restart: OnFailure, MaxDraining: 1}},
		{name: "oneshot that remains, overlap", n: 1, old: 2, life: Life{Type: Oneshot, RemainAfterExit: true, Overlap: true, Restart: No, MaxDraining: 1}},
		{name: "two instances", n: 2, old: 1, sample: 23, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "two, no overlap", n: 2, old: 2, sample: 23, life: Life{Type: Exec, Restart: OnFailure, MaxDraining: 1}, lazy: true},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.T = t
			w.old += *deep
			if raced {
				w.old--
			}
			w.walk()
		})
	}
}

const (
	now, far, past = Time(1000), Time(1 << 40), Time(500)
	hour           = 3600_000_000_000
)

type world struct {
	*testing.T
	name    string
	n       int
	old     int  // states with more are checked, but nothing is tried in them
	waiters int  // how many may join a job
	sample  int  // run the endings from each such state only
	lazy    bool // leave out what the walks of one instance have tried in full
	mixed   bool // builds differ in whether they overlap
	life    Life
	seen    func(s Service, e Event, to Service)
	specs   []*Spec
	fails   int
}

func (w *world) walk() {
	l := &w.life
	l.RestartSec, l.RestartMax, l.ResetSec, l.Interval = hour, hour, 100, hour
	l.Start, l.Bake, l.Settle, l.Stop, l.Abort, l.Kill, l.ExtendMax = hour, hour, hour, hour, hour, hour, hour
	l.KillSignal = syscall.SIGTERM
	w.specs = []*Spec{{Life: *l}}
	if w.mixed {
		l.Overlap = !l.Overlap
		w.specs = append(w.specs, &Spec{Life: *l})
	}
	first := Service{Inst: make([]Instance, w.n)}
	seen := map[string]bool{w.key(first): true}
	todo, transitions := []Service{first}, 0
	for i := 0; i < len(todo) && w.fails < 1; i++ {
		s := todo[i]
		w.events(s, func(s Service, e Event) {
			transitions++
			before := ""
			if transitions%16 == 0 {
				before = raw(s)
			}
			to, effects := Step(s, now, e)
			if transitions%16 == 0 && (raw(s) != before || !same(s, e, to, effects)) {
				w.fail(s, e, to, effects, "Step is a function")
			}
			w.check(s, e, to, effects)
			if w.seen != nil {
				w.seen(s, e, to)
			}
			c := w.canon(to)
			if k := w.key(c); !seen[k] && olds(c) <= w.old {
				seen[k] = true
				todo = append(todo, c)
			}
		})
		if i%max(w.sample, 1) == 0 {
			w.endings(s)
		}
	}
	w.Logf("%d states, %d transitions, up to %d Old", len(todo), transitions, w.old)
}

func olds(s Service) (n int) {
	for _, in := range s.Inst {
		n += len(in.Old)
	}
	return n
}

func same(s Service, e Event, to Service, effects []Effect) bool {
	again, more := Step(s, now, e)
	return reflect.DeepEqual(again, to) && reflect.DeepEqual(more, effects)
}

func raw(s Service) string { return fmt.Sprintf("%+v", s) }

// events calls f with all that can happen in s. A deadline passes by being put
// into the past; a Main was healthy for long or not.
func (w *world) events(s Service, f func(Service, Event)) {
	for v := Start; v <= Reload; v++ {
		if w.patient(s, v) && !(w.lazy && v == Restart) {
			for _, spec := range w.specs {
				f(s, Asks{Job{ID: 99, Verb: v}, &Build{Spec: spec}})
			}
		}
	}
	for i := range s.Inst {
		if s.Inst[i].Due > now {
			c := s.clone()
			c.Inst[i].Due = now
			f(c, Elapsed{})
		}
	}
	var all []Invocation
	for p := range s.Procs() {
		all = append(all, p.ID)
		w.procEvents(s, p, f)
	}
	c := s.clone()
	for i := range c.Inst {
		c.Inst[i].Due = min(c.Inst[i].Due, now)
	}
	for p := range c.pointers() {
		p.By, p.Ping = min(p.By, now), min(p.Ping, now)
	}
	f(c, Elapsed{}) // all at once
	f(s, Clears{})
	f(s, Kills{syscall.SIGUSR1, KillAll})
	f(s, Found{all})
	f(s, Found{})
	for i := range all {
		if !w.lazy {
			f(s, Found{all[i : i+1]})
		}
	}
}

// patient keeps the number of those who share a job finite.
func (w *world) patient(s Service, v Verb) bool {
	switch merge[v][s.Job.Verb] {
	case join, absorb:
		return len(s.Job.Also) < w.waiters || v == Start && s.up()
	case queue:
		return s.Queue.ID == 0 && !w.lazy || len(s.Queue.Also) < w.waiters
	}
	return true
}

func (w *world) procEvents(s Service, p Proc, f func(Service, Event)) {
	if p.By != 0 {
		c := s.clone()
		for q := range c.pointers() {
			if q.ID == p.ID {
				q.By = now
			}
		}
		f(c, Elapsed{})
	}
	if p.Ping != 0 {
		c := s.clone()
		for q := range c.pointers() {
			if q.ID == p.ID {
				q.Ping = now
			}
		}
		f(c, Elapsed{})
		f(s, Said{p.ID, Notice{Trigger: true}})
		f(s, Said{p.ID, Notice{Ping: true}})
	}
	f(s, Gone{p.ID})
	if w.lazy && p.Phase > Serving {
		return
	}
	if p.Phase == Spawning || p.Phase > Serving {
		f(s, NotStarted{p.ID, Exit{Kind: NotRun}})
		f(s, Started{p.ID, 4242})
	}
	if p.Phase <= Serving && p.Phase > Spawning {
		if w.life.Type != Exec {
			f(s, Said{p.ID, Notice{Ready: true}})
		}
		if !w.lazy {
			f(s, Said{p.ID, Notice{Stopping: true}})
			f(s, Said{p.ID, Notice{Extend: time.Minute}})
			f(s, Exited{p.ID, well})
		}
	}
	f(s, Exited{p.ID, badly})
	if p.Since != 0 && p.Phase == Serving {
		c := s.clone()
		for q := range c.pointers() {
			if q.Since != 0 {
				q.Since = now
			}
		}
		f(c, Exited{p.ID, badly})
	}
}

var well, badly = Exit{Kind: ByStatus}, Exit{Kind: ByStatus, Code: 1}

func (s *Service) pointers() func(func(*Proc) bool) {
	return func(yield func(*Proc) bool) {
		for i := range s.Inst {
			in := &s.Inst[i]
			ps := []*Proc{&in.Main, &in.Next}
			for k := range in.Old {
				ps = append(ps, &in.Old[k])
			}
			for _, p := range ps {
				if p.ID != 0 && !yield(p) {
					return
				}
			}
		}
	}
}

func (w *world) fail(s Service, e Event, to Service, effects []Effect, why string) {
	w.fails++
	st, tt := &story{s: s, now: now}, &story{s: to, now: now}
	if w.fails > 2 {
		return
	}
	w.Errorf("%s\n  %v\n  %T%+v\n  %v\n  %v", why, st, e, e, tt, effects)
}

func (w *world) check(s Service, e Event, to Service, effects []Effect) {
	for _, c := range invariants {
		if why := c(s, e, to, effects); why != "" {
			w.fail(s, e, to, effects, why)
		}
	}
}

// What must hold on every transition.
var invariants = []func(s Service, e Event, to Service, effects []Effect) string{
	mainUntouched, effectsNameTheLiving, procsAreKept, jobsAreKept, neverForgotten, currentIsGood, nextHasItsTurn,
	rolesAndPhases, placesAreBounded, aloneIsAlone, wantIsObeyed, killIsLast, quiet, buildsAreKept,
	answersAreTrue, crashIsMadeGood,
}

func mainUntouched(s Service, e Event, to Service, effects []Effect) string {
	for i, in := range s.Inst {
		if in.Main.ID == 0 || to.Inst[i].Main.ID == in.Main.ID {
			continue
		}
		a, asked := e.(Asks)
		_, found := e.(Found)
		switch {
		case asked && (a.Job.Verb == Stop || a.Job.Verb == Restart || in.Main.Stopping):
		case to.Inst[i].Done && about(e) == in.Next.ID: // a oneshot's work is its bake
		case to.Inst[i].Main.ID != 0 && to.Inst[i].Main.ID == in.Next.ID && in.Next.Phase == Baking:
		case in.Main.due(now), found, about(e) == in.Main.ID:
		case to.Target != 0 && to.alone(in.Gen, to.goal()):
		default:
			return "Main is never told to go before Next has baked"
		}
	}
	for _, f := range effects {
		_, kill := e.(Kills)
		if f, ok := f.(Signal); ok && to.Find(f.ID).Phase <= Serving && !kill {
			return "only those who leave are signalled"
		}
	}
	return ""
}

func about(e Event) Invocation {
	switch e := e.(type) {
	case Started:
		return e.ID
	case NotStarted:
		return e.ID
	case Said:
		return e.ID
	case Exited:
		return e.ID
	case Gone:
		return e.ID
	}
	return 0
}

func effectsNameTheLiving(_ Service, _ Event, to Service, effects []Effect) string {
	for _, f := range effects {
		id := Invocation(0)
		switch f := f.(type) {
		case Spawn:
			id = f.ID
		case Signal:
			id = f.ID
		case Steer:
			id = f.ID
		default:
			continue
		}
		if to.Find(id).ID == 0 {
			return "no effect but Forget names a process that is forgotten"
		}
	}
	return ""
}

func procsAreKept(s Service, e Event, to Service, effects []Effect) string {
	var spawned, forgotten tally
	for _, f := range effects {
		switch f := f.(type) {
		case Spawn:
			spawned.add(f.ID)
		case Forget:
			forgotten.add(f.ID)
		}
	}
	for p := range s.Procs() {
		kept := to.Find(p.ID).ID != 0
		if kept == (forgotten.of(p.ID) == 1) || spawned.of(p.ID) != 0 {
			return "a process is kept or forgotten"
		}
		_, found := e.(Found)
		_, gone := e.(Gone)
		_, not := e.(NotStarted)
		if !kept && !found && !(about(e) == p.ID && (gone || not)) {
			return "only its end makes a process forgotten"
		}
	}
	var ids tally
	for p := range to.Procs() {
		if ids.of(p.ID) > 0 || s.Find(p.ID).ID == 0 && spawned.of(p.ID) != 1 {
			return "every process is spawned once"
		}
		ids.add(p.ID)
	}
	return ""
}

type tally []Invocation

func (t *tally) add(id Invocation) { *t = append(*t, id) }

func (t tally) of(id Invocation) (n int) {
	for _, i := range t {
		if i == id {
			n++
		}
	}
	return n
}

func jobsAreKept(s Service, e Event, to Service, effects []Effect) string {
	count := map[JobID]int{}
	add := func(n int, js ...Job) {
		for _, j := range js {
			for _, id := range j.IDs() {
				count[id] += n
			}
		}
	}
	add(1, s.Job, s.Queue)
	add(-1, to.Job, to.Queue)
	if a, ok := e.(Asks); ok {
		add(1, a.Job)
	}
	for _, f := range effects {
		if f, ok := f.(Finish); ok {
			for _, id := range f.Jobs {
				count[id]--
			}
		}
	}
	for id, n := range count {
		if n != 0 && id != 0 {
			return fmt.Sprintf("job %d finishes exactly once", id)
		}
	}
	if to.Job.ID == 0 && (to.Queue.ID != 0 || to.Target != 0) {
		return "a queue or a rollout has a job"
	}
	return ""
}

// neverForgotten: something will happen, or there is nothing to happen.
func neverForgotten(_ Service, _ Event, to Service, _ []Effect) string {
	d, procs := to.Deadline(), len(slices.Collect(to.Procs()))
	if d != 0 && d <= now {
		return "the timer never spins"
	}
	for p := range to.Procs() {
		if p.By == 0 && !(p.Phase == Serving || p.Phase == Stuck) {
			return "every phase but Serving and Stuck has a deadline"
		}
		if p.By > p.Last || p.Ping != 0 && p.Phase != Baking && p.Phase != Serving {
			return "no deadline is put off for ever, and the watchdog watches what serves"
		}
	}
	if sub := to.SubState(); d == 0 && procs == 0 && sub != "dead" && sub != "failed" && sub != "exited" {
		return "every state that is not final has a process or a deadline"
	}
	for i, in := range to.Inst {
		if in.Main.ID == 0 && in.Due != 0 && in.Due <= now && to.mayFill(i) {
			return "what is due is done"
		}
	}
	return ""
}

func currentIsGood(_ Service, _ Event, to Service, _ []Effect) string {
	b := to.Build(to.Current)
	if b == nil || b.Baked {
		return ""
	}
	gens := []Generation{to.Target}
	for _, in := range to.Inst {
		gens = append(gens, in.Gen, in.Main.Gen, in.Next.Gen)
	}
	for _, c := range to.Builds {
		if c.Baked && slices.Contains(gens, c.Gen) {
			return "Current has baked, or nothing that runs or may run has"
		}
	}
	return ""
}

func nextHasItsTurn(_ Service, _ Event, to Service, _ []Effect) string {
	for i, in := range to.Inst {
		if in.Next.ID != 0 && (to.turnOf() != i || in.Next.Gen != to.goal()) {
			return "Next is what the rollout waits for"
		}
	}
	return ""
}

func rolesAndPhases(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if in.Main.ID != 0 && (in.Main.Phase > Serving || in.Main.Gen != in.Gen || in.Due != 0 || in.Done) {
			return "Main comes up or serves, with the instance's build"
		}
		if in.Done && (in.Due != 0 || to.life(in.Gen).Type != Oneshot) {
			return "what is done is not due"
		}
		if in.Next.ID != 0 && in.Next.Phase > Baking {
			return "Next comes up"
		}
		for _, p := range in.Old {
			if p.Phase < Settling {
				return "Old leaves"
			}
		}
	}
	return ""
}

func placesAreBounded(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if len(in.Old) > to.life(to.Current).MaxDraining+3 {
			return "at most max_draining + 3 leave"
		}
	}
	return ""
}

func aloneIsAlone(s Service, _ Event, to Service, effects []Effect) string {
	for _, f := range effects {
		f, ok := f.(Spawn)
		if !ok {
			continue
		}
		in := to.Inst[f.Inst]
		n := len(in.Old)
		for _, p := range []Proc{in.Main, in.Next} {
			if p.ID != 0 {
				n++
			}
		}
		if n > 1 && to.alone(in.Gen, in.Gen) {
			return "what cannot overlap has its place alone"
		}
	}
	return ""
}

func wantIsObeyed(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if to.Want == Down && (in.Main.ID != 0 || in.Next.ID != 0 || in.Due != 0) {
			return "down is down"
		}
		if to.Want == Down && slices.ContainsFunc(in.Old, func(p Proc) bool { return p.Phase == Settling }) {
			return "a stop waits for nothing to settle"
		}
	}
	if to.Want == Down && to.Job.ID != 0 && to.Job.Verb != Stop {
		return "nothing but a stop goes on in what is to be down"
	}
	return ""
}

func killIsLast(s Service, e Event, to Service, effects []Effect) string {
	for _, f := range effects {
		f, ok := f.(Signal)
		if !ok || f.Signal != syscall.SIGKILL || s.Find(f.ID).Phase >= Aborted {
			continue
		}
		if p := to.Find(f.ID); to.life(p.Gen).KillMode != Mixed || p.Exit.Kind == NotExited {
			return "SIGKILL only after the kill signal, or for what a main process left behind"
		}
	}
	return ""
}

// quiet: all that follows from an event has been done with it.
func quiet(_ Service, _ Event, to Service, _ []Effect) string {
	if next, effects := Step(to, now, Gone{1 << 40}); len(effects) != 0 || next.LastInv != to.LastInv || next.Job.ID != to.Job.ID {
		return fmt.Sprint("news of a stranger changes nothing, but: ", effects)
	}
	return ""
}

func buildsAreKept(_ Service, _ Event, to Service, _ []Effect) string {
	for p := range to.Procs() {
		if to.Build(p.Gen) == nil {
			return "every process has its build"
		}
	}
	for _, g := range []Generation{to.Current, to.Target, to.Queue.Gen} {
		if g != 0 && to.Build(g) == nil {
			return "every generation that is named has its build"
		}
	}
	return ""
}

func answersAreTrue(s Service, e Event, to Service, effects []Effect) string {
	jobs := []Job{s.Job, s.Queue}
	if a, ok := e.(Asks); ok {
		jobs = append(jobs, a.Job)
	}
	for _, f := range effects {
		f, ok := f.(Finish)
		if !ok {
			continue
		}
		verb := jobs[slices.IndexFunc(jobs, func(j Job) bool { return slices.Contains(j.IDs(), f.Jobs[0]) })].Verb
		switch {
		case f.Result == Done && verb == Stop && len(slices.Collect(to.Procs())) > 0:
			return "stopped is stopped"
		case f.Result == Done && verb != Stop && to.Target == 0 && (to.Want != Up || !to.up()):
			return "up is up"
		case f.Result == Done && verb == Reload && (to.Current != s.Target || !to.Build(to.Current).Baked || to.Inst[0].Gen != s.Target):
			return "reloaded is reloaded, and baked"
		case f.Result == Failed && verb == Reload && s.Current != 0 && s.Build(s.Current).Baked && to.Current != s.Current:
			return "what failed is not kept"
		}
	}
	return ""
}

func crashIsMadeGood(s Service, e Event, to Service, _ []Effect) string {
	x, ok := e.(Exited)
	if !ok || x.Exit == well {
		return ""
	}
	for i, in := range s.Inst {
		l := s.life(in.Gen)
		if x.ID == in.Main.ID && in.Main.Phase == Serving && in.Main.Since == 1 && l.Restart == OnFailure &&
			l.Burst == 0 && !to.alone(in.Gen, in.Gen) && !(to.turnOf() == i && to.alone(in.Gen, to.goal())) && len(in.Old) <= l.MaxDraining && to.Inst[i].Main.ID == 0 {
			return "the first crash after health is made good at once, however many drain"
		}
	}
	return ""
}

// endings: whatever has happened, these come out right.
func (w *world) endings(s Service) {
	ask := Asks{Job{ID: 99, Verb: Stop}, nil}
	var all []Invocation
	for p := range s.Procs() {
		all = append(all, p.ID)
	}
	for _, e := range []struct {
		what string
		e    Event
		good bool
		ok   func(Service) bool
	}{
		{"stop ends down", ask, true, func(s Service) bool { return s.SubState() == "dead" && len(slices.Collect(s.Procs())) == 0 }},
		{"stop and start end in one build", ask, true, w.oneBuild},
		{"stop ends, also when nothing goes", ask, false, func(s Service) bool { return s.Job.ID == 0 }},
		{"jobs end in a good world", Gone{1 << 40}, true, func(s Service) bool { return s.Job.ID == 0 }},
		{"jobs end in a bad world", Gone{1 << 40}, false, func(s Service) bool { return s.Job.ID == 0 }},
		{"left alone, it ends in one Main an instance", Gone{1 << 40}, true, w.oneMain},
		{"adopted, it ends in one Main an instance", Found{all}, true, w.oneMain},
		{"adopted without processes, it ends in one Main an instance", Found{}, true, w.oneMain},
	} {
		end, _ := Step(s, now, e.e)
		end = drive(end, e.good)
		if !e.ok(end) {
			w.fail(s, e.e, end, nil, e.what)
		}
	}
}

// oneBuild: stop and start leave no trace of a rollout that was cut short.
func (w *world) oneBuild(s Service) bool {
	s, _ = Step(s, far, Asks{Job{ID: 100, Verb: Start}, &Build{Spec: w.specs[0]}})
	s = drive(s, true)
	return w.oneMain(s) && !slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Gen != s.Current })
}

func (w *world) oneMain(s Service) bool {
	for _, in := range s.Inst {
		one := in.Main.ID != 0 && in.Main.Phase == Serving && in.Next.ID == 0 && len(in.Old) == 0
		one = one || in.Done && in.Main.ID == 0 && in.Next.ID == 0 && len(in.Old) == 0
		gaveUp := in.Main.ID == 0 && in.Due == 0 && (w.life.Restart == No || w.life.Burst > 0 || in.Result == Success)
		if s.Want == Up && !one && !gaveUp || s.Want == Down && in.Main.ID != 0 {
			return false
		}
	}
	return s.Job.ID == 0
}

// drive lets a good world do what is asked of it, or a bad one nothing at all.
func drive(s Service, good bool) Service {
	at := now
	for range 80 {
		var e Event
		for p := range s.Procs() {
			switch {
			case !good:
			case p.Phase == Spawning:
				e = Started{p.ID, 4242}
			case p.Phase == Starting && s.life(p.Gen).Type == Oneshot, p.Stopping && p.Phase <= Serving:
				e = Exited{p.ID, well}
			case p.Phase == Starting:
				e = Said{p.ID, Notice{Ready: true}}
			case p.Phase >= Asked:
				e = Gone{p.ID}
			}
		}
		if e == nil {
			d := s.Deadline()
			if d == 0 || s.Job.ID == 0 && (!good || settled(s)) {
				return s
			}
			at, e = max(at, d), Elapsed{}
			for p := range s.Procs() {
				if good && p.Ping == d {
					at, e = d-1, Said{p.ID, Notice{Ping: true}} // in time
				}
			}
		}
		s, _ = Step(s, at, e)
	}
	return s
}

// settled: what serves will do so until it has run for as long as it may.
func settled(s Service) bool {
	for p := range s.Procs() {
		if p.Phase != Serving || p.Stopping {
			return false
		}
	}
	return !slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Due != 0 })
}

// canon is s with all that does not matter made equal: numbers given anew by
// place, times only armed or not, an Old of any build (the builds live alike).
func (w *world) canon(s Service) Service {
	s = s.clone()
	gens := map[Generation]Generation{0: 0}
	gen := func(g *Generation) {
		if _, ok := gens[*g]; !ok {
			gens[*g] = Generation(len(gens))
		}
		*g = gens[*g]
	}
	for i := range s.Inst {
		in := &s.Inst[i]
		for k, p := range in.Old {
			in.Old[k] = Proc{ID: 1, Gen: s.Current, Phase: p.Phase, By: armed(p.By), Exit: Exit{Kind: p.Exit.Kind}}
			if p.ID == s.Job.Who.ID {
				in.Old[k].PID = 1 // the one that its job waits for
			}
		}
		slices.SortFunc(in.Old, func(a, b Proc) int {
			return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Exit.Kind, b.Exit.Kind))
		})
	}
	s.Job.Who = Proc{}
	gen(&s.Current)
	gen(&s.Target)
	gen(&s.Queue.Gen)
	s.LastInv = 0
	for i := range s.Inst {
		in := &s.Inst[i]
		gen(&in.Gen)
		in.Due = armed(in.Due)
		in.Crashes = min(in.Crashes, 1)
		in.Again, in.Starts, in.Window, in.Exit = 0, min(in.Starts, w.life.Burst), min(in.Window, 1), Exit{}
		if in.Result != Success && in.Result != "" {
			in.Result = ExitCode
		}
	}
	for p := range s.pointers() {
		s.LastInv++
		p.ID = s.LastInv
		gen(&p.Gen)
		p.By, p.Ping = armed(p.By), armed(p.Ping)
		p.Last = p.By
		if p.Since != 0 {
			p.Since = 1
		}
		if p.PID == 1 {
			s.Job.Who = Proc{ID: p.ID}
		}
		p.PID = 0
	}
	s.LastGen = Generation(len(gens) - 1)
	s.Builds = slices.DeleteFunc(s.Builds, func(b Build) bool { _, ok := gens[b.Gen]; return !ok })
	for i := range s.Builds {
		gen(&s.Builds[i].Gen)
	}
	slices.SortFunc(s.Builds, func(a, b Build) int { return cmp.Compare(a.Gen, b.Gen) })
	id := JobID(0)
	for _, j := range []*Job{&s.Job, &s.Queue} {
		if j.ID == 0 {
			continue
		}
		id++
		j.ID = id
		for k := range j.Also {
			id++
			j.Also[k] = id
		}
		if j.Why != "" {
			j.Why = WhySpawn
		}
	}
	s.Job.Gen = s.Target
	return s
}

func armed(t Time) Time {
	switch {
	case t == 0:
		return 0
	case t <= now:
		return past
	}
	return far
}

// key is a canonical Service as a string.
func (w *world) key(s Service) string {
	b := make([]byte, 0, 128)
	num := func(ns ...int) {
		for _, n := range ns {
			b = strconv.AppendInt(b, int64(n), 36)
			b = append(b, ' ')
		}
	}
	proc := func(p Proc) {
		if p.ID != 0 {
			num(int(p.Gen), int(p.Phase), int(min(p.Since, 1)), int(min(p.By, 1)), int(min(p.Ping, 1)))
			b = strconv.AppendBool(b, p.Stopping)
			b = append(b, p.Exit.Kind...)
		}
		b = append(b, ',')
	}
	num(int(s.Want), int(s.Current), int(s.Target), int(s.Roll), int(s.Job.Verb), len(s.Job.Also), int(s.Job.Who.ID), int(s.Queue.Gen), len(s.Queue.Also))
	for _, u := range s.Builds {
		b = strconv.AppendBool(b, u.Baked)
		b = strconv.AppendBool(b, u.Spec.Life.Overlap)
	}
	for _, in := range s.Inst {
		b = append(b, '|')
		num(int(in.Gen), int(in.Due), in.Crashes, in.Starts)
		b = strconv.AppendBool(b, in.Done)
		if !w.lazy {
			b = append(b, in.Result...)
		}
		proc(in.Main)
		proc(in.Next)
		for _, p := range in.Old {
			proc(p)
		}
	}
	return string(b)
}
