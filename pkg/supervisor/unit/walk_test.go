package unit

import (
	"cmp"
	"flag"
	"fmt"
	"reflect"
	"runtime/debug"
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
	gc := debug.SetGCPercent(1600) // there is much garbage, and it is small
	t.Cleanup(func() { debug.SetGCPercent(gc) })
	for _, w := range []world{
		// who joins whom is walked in "who asked when"; with -deep also here
		{name: "overlap, steered", n: 1, old: 2, waiters: min(*deep, 1), life: Life{Type: Notify, Overlap: true, Steer: true, Canary: 5, Restart: OnFailure, MaxDraining: 2}},
		{name: "exec, start limit", n: 1, ends: true, old: 2, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, Burst: 2, MaxDraining: 2}},
		{name: "no overlap, steered", n: 1, ends: true, old: 2, waiters: 1, life: Life{Type: Notify, Steer: true, Restart: OnFailure, MaxDraining: 2}},
		{name: "to no overlap and back", n: 1, old: 2, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, mixed: true, sockets: true},
		{name: "no restart, mixed kill mode", n: 1, ends: true, old: 2, life: Life{Type: Exec, Overlap: true, Restart: No, MaxDraining: 1, KillMode: Mixed}},
		{name: "watchdog and runtime", n: 1, old: 2, life: Life{Type: Notify, Overlap: true, Restart: Always, MaxDraining: 1, Watchdog: hour, Runtime: 2 * hour}},
		{name: "oneshot", n: 1, ends: true, old: 2, life: Life{Type: Oneshot, Restart: OnFailure, MaxDraining: 1}},
		{name: "oneshot that remains, overlap", n: 1, ends: true, old: 2, life: Life{Type: Oneshot, RemainAfterExit: true, Overlap: true, Restart: No, MaxDraining: 1}},
		{name: "two instances", n: 2, old: 1, most: 16_000, sample: 23, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "two at once, steered", n: 2, old: 1, most: 16_000, sample: 23, life: Life{Type: Exec, Overlap: true, Steer: true, Surge: 2, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "one or two", n: 1, old: 1, most: 16_000, sample: 23, scale: 2, sockets: true, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "one or two, no restart", n: 1, old: 1, sample: 23, scale: 2, life: Life{Type: Exec, Overlap: true, Restart: No, MaxDraining: 1}, lazy: true},
		{name: "broken, steered", n: 1, old: 1, sockets: true, breaks: true, lazy: true, life: Life{Type: Notify, Overlap: true, Steer: true, Restart: OnFailure, MaxDraining: 1}},
		{name: "broken, no overlap", n: 1, ends: true, old: 1, sockets: true, own: true, breaks: true, life: Life{Type: Exec, Steer: true, Restart: No, MaxDraining: 1}},
		{name: "two, broken", n: 2, old: 1, most: 4000, sample: 101, sockets: true, breaks: true, life: Life{Type: Exec, Overlap: true, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "who asked when", n: 1, ends: true, old: 1, waiters: 2, aged: true, lazy: true, life: Life{Type: Exec, Overlap: true, Restart: No, MaxDraining: 1}},
		{name: "removed", n: 1, ends: true, old: 1, sockets: true, removes: true, life: Life{Type: Notify, Overlap: true, Restart: OnFailure, MaxDraining: 1}},
		{name: "removed, no overlap", n: 1, ends: true, old: 1, sockets: true, own: true, removes: true, life: Life{Type: Exec, Steer: true, Restart: Always, MaxDraining: 1}},
		{name: "two, no overlap", n: 2, old: 2, sample: 23, life: Life{Type: Exec, Steer: true, Restart: OnFailure, MaxDraining: 1}, lazy: true},
		{name: "start limit, steered", n: 1, old: 1, ends: true, life: Life{Type: Exec, Overlap: true, Steer: true, Restart: OnFailure, Burst: 1, MaxDraining: 1}, lazy: true},
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
	most    int  // the nearest states only, twice as many for each -deep; 0: all
	sample  int  // run the endings from each such state only
	scale   int  // how many instances may be asked for; 0: nobody asks
	lazy    bool // leave out what the walks of one instance have tried in full
	mixed   bool // builds differ in whether they overlap and are steered, and in their sockets
	sockets bool // one that all instances share
	own     bool // one for each, as well
	breaks  bool // sockets die
	ends    bool // supervisord ends; elsewhere that is looked at as an ending only
	aged    bool // whose build is too old for whom is looked at
	removes bool // daemon-reload no longer names it, or does again
	life    Life
	seen    func(s Service, e Event, to Service)
	specs   []*Spec
	fails   int
}

func (w *world) walk() {
	l := &w.life
	l.RestartSec, l.RestartMax, l.ResetSec, l.Interval = hour, hour, 100, hour
	l.Start, l.Bake, l.Settle, l.Empty, l.Stop, l.Abort, l.Kill, l.ExtendMax = hour, hour, hour, hour, hour, hour, hour, hour
	l.KillSignal = syscall.SIGTERM
	w.specs = []*Spec{{Life: *l}}
	if w.sockets {
		w.specs[0].Sockets = []*Socket{shared(80)}
	}
	if w.own {
		w.specs[0].Sockets = append(w.specs[0].Sockets, own("/run/%s"))
	}
	if w.mixed {
		l.Overlap, l.Steer = !l.Overlap, !l.Steer
		w.specs = append(w.specs, &Spec{Life: *l, Sockets: []*Socket{shared(81)}})
	}
	first := Service{Inst: make([]Instance, w.n)}
	seen := map[string]bool{w.key(first): true}
	todo, transitions := []Service{first}, 0
	for i := 0; i < len(todo) && w.fails < 1; i++ {
		s := todo[i]
		if w.most > 0 && i == w.most<<*deep {
			break
		}
		if i > 200_000<<*deep {
			w.Fatalf("a small world has no end: %v", w.key(s))
		}
		w.events(s, func(s Service, e Event) {
			transitions++
			before := ""
			if transitions%64 == 0 {
				before = raw(s)
			}
			to, effects := Step(s, now, e)
			if transitions%64 == 0 && (raw(s) != before || !same(s, e, to, effects)) {
				w.fail(s, e, to, effects, "Step is a function")
			}
			w.check(s, e, to, effects)
			if transitions%again == 0 {
				w.again(s, e, to, effects)
			}
			if w.seen != nil {
				w.seen(s, e, to)
			}
			c := w.canon(to)
			if k := w.key(c); !seen[k] {
				if why := quiet(s, e, to, effects); why != "" {
					w.fail(s, e, to, effects, why)
				}
				if olds(c) <= w.old {
					seen[k] = true
					todo = append(todo, c)
				}
			}
		})
		w.late(s)
		if i%max(w.sample, 1) == 0 {
			w.endings(s, i%(7*max(w.sample, 1)) == 0)
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
	for size := 1; size <= w.scale; size++ {
		if w.patient(s, Scale) {
			f(s, asks(latest, Scale, nil, size))
		}
	}
	for _, v := range []Verb{Start, Stop, Restart, Reload, End} {
		skip := w.lazy && !w.aged && v == Restart || v == End && !w.ends
		if w.patient(s, v) && !skip {
			for _, spec := range w.specs {
				f(s, asks(latest, v, spec, 0))
			}
		}
	}
	for i := range s.Inst {
		if s.Inst[i].Due > now {
			c := s.clone()
			c.Inst[i].Due = now
			f(c, Elapsed{})
		}
		if s.Inst[i].Main.Renew > now {
			c := s.clone()
			c.Inst[i].Main.Renew = now
			f(c, Elapsed{})
		}
	}
	if w.removes {
		f(s, Named{false})
		f(s, Named{true})
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
		p.By, p.Ping, p.Renew = min(p.By, now), min(p.Ping, now), min(p.Renew, now)
	}
	f(c, Elapsed{}) // all at once
	f(s, Clears{})
	f(s, Kills{syscall.SIGUSR1, KillAll})
	for _, lost := range []bool{true, false} {
		f(s, Found{Alive: all, Lost: lost})
		f(s, Found{Lost: lost})
	}
	if w.breaks {
		f(s, Broken{"http", all})
	}
	for i := range all {
		if !w.lazy {
			f(s, Found{Alive: all[i : i+1], Lost: true})
			f(s, Found{Alive: all[i : i+1]})
		}
	}
}

// patient keeps the number of those who share a job finite.
func (w *world) patient(s Service, v Verb) bool {
	switch merge[v][s.Job.Verb] {
	case join, absorb, outlast:
		return len(s.Job.IDs()) <= w.waiters || v == Start && s.up()
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
	if w.breaks && !(w.lazy && w.n > 1) && p.Phase <= Serving {
		f(s, Broken{"http", []Invocation{p.ID}})
	}
	if p.Phase.Settles() {
		f(s, Traffic{p.ID, 0, now})
		f(s, Traffic{p.ID, 1, now})
		f(s, Traffic{p.ID, 1, now - Time(HungAfter)})
	}
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
	if p.Exit.Kind != NotExited {
		f(s, Exited{p.ID, p.Exit})
	}
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

// An ending is what is tried in a state, in a good world or in a bad one, and how
// that comes out.
type ending struct {
	what string
	e    Event
	good bool
	ok   func(Service) bool
}

// endings: whatever has happened, these come out right. Those that begin like one
// of the others are for fewer states.
func (w *world) endings(s Service, more bool) {
	stop := asks(latest, Stop, nil, 0)
	var all []Invocation
	for p := range s.Procs() {
		all = append(all, p.ID)
	}
	idle := func(s Service) bool { return s.Job.ID == 0 }
	list := []ending{
		{"stop ends down", stop, true, isDown},
		{"stop and start end in one build", stop, true, w.oneBuild},
		{"stop ends, also when nothing goes", stop, false, idle},
		{"jobs end in a good world", Gone{1 << 40}, true, idle},
		{"jobs end in a bad world", Gone{1 << 40}, false, idle},
		{"left alone, it ends in one Main an instance", Gone{1 << 40}, true, w.oneMain},
		{"found, it ends in one Main an instance", Found{Alive: all}, true, w.oneMain},
		{"lost and found, it ends in one Main an instance", Found{Alive: all, Lost: true}, true, w.oneMain},
		{"lost without processes, it ends in one Main an instance", Found{Lost: true}, true, w.oneMain},
		{"what is closed stays so, and nothing else does", Gone{1 << 40}, true, func(end Service) bool { return s.closesFor(end) }},
	}
	if more {
		list = append(list, w.rarer(all)...)
	}
	for _, e := range list {
		end, _ := Step(s, now, e.e)
		end = drive(end, e.good)
		if !e.ok(end) {
			w.fail(s, e.e, end, nil, e.what)
		}
	}
}

func (w *world) rarer(all []Invocation) []ending {
	end, broken := asks(latest, End, nil, 0), Broken{"http", all}
	idle := func(s Service) bool { return s.Job.ID == 0 }
	return []ending{
		{"the end ends down", end, true, func(s Service) bool { return isDown(s) && s.Want == Ended }},
		{"the end ends, also when nothing goes", end, false, idle},
		{"what is removed goes on, or vanishes", Named{false}, true, func(s Service) bool { return w.oneMain(s) || s.vanished() }},
		{"what broke is replaced", broken, true, w.noneRuined},
		{"what broke is replaced, also when nothing goes", broken, false, idle},
	}
}

// closesFor: s was closed if and only if nobody serves in what came of it by itself. What
// can only go on by a miracle may see one here, and nobody knows yet what becomes of a
// job that waits for another, or of a start that is due in what was removed.
func (s Service) closesFor(end Service) bool {
	stuck := slices.ContainsFunc(processes(s), func(p Proc) bool { return p.Phase == Stuck })
	waits := s.Queue.ID != 0 || len(s.Job.Starts) > 0 || s.Removed && s.Job.ID != 0
	return stuck || waits || !s.steered() || !end.steered() || s.Closed() == (len(end.Shares()) == 0)
}

// oneBuild: stop and start leave no trace of a rollout that was cut short.
func (w *world) oneBuild(s Service) bool {
	s, _ = Step(s, far, asks(latest, Start, w.specs[0], 0))
	s = drive(s, true)
	if s.forbids(Start, &Build{}) != "" {
		return isDown(s)
	}
	return w.oneMain(s) && !slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Gen != s.Current })
}

func (w *world) oneMain(s Service) bool {
	for _, in := range s.Inst {
		one := in.Main.ID != 0 && in.Main.Phase == Serving && in.Next.ID == 0 && len(in.Old) == 0
		one = one || in.Done && in.Main.ID == 0 && in.Next.ID == 0 && len(in.Old) == 0
		gaveUp := in.Main.ID == 0 && in.Due == 0 && (w.removes || s.Removed || w.life.Restart == No || w.life.Burst > 0 || in.Result == Success)
		if s.Want == Up && !one && !gaveUp || s.Want != Up && in.Main.ID != 0 {
			return false
		}
	}
	return s.Job.ID == 0
}

func isDown(s Service) bool {
	return s.Want != Up && s.SubState() == "dead" && !s.lives()
}

// noneRuined: what serves has only sockets that live, unless nothing may be
// started any more.
func (w *world) noneRuined(s Service) bool {
	return w.oneMain(s) && (s.Removed || !slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Main.Ruined != "" }))
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
			case p.Phase.Settles() && !p.Empty:
				e = Traffic{p.ID, 0, at}
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
	for i, in := range s.Inst {
		if in.Due != 0 || s.mayRenew(i) {
			return false
		}
	}
	return true
}

// canon is s with all that does not matter made equal: numbers given anew by
// place, times only armed or not, an Old of any build (the builds live alike).
func (w *world) canon(s Service) Service {
	s = s.clone()
	canonOlds(&s)
	canonGenerations(&s)
	w.canonInstances(&s)
	canonProcs(&s)
	canonJobs(&s, w.aged)
	return s
}

// canonOlds leaves of each Old how it leaves, in an order of their own.
func canonOlds(s *Service) {
	for i := range s.Inst {
		in := &s.Inst[i]
		for k, p := range in.Old { // nothing is ruined for who leaves
			in.Old[k] = Proc{ID: 1, Gen: s.Current, Phase: p.Phase, By: armed(p.By), Exit: Exit{Kind: p.Exit.Kind}, Empty: p.Empty}
			if p.ID == s.Job.Who.ID {
				in.Old[k].PID = 1 // the one that its job waits for
			}
		}
		slices.SortFunc(in.Old, func(a, b Proc) int {
			return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Exit.Kind, b.Exit.Kind))
		})
	}
	s.Job.Who = Proc{}
}

// canonGenerations numbers the builds by where they are first named.
func canonGenerations(s *Service) {
	gens := map[Generation]Generation{0: 0}
	gen := func(g *Generation) {
		if _, ok := gens[*g]; !ok {
			gens[*g] = Generation(len(gens))
		}
		*g = gens[*g]
	}
	for _, g := range []*Generation{&s.Current, &s.Target, &s.Queue.Gen} {
		gen(g)
	}
	for i := range s.Inst {
		gen(&s.Inst[i].Gen)
	}
	for p := range s.pointers() {
		if p.Phase <= Serving {
			gen(&p.Gen)
		}
	}
	for p := range s.pointers() {
		if p.Phase > Serving {
			p.Gen = s.Current
		}
	}
	s.LastGen = Generation(len(gens) - 1)
	s.Builds = slices.DeleteFunc(s.Builds, func(b Build) bool { _, ok := gens[b.Gen]; return !ok })
	for i := range s.Builds {
		gen(&s.Builds[i].Gen)
	}
	slices.SortFunc(s.Builds, func(a, b Build) int { return cmp.Compare(a.Gen, b.Gen) })
	s.Job.Gen, s.Scaled = s.Target, 0 // the builds say no number here
}

// canonInstances cuts counters where more makes no difference.
func (w *world) canonInstances(s *Service) {
	for i := range s.Inst {
		in := &s.Inst[i]
		in.Due = armed(in.Due)
		in.Crashes = min(in.Crashes, 1)
		in.Again, in.Starts, in.Window, in.Exit = 0, min(in.Starts, w.life.Burst), min(in.Window, 1), Exit{}
		if in.Result != Success && in.Result != "" {
			in.Result = ExitCode
		}
	}
}

// canonProcs numbers the processes by place.
func canonProcs(s *Service) {
	s.LastInv = 0
	for p := range s.pointers() {
		s.LastInv++
		p.ID = s.LastInv
		p.By, p.Ping, p.Renew = armed(p.By), armed(p.Ping), armed(p.Renew)
		p.Fresh = false
		p.Last = p.By
		p.Since = min(p.Since, 1)
		if p.PID == 1 {
			s.Job.Who = Proc{ID: p.ID}
		}
		p.PID = 0
	}
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
			b = strconv.AppendBool(b, p.Empty)
			num(int(p.Gen), int(p.Phase), int(min(p.Since, 1)), int(min(p.By, 1)), int(min(p.Ping, 1)), int(p.Renew))
			b = strconv.AppendBool(b, p.Stopping)
			b = append(b, p.Exit.Kind...)
		}
		b = append(b, ',')
	}
	num(int(s.Want), s.Size, int(s.Current), int(s.Target), int(s.Roll), int(s.Job.Verb), s.Job.Ruins, int(s.Job.Who.ID), int(s.Queue.Gen))
	b = strconv.AppendBool(b, s.Removed)
	for _, ids := range [][]JobID{s.Job.IDs(), s.Queue.IDs()} {
		for _, id := range ids {
			num(int(id))
		}
		b = append(b, ';')
	}
	for _, u := range s.Builds {
		b = append(b, u.Release...)
		b = strconv.AppendBool(b, u.Baked)
		b = strconv.AppendBool(b, u.Spec.Life.Overlap)
	}
	for _, in := range s.Inst {
		b = append(b, '|')
		num(int(in.Gen), int(in.Due), in.Crashes, in.Starts)
		b = strconv.AppendBool(b, in.Done)
		b = strconv.AppendBool(b, in.Surplus)
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
