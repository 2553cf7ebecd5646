package service

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A kernel has what outlives an actor: the processes with all that they have said and
// nobody has taken yet, how they ended, the last record, and what was ordered in all. It
// can end the actor at any call that this makes of its world, before anything is done.
type kernel struct {
	*testing.T
	spec    *unit.Spec
	scripts []script
	epoch   time.Time
	gap     time.Duration // for which nobody rules
	kill    func(call int) bool

	mu      sync.Mutex
	calls   int
	rules   *reign
	record  []byte
	procs   map[unit.Invocation]*child
	entries map[unit.Invocation]bool // of procs, those that are kept
	ordered map[unit.Invocation]time.Time
	jobs    map[unit.JobID]*asked
	exits   map[unit.Invocation]unit.Exit // that were told
	doors   []unit.Door
	shares  unit.Steer
	kills   int
	wrong   []string
}

type asked struct {
	event  unit.Asks
	result *unit.Finish
}

// A reign is the time of one actor.
type reign struct {
	*Actor
	k    *kernel
	ctx  context.Context // done when the actor is dead
	over context.CancelFunc
}

// A child is a process that is kept, with what is known of it.
type child struct {
	fake
	id      unit.Invocation
	run     string // $INVOCATION_ID
	runs    int    // how often its program was started
	pending []Heard
	doomed  bool
	exit    *unit.Exit
	signals []syscall.Signal
	changed chan struct{}
}

func newKernel(t *testing.T, scripts []script, kill func(int) bool) *kernel {
	return &kernel{
		T: t, spec: &unit.Spec{Name: "api", Life: usual}, scripts: scripts, epoch: time.Now(), kill: kill,
		procs: map[unit.Invocation]*child{}, entries: map[unit.Invocation]bool{}, ordered: map[unit.Invocation]time.Time{}, jobs: map[unit.JobID]*asked{}, exits: map[unit.Invocation]unit.Exit{},
	}
}

// call is one call of the world by an actor, which may be its last.
func (r *reign) call() {
	r.k.mu.Lock()
	r.k.calls++
	dies := r.k.kill != nil && r.k.kill(r.k.calls)
	if dies {
		r.k.kills++
	}
	r.k.mu.Unlock()
	if dies {
		r.over()
		go r.k.reign()
		runtime.Goexit()
	}
}

func (r *reign) dead() bool { return r.ctx.Err() != nil }

func (r *reign) tell(m any) bool { return r.Ask(r.ctx, m) == nil }

// reign makes the next actor.
func (k *kernel) reign() {
	time.Sleep(k.gap)
	r := &reign{k: k}
	r.ctx, r.over = context.WithCancel(context.Background())
	w := World{
		Now:     func() unit.Time { return unit.Time(time.Hour + time.Since(k.epoch)) },
		Save:    r.save,
		Doors:   func(d []unit.Door) { r.call(); k.do(func() { k.doors = d }) },
		Steer:   func(s unit.Steer) { r.call(); k.do(func() { k.shares = s }) },
		Start:   r.start,
		Resume:  r.resume,
		Program: func(g unit.Generation, trace json.RawMessage) Program { r.call(); return kept(trace) },
		Release: func(id unit.Invocation) { r.call(); k.do(func() { delete(k.entries, id) }) },
		Settle: func(ctx context.Context, id unit.Invocation) {
			r.call()
			go r.tell(unit.Traffic{ID: id, Taken: r.world.Now()})
		},
		Changed: r.changed,
		Vanish:  func() {},
	}
	k.mu.Lock()
	record, alive := k.record, slices.Sorted(maps.Keys(k.entries))
	k.mu.Unlock()
	var rec Record
	if record == nil {
		r.Actor = New("api", unit.Service{Inst: make([]unit.Instance, 1)}, w)
	} else {
		if err := json.Unmarshal(record, &rec); err != nil {
			panic(err)
		}
		r.Actor = Resume("api", rec, unit.Found{Alive: alive}, w)
	}
	k.do(func() { k.rules = r })
	go func() {
		defer r.over()
		r.Actor.Run()
	}()
	for _, a := range k.unanswered(rec) {
		r.tell(a.event)
	}
}

// unanswered are the jobs that no actor has stored.
func (k *kernel) unanswered(rec Record) (all []*asked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(k.jobs)) {
		if a := k.jobs[id]; a.result == nil && !rec.Has(id) {
			all = append(all, a)
		}
	}
	return all
}

func (k *kernel) do(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (r *reign) save(rec Record) error {
	r.call()
	text, err := json.Marshal(rec)
	r.k.do(func() { r.k.record = text })
	return err
}

func (r *reign) changed(cs []unit.Change, before unit.Service, v *View) {
	r.call()
	r.k.do(func() {
		for _, c := range cs {
			r.k.hear(c, before)
		}
	})
}

// hear is what a ledger does, which knows what it has heard before.
func (k *kernel) hear(c unit.Change, before unit.Service) {
	switch c.Kind {
	case unit.HasExited:
		if p := before.Find(c.Proc.ID); p.PID == 0 {
			k.wrong = append(k.wrong, fmt.Sprintf("%d has exited and was not there", c.Proc.ID))
		}
		if was, told := k.exits[c.Proc.ID]; told && was != c.Proc.Exit {
			k.wrong = append(k.wrong, fmt.Sprintf("%d is told to have exited twice: %v, %v", c.Proc.ID, was, c.Proc.Exit))
		}
		k.exits[c.Proc.ID] = c.Proc.Exit
	case unit.Finished:
		for _, id := range c.Finish.Jobs {
			a := k.jobs[id]
			if a.result != nil && (a.result.Result != c.Finish.Result || a.result.Why != c.Finish.Why) {
				k.wrong = append(k.wrong, fmt.Sprintf("job %d ends twice: %v, %v", id, *a.result, c.Finish))
			}
			a.result = &c.Finish
		}
	}
}

func (r *reign) start(ctx context.Context, o Order) {
	r.call()
	go r.begin(ctx, o)
}

// begin makes the child, if it is not there, and has it stored before it runs.
func (r *reign) begin(ctx context.Context, o Order) {
	k := r.k
	var at time.Time
	k.do(func() {
		if k.ordered[o.ID].IsZero() {
			k.ordered[o.ID] = time.Now().Add(time.Millisecond)
		}
		at = k.ordered[o.ID]
	})
	time.Sleep(time.Until(at)) // what is asked in one moment is asked before that
	k.mu.Lock()
	p := k.procs[o.ID]
	switch {
	case r.dead():
		k.mu.Unlock()
		return
	case p == nil && (ctx.Err() != nil || int(o.ID) > len(k.scripts)):
		k.mu.Unlock()
		r.tell(unit.NotStarted{ID: o.ID, Exit: unit.Exit{Kind: unit.NotRun, Step: "exec", Errno: syscall.ENOENT}})
		return
	case p == nil:
		p = &child{fake: fake{order: o, pid: 1000 + int(o.ID), signals: make(chan syscall.Signal, 16)}, id: o.ID, run: o.Invocation, changed: make(chan struct{})}
		p.fake.tell = func(m any) bool { k.do(func() { p.pending = append(p.pending, m.(Heard)); p.wake() }); return true }
		k.procs[o.ID], k.entries[o.ID] = p, true
	}
	if p.run != o.Invocation || p.run == "" {
		k.wrong = append(k.wrong, fmt.Sprintf("%d has the ids %q and %q", o.ID, p.run, o.Invocation))
	}
	k.mu.Unlock()
	h := &held{r: r, child: p, proceed: make(chan error, 1)}
	if !r.tell(Staged{o.ID, h}) {
		return
	}
	select {
	case err := <-h.proceed:
		k.run(p, err)
	case <-r.ctx.Done():
		return
	}
	if !p.doomed {
		r.tell(unit.Started{ID: o.ID, PID: p.pid})
	}
	r.attend(p, o.Kept)
}

// run opens the gate, once.
func (k *kernel) run(p *child, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case p.runs > 0 || p.doomed:
	case err != nil:
		p.doomed = true
	default:
		p.runs++
		go func() {
			exit := k.scripts[p.id-1](&p.fake)
			k.do(func() { p.exit = &exit; p.wake() })
		}()
	}
}

func (p *child) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// attend tells an actor what a child says, and how it ends.
func (r *reign) attend(p *child, late bool) {
	for !r.dead() {
		r.k.mu.Lock()
		pending, changed, exit, doomed := p.pending, p.changed, p.exit, p.doomed
		r.k.mu.Unlock()
		switch {
		case doomed:
			r.tell(unit.NotStarted{ID: p.id, Exit: unit.Exit{Kind: unit.NotRun}})
			return
		case len(pending) > 0:
			h, taken := pending[0], make(chan struct{})
			h.Stored = func() {
				r.call()
				r.k.do(func() { p.pending = p.pending[1:] })
				close(taken)
			}
			if !r.tell(h) {
				return
			}
			select {
			case <-taken:
			case <-r.ctx.Done():
			}
			continue
		case exit != nil:
			_ = r.tell(unit.Exited{ID: p.id, Exit: *exit}) && r.tell(unit.Gone{ID: p.id})
			return
		}
		if late {
			r.tell(CaughtUp{p.id})
			late = false
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
		}
	}
}

func (r *reign) resume(o Order, rec RunRecord, trace json.RawMessage) Handle {
	r.call()
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	p := r.k.procs[o.ID]
	if rec.Invocation != p.run || string(trace) != string(p.Trace()) {
		r.k.wrong = append(r.k.wrong, fmt.Sprintf("%d is resumed as %q, %s", o.ID, rec.Invocation, trace))
	}
	go r.attend(p, true)
	return &held{r: r, child: p, file: rec.File}
}

// held is a child as one actor has it.
type held struct {
	*child
	r       *reign
	proceed chan error
	file    string
}

func (h *held) Proceed(err error)    { h.r.call(); h.proceed <- err }
func (h *held) InvocationID() string { return h.run }
func (h *held) Program() Program     { return kept(h.Trace()) }
func (h *held) File() string {
	if h.file != "" {
		return h.file
	}
	return h.fake.File()
}

func (h *held) Signal(sig syscall.Signal, _ unit.KillMode) error {
	h.r.call()
	h.r.k.do(func() {
		if n := len(h.child.signals); n == 0 || h.child.signals[n-1] != sig {
			h.child.signals = append(h.child.signals, sig)
		}
		if h.runs == 0 { // it ends where it waits
			h.doomed = true
			h.wake()
		}
	})
	select {
	case h.fake.signals <- sig:
	default:
	}
	return nil
}

// kept is the executable of a process.
type kept json.RawMessage

func (p kept) Path() string           { return "/bin/" + string(p) }
func (p kept) Differs(string) bool    { return false }
func (p kept) Moved() bool            { return false }
func (p kept) Trace() json.RawMessage { return json.RawMessage(p) }
func (p kept) Close() error           { return nil }

func (k *kernel) ask(id unit.JobID, v unit.Verb) {
	a := &asked{event: unit.Asks{Job: unit.Job{ID: id, Verb: v}, Build: &unit.Build{Spec: k.spec}}}
	k.mu.Lock()
	k.jobs[id] = a
	r := k.rules
	k.mu.Unlock()
	r.tell(a.event)
}

func (k *kernel) view() *View {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rules.View()
}

// An outcome is all that can be seen of a life from outside.
type outcome struct {
	State   string
	Results map[unit.JobID]string
	Exits   map[unit.Invocation]unit.Exit
	Signals map[unit.Invocation][]syscall.Signal
	Runs    map[unit.Invocation]int
	Doors   int
	Shares  unit.Steer
	Kept    int
	Wrong   []string
}

func (k *kernel) outcome(exact bool) outcome {
	v := k.view()
	k.mu.Lock()
	defer k.mu.Unlock()
	o := outcome{
		State: string(v.State.SubState()), Results: map[unit.JobID]string{}, Exits: k.exits, Signals: map[unit.Invocation][]syscall.Signal{},
		Runs: map[unit.Invocation]int{}, Doors: len(k.doors), Shares: k.shares, Kept: len(k.entries), Wrong: k.wrong,
	}
	if exact {
		text, _ := json.Marshal(v.State)
		o.State = string(text)
	}
	for id, a := range k.jobs {
		o.Results[id] = "none"
		if a.result != nil {
			o.Results[id] = fmt.Sprint(a.result.Result, " ", a.result.Why)
		}
	}
	for id, p := range k.procs {
		o.Runs[id], o.Signals[id] = p.runs, p.signals
		if p.runs > 1 {
			o.Wrong = append(o.Wrong, fmt.Sprintf("%d has run %d times", id, p.runs))
		}
	}
	if !exact { // who was asked first, and how far somebody came who was not to be started, may differ
		o.Runs, o.Signals, o.Exits = nil, nil, nil
	}
	return o
}

// A life is a story with its processes.
type life struct {
	name    string
	scripts []script
	story   func(k *kernel)
	adjust  func(*unit.Spec)
}

// dies serves for a minute.
func dies(p *fake) unit.Exit {
	p.says(unit.Notice{Ready: true})
	time.Sleep(time.Minute)
	return status(3)
}

// talks says a lot as it starts, and needs more time than it has.
func talks(p *fake) unit.Exit {
	text, errno := "loading", 11
	time.Sleep(80 * time.Second)
	p.tell(Heard{ID: p.order.ID, Status: &text, Notice: unit.Notice{Extend: 30 * time.Second}})
	time.Sleep(20 * time.Second)
	p.tell(Heard{ID: p.order.ID, Errno: &errno, Notice: unit.Notice{Ready: true}})
	<-p.signals
	return ok
}

var lives = []life{
	{"start, reload and stop", []script{good, good}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(20 * time.Second)
		k.ask(3, unit.Stop)
		time.Sleep(time.Minute)
	}, nil},
	{"reload to a crash", []script{good, crashes}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(time.Minute)
	}, nil},
	{"reload to a death in bake", []script{good, diesInBake}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(time.Minute)
	}, nil},
	{"reload to what hangs", []script{good, hangs}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(3 * time.Minute)
	}, nil},
	{"reloads that queue, and a stop", []script{good, good, good, good}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		k.ask(3, unit.Reload)
		k.ask(4, unit.Reload)
		time.Sleep(20 * time.Second)
		k.ask(5, unit.Restart)
		k.ask(6, unit.Stop)
		time.Sleep(time.Minute)
	}, nil},
	{"a crash", []script{dies, dies, good}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(150 * time.Second)
	}, nil},
	{"a stop before it is there", []script{good}, func(k *kernel) {
		k.ask(1, unit.Start)
		k.ask(2, unit.Stop)
		time.Sleep(time.Minute)
	}, nil},
	{"no program", nil, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(90 * time.Second)
		k.ask(2, unit.Stop)
		time.Sleep(time.Minute)
	}, nil},
	{"who needs more time", []script{talks}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(150 * time.Second)
	}, func(s *unit.Spec) { s.Life.ExtendMax = time.Minute }},
	{"steered", []script{good, good}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(time.Minute)
		k.ask(3, unit.Stop)
		time.Sleep(time.Minute)
	}, func(s *unit.Spec) { s.Life.Steer, s.Life.Settle, s.Life.Empty = true, 2*time.Second, 10*time.Second }},
	{"two instances", []script{good, good, good, crashes, good, good, good, good}, func(k *kernel) {
		k.ask(1, unit.Start)
		time.Sleep(10 * time.Second)
		k.ask(2, unit.Reload)
		time.Sleep(time.Minute)
	}, func(s *unit.Spec) { s.Life.Instances = 2 }},
}

// live plays a life, in virtual time.
func (l life) live(t *testing.T, gap time.Duration, kill func(int) bool) (o outcome, calls, kills int) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel(t, l.scripts, kill)
		if l.adjust != nil {
			l.adjust(k.spec)
		}
		k.reign()
		k.gap = gap
		l.story(k)
		o = k.outcome(gap == 0)
		k.mu.Lock()
		calls, kills, k.kill = k.calls, k.kills, nil
		k.mu.Unlock()
		k.ask(1000, unit.Stop)
		time.Sleep(10 * time.Minute)
		k.rules.Close()
		synctest.Wait()
	})
	return o, calls, kills
}

func (l life) same(t *testing.T, gap time.Duration, want outcome, what string, kill func(int) bool) {
	got, _, kills := l.live(t, gap, kill)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s, %d kills, each for %v (-undisturbed +killed):\n%s", what, kills, gap, d)
	}
}

// What anyone can see of a service is the same before and after.
func TestTheViewIsTheSame(t *testing.T) {
	text, errno := "42 clients", 7
	serves := func(p *fake) unit.Exit {
		p.tell(Heard{ID: p.order.ID, Status: &text, Errno: &errno, Notice: unit.Notice{Ready: true}})
		time.Sleep(3 * time.Second)
		p.tell(Heard{ID: p.order.ID, Reloading: true})
		<-p.signals
		time.Sleep(20 * time.Second)
		return ok
	}
	synctest.Test(t, func(t *testing.T) {
		k := newKernel(t, []script{serves, crashes, serves, serves}, nil)
		k.reign()
		for _, pass := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second, 3 * time.Second, time.Minute} {
			k.ask(unit.JobID(len(k.jobs)+1), unit.Reload)
			k.ask(unit.JobID(len(k.jobs)+1), unit.Start)
			time.Sleep(pass)
			before := shownOf(k.view())
			k.rules.over()
			k.rules.Close()
			synctest.Wait()
			k.reign()
			if d := cmp.Diff(before, shownOf(k.view())); d != "" {
				t.Errorf("after %v (-before +after):\n%s", pass, d)
			}
		}
		k.ask(1000, unit.Stop)
		time.Sleep(10 * time.Minute)
		k.rules.Close()
		synctest.Wait()
	})
}

// shownOf is what can be shown of v.
func shownOf(v *View) any {
	type run struct {
		Run, File, Trace string
		Began            unit.Time
		Status           string
		Errno            int
		Reloading        bool
	}
	runs := map[unit.Invocation]run{}
	for id, r := range v.Runs {
		x := run{r.Invocation, "", "", r.Began, r.Status, r.Errno, r.Reloading}
		if p := v.State.Find(id); p.ID == 0 {
			continue
		}
		if r.Handle != nil {
			x.File, x.Trace = r.Handle.File(), string(r.Handle.Trace())
		}
		runs[id] = x
	}
	state, _ := json.Marshal(v.State)
	return []any{v.Name, string(state), runs, slices.Sorted(maps.Keys(v.Baked)), string(v.Last), v.LastOf, v.Fault}
}

// What fell due while nobody ruled is asked after all is heard that happened meanwhile,
// if that does not take for ever.
func TestTheClockWaitsForTheNews(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			life := usual
			life.Start = 5 * time.Second
			s, _ := unit.Step(unit.Service{Inst: make([]unit.Instance, 1)}, 1, unit.Asks{Job: unit.Job{ID: 1, Verb: unit.Start}, Build: &unit.Build{Spec: &unit.Spec{Life: life}}})
			s, _ = unit.Step(s, 1, unit.Started{ID: 1, PID: 1001})
			k := newKernel(t, []script{good}, nil)
			w := World{
				Now:     func() unit.Time { return unit.Time(time.Hour + time.Since(k.epoch)) },
				Save:    func(Record) error { return nil },
				Doors:   func([]unit.Door) {},
				Start:   func(context.Context, Order) {},
				Changed: func([]unit.Change, unit.Service, *View) {},
				Resume:  func(Order, RunRecord, json.RawMessage) Handle { return &fake{pid: 1001, note: func(string, ...any) {}} },
			}
			a := Resume("api", Record{Service: s}, unit.Found{Alive: []unit.Invocation{1}}, w)
			go a.Run()
			time.Sleep(catchUp - time.Second)
			phase := func() unit.Phase { synctest.Wait(); return a.View().State.Find(1).Phase }
			if phase() != unit.Starting {
				t.Error("it is told to go before it was heard")
			}
			if !late {
				a.Tell(Heard{ID: 1, Notice: unit.Notice{Ready: true}})
				a.Tell(CaughtUp{1})
			}
			time.Sleep(1500 * time.Millisecond)
			if want := map[bool]unit.Phase{false: unit.Serving, true: unit.Asked}[late]; phase() != want {
				t.Errorf("phase %d, want %d", phase(), want)
			}
			a.Close()
			synctest.Wait()
		})
	}
}

// stored is record n, or the last one.
func (b *bench) stored(n int) Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 {
		n = len(b.saved) - 1
	}
	return b.saved[n]
}

// A deadline that was put off is stored; that the watchdog was pinged is not.
func TestDeadlinesAreStored(t *testing.T) {
	bubble(t, func(b *bench) {
		b.spec.Life.Watchdog, b.spec.Life.ExtendMax = time.Minute, time.Hour
		b.ask(unit.Start)
		synctest.Wait()
		before := b.saves()
		b.Tell(Heard{ID: 1, Notice: unit.Notice{Extend: 30 * time.Minute}})
		b.want("records after EXTEND_TIMEOUT_USEC", b.saves(), before+1)
		b.want("stored deadline", b.stored(before).Service.Inst[0].Main.By, b.now().Inst[0].Main.By)
		time.Sleep(5 * time.Second)
		before = b.saves()
		for range 5 {
			b.Tell(Heard{ID: 1, Notice: unit.Notice{Ping: true}})
		}
		b.want("records after WATCHDOG=1", b.saves(), before)
	}, good)
}

// A process may say its STATUS as often as it likes: it is stored once a second.
func TestStatusIsStoredInAMoment(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		time.Sleep(5 * time.Second)
		before := b.saves()
		for i := range 50 {
			text := fmt.Sprint(i, " clients")
			b.Tell(Heard{ID: 1, Status: &text})
		}
		b.want("records at once", b.saves(), before)
		time.Sleep(saveStatus)
		b.want("records in a moment", b.saves(), before+1)
		b.want("stored status", b.stored(before).Runs[1].Status, "49 clients")
		errno, stored := 5, false
		b.Tell(Heard{ID: 1, Errno: &errno, Stored: func() {
			stored = true
			b.want("errno that is stored when it is said to be", b.stored(-1).Runs[1].Errno, 5)
		}})
		synctest.Wait()
		b.want("it is said that it is stored", stored, true)
	}, good)
}

// Whenever the actor is killed, all comes out as if it had not been.
func TestAnActorMayDieAtAnyMoment(t *testing.T) {
	for _, l := range lives {
		t.Run(l.name, func(t *testing.T) {
			for _, gap := range []time.Duration{0, 1500 * time.Millisecond} {
				want, calls, _ := l.live(t, gap, nil)
				if len(want.Wrong) > 0 {
					t.Fatal(want.Wrong)
				}
				for n := 1; n <= calls && !t.Failed(); n++ {
					l.same(t, gap, want, fmt.Sprintf("killed at call %d of %d", n, calls), func(call int) bool { return call == n })
				}
			}
		})
	}
}

// Neither does it matter how often, as long as each gets on a little.
func TestActorsMayDieAgainAndAgain(t *testing.T) {
	for _, l := range lives {
		t.Run(l.name, func(t *testing.T) {
			want, _, _ := l.live(t, 0, nil)
			for _, n := range []int{23, 29, 31} {
				l.same(t, 0, want, fmt.Sprintf("killed at each %dth call", n), func(call int) bool { return call%n == 0 })
			}
		})
	}
}
