package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A script is what a fake process does with its life.
type script func(p *fake) unit.Exit

// A fake is a process whose program is a script.
type fake struct {
	order   Order
	pid     int
	tell    func(any) bool
	signals chan syscall.Signal
	proceed chan error
	note    func(string, ...any)
}

func (p *fake) Proceed(err error)      { p.proceed <- err }
func (p *fake) Leave()                 {}
func (p *fake) Trace() json.RawMessage { return fmt.Appendf(nil, `{"PID":%d}`, p.pid) }
func (p *fake) InvocationID() string   { return fmt.Sprint("invocation", p.pid) }
func (p *fake) Program() Program       { return nil }
func (p *fake) File() string           { return fmt.Sprint("file of ", p.pid) }
func (p *fake) Tail() []byte           { return []byte("panic: missing DB_URL\n") }
func (p *fake) Survivors() []string    { return nil }
func (p *fake) Remarks() []string      { return nil }
func (p *fake) Signal(sig syscall.Signal, _ unit.KillMode) error {
	p.note("%v %d", sig, p.order.ID)
	select {
	case p.signals <- sig:
	default:
	}
	return nil
}

func (p *fake) says(n unit.Notice) {
	p.tell(Heard{ID: p.order.ID, Notice: n})
}

var (
	ok     = unit.Exit{Kind: unit.ByStatus}
	status = func(n int) unit.Exit { return unit.Exit{Kind: unit.ByStatus, Code: n} }
	killed = unit.Exit{Kind: unit.ByKill, Signal: syscall.SIGKILL}
)

// good gets ready after a second and takes three to drain.
func good(p *fake) unit.Exit {
	time.Sleep(time.Second)
	p.says(unit.Notice{Ready: true})
	<-p.signals
	time.Sleep(3 * time.Second)
	return ok
}

// crashes never gets ready.
func crashes(*fake) unit.Exit { return status(1) }

// hangs never gets ready, and dies only of SIGKILL.
func hangs(p *fake) unit.Exit {
	for sig := range p.signals {
		if sig == syscall.SIGKILL {
			break
		}
	}
	return killed
}

// diesInBake is ready at once, and dead half a second later.
func diesInBake(p *fake) unit.Exit {
	p.says(unit.Notice{Ready: true})
	time.Sleep(500 * time.Millisecond)
	return status(2)
}

// A bench runs one actor whose nth invocation is the nth script, in virtual
// time, and remembers all that it did.
type bench struct {
	*testing.T
	*Actor
	spec    *unit.Spec
	scripts []script

	mu      sync.Mutex
	saved   []Record
	broken  error // what saving answers
	results map[unit.JobID]unit.Finish
	kinds   []unit.ChangeKind
	lastJob unit.JobID
	watches []watch  // of what settles
	notes   []string // what was done, in order
}

var usual = unit.Life{
	Type: unit.Notify, Overlap: true, Restart: unit.OnFailure, RestartSec: time.Second, RestartMax: 30 * time.Second, RestartSteps: 8,
	ResetSec: 10 * time.Second, Interval: 10 * time.Second, Start: 90 * time.Second, Bake: time.Second, Stop: 10 * time.Second,
	Abort: 10 * time.Second, Kill: 5 * time.Second, KillSignal: syscall.SIGTERM, KillMode: unit.ControlGroup, MaxDraining: 2,
}

func bubble(t *testing.T, f func(*bench), scripts ...script) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, scripts: scripts, results: map[unit.JobID]unit.Finish{}, spec: &unit.Spec{Name: "api", Life: usual}}
		epoch := time.Now()
		b.Actor = New("api", unit.Service{Inst: make([]unit.Instance, 1)}, World{
			Now:     func() unit.Time { return unit.Time(time.Hour + time.Since(epoch)) },
			Save:    b.save,
			Doors:   func([]unit.Door) {},
			Steer:   func(unit.Steer) {},
			Start:   b.start,
			Settle:  b.onSettle,
			Changed: b.changed,
			Vanish:  func() {},
		})
		go b.Actor.Run()
		f(b)
		select {
		case <-b.quit:
		default:
			b.do(unit.Stop)
			b.Close()
		}
		synctest.Wait()
	})
}

func (b *bench) save(r Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = append(b.saved, r)
	return b.broken
}

func (b *bench) changed(cs []unit.Change, _ unit.Service, _ *View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range cs {
		b.kinds = append(b.kinds, c.Kind)
		for _, id := range c.Finish.Jobs {
			b.results[id] = c.Finish
		}
	}
}

func (b *bench) start(_ context.Context, o Order) {
	go func() {
		if int(o.ID) > len(b.scripts) {
			b.Tell(unit.NotStarted{ID: o.ID, Exit: unit.Exit{Kind: unit.NotRun, Step: "exec", Errno: syscall.ENOENT}})
			return
		}
		p := &fake{order: o, pid: 1000 + int(o.ID), tell: b.Tell, signals: make(chan syscall.Signal, 8), proceed: make(chan error, 1), note: b.note}
		b.Tell(Staged{o.ID, p})
		if err := <-p.proceed; err != nil {
			b.Tell(unit.NotStarted{ID: o.ID, Exit: unit.Exit{Kind: unit.NotRun}})
			return
		}
		b.Tell(unit.Started{ID: o.ID, PID: p.pid})
		exit := b.scripts[o.ID-1](p)
		b.Tell(unit.Exited{ID: o.ID, Exit: exit})
		b.Tell(unit.Gone{ID: o.ID})
	}()
}

// ask begins a job and returns its id.
func (b *bench) ask(v unit.Verb) unit.JobID {
	b.lastJob++
	b.Tell(unit.Asks{Job: unit.Job{ID: b.lastJob, Verb: v}, Build: &unit.Build{Spec: b.spec}})
	return b.lastJob
}

// result waits, in virtual time, for a job to end.
func (b *bench) result(id unit.JobID) unit.JobResult {
	for range 1000 {
		synctest.Wait()
		b.mu.Lock()
		f, ended := b.results[id]
		b.mu.Unlock()
		if ended {
			return f.Result
		}
		time.Sleep(time.Second)
	}
	b.Fatalf("job %d does not end", id)
	return ""
}

func (b *bench) do(v unit.Verb) unit.JobResult { return b.result(b.ask(v)) }

func (b *bench) now() unit.Service {
	synctest.Wait()
	return b.View().State
}

func (b *bench) want(what string, got, want any) {
	b.Helper()
	if d := cmp.Diff(want, got); d != "" {
		b.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestReload(t *testing.T) {
	bubble(t, func(b *bench) {
		b.want("start", b.do(unit.Start), unit.Done)
		began := time.Now()
		b.want("reload", b.do(unit.Reload), unit.Done)
		b.want("reload took", time.Since(began), 2*time.Second) // 1s to get ready, 1s of bake; not the drain
		b.want("main", b.now().Inst[0].Main.PID, 1002)
		b.want("old", b.now().Inst[0].Old[0].Phase, unit.Asked)
		time.Sleep(3 * time.Second)
		b.want("old after its drain", len(b.now().Inst[0].Old), 0)
	}, good, good)
}

func TestReloadToCrashKeepsServing(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		job := b.ask(unit.Reload)
		b.want("reload", b.result(job), unit.Failed)
		b.want("main", b.now().Inst[0].Main.PID, 1001)
		b.want("state", b.now().SubState(), unit.SubState("running"))
	}, good, crashes)
}

func TestReloadToHangGivesUp(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		began := time.Now()
		b.want("reload", b.do(unit.Reload), unit.Failed)
		b.want("gave up after", time.Since(began), 100*time.Second) // timeout_start, then timeout_stop
		b.want("main", b.now().Inst[0].Main.PID, 1001)
	}, good, hangs)
}

func TestReloadToDeathInBakeKeepsServing(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		b.want("reload", b.do(unit.Reload), unit.Failed)
		b.want("main", b.now().Inst[0].Main.PID, 1001)
		b.want("why", b.results[2].Why, unit.WhyBaking)
	}, good, diesInBake)
}

func TestCrashIsRestarted(t *testing.T) {
	dies := func(p *fake) unit.Exit {
		p.says(unit.Notice{Ready: true})
		time.Sleep(time.Minute)
		return status(1)
	}
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		time.Sleep(time.Minute + time.Second)
		b.want("state", b.now().SubState(), unit.SubState("running"))
		b.want("main", b.now().Inst[0].Main.PID, 1002)
		b.want("restarts", b.now().Inst[0].Again, 1)
	}, dies, good)
}

// What a process wrote last is there for who asks while it waits to be started again.
func TestLastOutputIsKept(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		if got := string(b.View().Last); got != "panic: missing DB_URL\n" {
			t.Errorf("the last output is %q", got)
		}
	}, crashes, crashes, good)
}

func TestStopCancelsReload(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		reload := b.ask(unit.Reload)
		time.Sleep(30 * time.Second)
		b.want("stop", b.do(unit.Stop), unit.Done)
		b.want("reload", b.result(reload), unit.Canceled)
		b.want("state", b.now().SubState(), unit.SubState("dead"))
	}, good, hangs)
}

// A stop may come when the process to be stopped has no pid yet.
func TestStopBeforeTheProcessIsThere(t *testing.T) {
	bubble(t, func(b *bench) {
		start := b.world.Start
		b.world.Start = func(ctx context.Context, o Order) { // it waits for a disk, until it need not
			go func() { <-ctx.Done(); start(ctx, o) }()
		}
		job := b.ask(unit.Start)
		stop := b.ask(unit.Stop)
		b.want("stop", b.result(stop), unit.Done)
		b.want("start", b.result(job), unit.Canceled)
		b.want("what ran", b.kinds[len(b.kinds)-1], unit.Finished)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.want("was ever started", slices.Contains(b.kinds, unit.Began), false)
	}, good)
}

func TestMissingProgramIsRetried(t *testing.T) {
	bubble(t, func(b *bench) {
		b.want("start", b.do(unit.Start), unit.Failed)
		time.Sleep(time.Minute)
		b.want("state", b.now().SubState(), unit.SubState("auto-restart"))
	})
}

// Nothing runs before its identity is stored, and nothing is signalled before
// the state that orders it is.
func TestStoredBeforeDone(t *testing.T) {
	bubble(t, func(b *bench) {
		watched := func(p *fake) unit.Exit {
			b.mu.Lock()
			last := b.saved[len(b.saved)-1]
			b.mu.Unlock()
			b.want("stored identity of what runs", string(last.Traces[p.order.ID]), string(p.Trace()))
			exit := good(p)
			b.mu.Lock()
			last = b.saved[len(b.saved)-1]
			b.mu.Unlock()
			b.want("stored phase of what was signalled", last.Service.Find(p.order.ID).Phase, unit.Asked)
			return exit
		}
		b.scripts = []script{watched, watched}
		b.do(unit.Start)
		b.do(unit.Reload)
	})
}

// What is stored comes back as it was, and says what was to be finished.
func TestRecordSurvivesJSON(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		b.do(unit.Reload)
		b.mu.Lock()
		defer b.mu.Unlock()
		finished := false
		for _, r := range b.saved {
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			var back Record
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(back); string(again) != string(text) {
				t.Errorf("stored %s, read %s", text, again)
			}
			finished = finished || len(r.Finish) == 1
		}
		b.want("a record says what was finished", finished, true)
	}, good, good)
}

// Without a place to store, services go on, and it is said; with one again, the
// state is stored although nothing happens.
func TestStoreBreaksAndMends(t *testing.T) {
	bubble(t, func(b *bench) {
		b.do(unit.Start)
		b.mu.Lock()
		b.broken = errors.New("no space left on device")
		b.mu.Unlock()
		b.want("reload", b.do(unit.Reload), unit.Done)
		b.want("fault is shown", b.View().Fault != nil, true)
		b.mu.Lock()
		b.broken = nil
		b.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		b.want("fault after it was mended", b.View().Fault, nil)
	}, good, good)
}

func TestStatusDoesNotWaitForTheActor(t *testing.T) {
	bubble(t, func(b *bench) {
		stuck := make(chan struct{})
		changed := b.world.Changed
		b.world.Changed = func(cs []unit.Change, before unit.Service, v *View) {
			if v.State.Job.Verb == unit.Start {
				<-stuck
			}
			changed(cs, before, v)
		}
		b.ask(unit.Start)
		synctest.Wait()
		b.want("state", b.View().State.SubState(), unit.SubState("start"))
		close(stuck)
	}, good)
}
