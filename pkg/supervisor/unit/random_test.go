package unit

import (
	"flag"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

var steps = flag.Int("steps", 200_000, "how many random steps are taken")

// The walk sees every state of small worlds. This sees some of large ones: more
// instances, builds that live differently, real times, news that comes late or
// twice. The same must hold on every transition.
func TestRandomSteps(t *testing.T) {
	n := *steps
	if raced {
		n /= 10
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &world{T: t, life: Life{Restart: OnFailure}}
	for i := uint64(0); n > 0 && w.fails == 0; i++ {
		n -= w.randomLife(rand.New(rand.NewPCG(seed, i)), min(n, 500))
	}
}

// randomLife lets one service live through some events, and ends it.
func (w *world) randomLife(r *rand.Rand, n int) int {
	s := Service{Inst: make([]Instance, 1+r.IntN(3))}
	for i := 0; i < n && w.fails == 0; i++ {
		var e Event
		s, e = w.randomEvent(r, s, i+1)
		to, effects := Step(s, now, e)
		w.check(s, e, to, effects)
		s = to
	}
	end, _ := Step(s, now, asks(latest, Stop, nil, 0))
	if end = drive(end, true); end.SubState() != "dead" || len(processes(end)) > 0 {
		w.fail(s, Elapsed{}, end, nil, "stop ends down")
	}
	return n
}

func processes(s Service) (all []Proc) {
	for p := range s.Procs() {
		all = append(all, p)
	}
	return all
}

func (w *world) randomEvent(r *rand.Rand, s Service, at int) (Service, Event) {
	procs := processes(s)
	switch d := s.Deadline(); {
	case r.IntN(12) == 0:
		return s, w.randomAsk(r, at)
	case r.IntN(100) == 0:
		return s, w.randomFound(r, procs)
	case r.IntN(60) == 0:
		return s, w.randomBroken(r, procs)
	case d != 0 && r.IntN(4) == 0:
		return shift(s, d-now), Elapsed{}
	case len(procs) == 0:
		return s, w.randomAsk(r, at)
	}
	pass := Time(r.IntN(int(time.Second)))
	if d := s.Deadline(); d != 0 {
		pass = min(pass, d-now-1) // the timer comes in time
	}
	s = shift(s, max(0, pass))
	p := procs[r.IntN(len(procs))]
	if r.IntN(20) == 0 {
		p.ID = Invocation(1 + r.IntN(int(s.LastInv))) // it may be long forgotten
	}
	return s, w.randomNews(r, p)
}

func (w *world) randomAsk(r *rand.Rand, at int) Event {
	switch r.IntN(16) {
	case 0:
		return Clears{}
	case 1:
		return Kills{syscall.SIGUSR1, KillAll}
	case 2:
		return Named{r.IntN(4) > 0}
	}
	if at > 300 && r.IntN(40) == 0 {
		return asks(at, End, nil, 0)
	}
	verbs := []Verb{Start, Start, Reload, Reload, Reload, Reload, Restart, Stop, Scale}
	spec := &Spec{Name: "api", Life: w.randomLives(r), Sockets: w.randomSockets(r)}
	return asks(at, verbs[r.IntN(len(verbs))], spec, 1+r.IntN(4))
}

func (w *world) randomSockets(r *rand.Rand) (sockets []*Socket) {
	for _, k := range []*Socket{shared(80), shared(81), own("/run/%s"), own("/var/%s")}[r.IntN(2):] {
		if r.IntN(3) == 0 && !slices.ContainsFunc(sockets, func(o *Socket) bool { return o.Name == k.Name }) {
			sockets = append(sockets, k)
		}
	}
	return sockets
}

// randomBroken: what holds a socket is one process, or all.
func (w *world) randomBroken(r *rand.Rand, procs []Proc) Event {
	b := Broken{Socket: "http"}
	one := r.IntN(2) == 0
	for _, p := range procs {
		if !one || r.IntN(len(procs)) == 0 {
			b.Procs = append(b.Procs, p.ID)
		}
	}
	return b
}

// randomLives draws a Life. Whether it is a oneshot is the service's own affair,
// but all else may change from build to build.
func (w *world) randomLives(r *rand.Rand) Life {
	l := usual
	l.ResetSec = 100 // as shift keeps no more of the past than that
	l.Type = []Type{Exec, Notify, Oneshot}[r.IntN(3)]
	l.Overlap, l.Steer, l.RemainAfterExit = r.IntN(3) > 0, r.IntN(3) == 0, r.IntN(2) == 0
	l.Restart = []Policy{No, Always, OnSuccess, OnFailure, OnAbnormal, OnAbort, OnWatchdog}[r.IntN(7)]
	l.KillMode = []KillMode{ControlGroup, Mixed, ProcessOnly}[r.IntN(3)]
	l.Burst, l.Empty = r.IntN(2)*3, time.Duration(r.IntN(2))*time.Second
	l.Canary, l.Surge, l.Instances = r.IntN(3)*50, r.IntN(4), r.IntN(5)
	l.Watchdog = time.Duration(r.IntN(2)) * time.Second
	l.Runtime = time.Duration(r.IntN(2)) * time.Minute
	return l
}

func (w *world) randomFound(r *rand.Rand, procs []Proc) Event {
	var alive []Invocation
	for _, p := range procs {
		if r.IntN(3) > 0 {
			alive = append(alive, p.ID)
		}
	}
	return Found{Alive: alive, Lost: r.IntN(2) == 0}
}

func (w *world) randomNews(r *rand.Rand, p Proc) Event {
	switch r.IntN(10) {
	case 0, 1:
		return Started{p.ID, 4242}
	case 2, 3, 4:
		return Said{p.ID, Notice{Ready: true, Ping: r.IntN(2) == 0, Extend: time.Duration(r.Int64N(int64(time.Hour)))}}
	case 5:
		return Said{p.ID, Notice{Stopping: r.IntN(2) == 0, Ping: true, Trigger: r.IntN(4) == 0}}
	case 6:
		return Exited{p.ID, []Exit{well, badly, {Kind: ByKill, Signal: syscall.SIGSEGV}, {Kind: ByDump, Signal: syscall.SIGABRT}}[r.IntN(4)]}
	case 7:
		if p.Phase == Spawning {
			return NotStarted{p.ID, Exit{Kind: NotRun}}
		}
	case 8:
		return Traffic{p.ID, r.IntN(3), now - Time(r.Int64N(int64(time.Second)))}
	}
	return Gone{p.ID}
}

// shift lets d pass: now stays, and all times come nearer.
func shift(s Service, d Time) Service {
	s = s.clone()
	move := func(ts ...*Time) {
		for _, t := range ts {
			if *t != 0 {
				*t = max(1, *t-d)
			}
		}
	}
	for i := range s.Inst {
		move(&s.Inst[i].Due, &s.Inst[i].Window)
	}
	for p := range s.pointers() {
		move(&p.By, &p.Last, &p.Ping, &p.Since, &p.Renew)
	}
	return s
}
