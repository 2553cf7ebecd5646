package words

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var update = flag.Bool("update", false, "write what is said now into testdata")

// A tale is what happens to a service; what is said of it is in
// testdata/NAME.golden.
type tale struct {
	name string
	life func(*unit.Life)
	then func(*unit.Life) // of what a reload brings
	acts []any            // a [unit.Event], or a [time.Duration] that passes
}

var (
	start   = unit.Asks{Job: unit.Job{ID: 1, Verb: unit.Start}}
	reload  = unit.Asks{Job: unit.Job{ID: 2, Verb: unit.Reload}}
	restart = unit.Asks{Job: unit.Job{ID: 3, Verb: unit.Restart}}
	stop    = unit.Asks{Job: unit.Job{ID: 4, Verb: unit.Stop}}
	scale   = unit.Asks{Job: unit.Job{ID: 5, Verb: unit.Scale}, Size: 2}
	end     = unit.Asks{Job: unit.Job{ID: 6, Verb: unit.End}}

	isReady = func(id unit.Invocation) unit.Said { return unit.Said{ID: id, Notice: unit.Notice{Ready: true}} }
	runs    = func(id unit.Invocation) unit.Started { return unit.Started{ID: id, PID: 1000 + int(id)} }
	exits   = func(id unit.Invocation, n int) unit.Exited {
		return unit.Exited{ID: id, Exit: unit.Exit{Kind: unit.ByStatus, Code: n}}
	}
	killed = func(id unit.Invocation, s syscall.Signal) unit.Exited {
		return unit.Exited{ID: id, Exit: unit.Exit{Kind: unit.ByKill, Signal: s}}
	}
	isGone = func(id unit.Invocation) unit.Gone { return unit.Gone{ID: id} }
	// passes is a moment after which a deadline of d is over.
	passes = func(d time.Duration) time.Duration { return d + time.Millisecond }
)

var up = []any{start, runs(1), isReady(1), passes(time.Second)}

func after(acts []any, more ...any) []any { return append(append([]any{}, acts...), more...) }

var tales = []tale{
	{name: "start and stop", acts: after(up, stop, exits(1, 0), isGone(1))},
	{
		name: "stop of all but the main process by SIGKILL", life: func(l *unit.Life) { l.KillMode = unit.Mixed },
		acts: after(up, stop, exits(1, 0), isGone(1)),
	},
	{name: "reload", acts: after(up, reload, runs(2), isReady(2), passes(time.Second), exits(1, 0), isGone(1))},
	{name: "reload of a build that exits", acts: after(up, reload, runs(2), exits(2, 1), isGone(2))},
	{
		name: "reload without overlap of a build that exits", life: func(l *unit.Life) { l.Overlap = false },
		acts: after(up, reload, exits(1, 0), isGone(1), runs(2), exits(2, 1), isGone(2), runs(3), isReady(3), passes(time.Second)),
	},
	{name: "reload of a build that dies in bake", acts: after(up, reload, runs(2), isReady(2), killed(2, syscall.SIGSEGV), isGone(2))},
	{name: "reload of a build that hangs", acts: after(up, reload, runs(2), passes(90*time.Second), passes(10*time.Second), killed(2, syscall.SIGKILL), isGone(2))},
	{name: "reload of a build that cannot be started", acts: after(up, reload, unit.NotStarted{ID: 2, Exit: unit.Exit{Kind: unit.NotRun, Step: "exec", Errno: syscall.ENOENT, Detail: "/srv/api", Code: 203}})},
	{name: "restart of what crashes", acts: after(up, restart, exits(1, 0), isGone(1), runs(2), exits(2, 3), isGone(2))},
	{name: "crash loop", acts: after(up, exits(1, 1), isGone(1), runs(2), exits(2, 1), isGone(2))},
	{name: "not wanted to start again", life: func(l *unit.Life) { l.Restart = unit.No }, acts: after(up, exits(1, 1), isGone(1))},
	{
		name: "oneshot that fails", life: func(l *unit.Life) { l.Type, l.Restart = unit.Oneshot, unit.No },
		acts: []any{start, runs(1), exits(1, 4), isGone(1)},
	},
	{
		name: "start of a program that goes into the background", life: func(l *unit.Life) { l.Restart = unit.No },
		acts: []any{start, runs(1), exits(1, 0), isGone(1)},
	},
	{
		name: "start of a program that does not say that it is ready", life: func(l *unit.Life) { l.Restart = unit.No },
		acts: []any{start, runs(1), passes(90 * time.Second), exits(1, 0), isGone(1)},
	},
	{name: "nothing to reload", acts: []any{reload}},
	{name: "stopped in the middle of a reload", acts: after(up, reload, runs(2), stop, exits(1, 0), isGone(1), exits(2, 0), isGone(2))},
	{name: "too many old ones", life: func(l *unit.Life) { l.MaxDraining = 1 }, acts: after(up, reload, runs(2), isReady(2), passes(time.Second), unit.Asks{Job: unit.Job{ID: 7, Verb: unit.Reload}})},
	{name: "what SIGKILL does not end", acts: after(up, stop, passes(10*time.Second), passes(5*time.Second))},
	{name: "watchdog", life: func(l *unit.Life) { l.Watchdog = 2 * time.Second }, acts: after(up, passes(2*time.Second), killed(1, syscall.SIGABRT), isGone(1))},
	{name: "scale", acts: after(up, scale, runs(2), isReady(2), passes(time.Second))},
	{name: "scale of what has failed", life: func(l *unit.Life) { l.Restart = unit.No }, acts: after(up, exits(1, 1), isGone(1), scale)},
	{name: "removed", acts: after(up, unit.Named{Is: false}, reload, unit.Asks{Job: unit.Job{ID: 8, Verb: unit.Stop}}, exits(1, 0), isGone(1))},
	{name: "the end", acts: after(up, end, reload, exits(1, 0), isGone(1))},
	{
		name: "half a rollout that goes back", life: func(l *unit.Life) { l.Instances = 2 },
		acts: []any{start, runs(1), runs(2), isReady(1), isReady(2), passes(time.Second), reload, runs(3), isReady(3), passes(time.Second), exits(1, 0), isGone(1), runs(4), exits(4, 1), isGone(4), runs(5), isReady(5), passes(time.Second)},
	},
	{name: "says that it stops before it is ready", acts: []any{start, runs(1), unit.Said{ID: 1, Notice: unit.Notice{Stopping: true}}}},
	{name: "a build that says that it stops before it is ready", acts: after(up, reload, runs(2), unit.Said{ID: 2, Notice: unit.Notice{Stopping: true}}, exits(2, 0), isGone(2))},
	{
		name: "an instance that a reload adds fails", then: func(l *unit.Life) { l.Instances = 2 },
		acts: after(up, reload, runs(2), isReady(2), passes(time.Second), exits(1, 0), isGone(1), runs(3), exits(3, 1), isGone(3), runs(4), isReady(4), passes(time.Second)),
	},
	{
		name: "an old process that takes nobody from its queue", life: func(l *unit.Life) { l.Steer, l.Settle = true, time.Second },
		then: func(l *unit.Life) { l.Steer = true },
		acts: after(up, reload, runs(2), isReady(2), passes(time.Second), unit.Traffic{ID: 1, Waiting: 3}, exits(1, 0), isGone(1)),
	},
	{name: "a socket that is dead", acts: after(up, unit.Broken{Socket: "http", Procs: []unit.Invocation{1}}, runs(2), isReady(2), passes(time.Second), exits(1, 0), isGone(1))},
}

// What is said of a service in the course of its life reads as it was approved.
func TestTales(t *testing.T) {
	for _, tale := range tales {
		t.Run(tale.name, func(t *testing.T) {
			got := tell(tale)
			file := filepath.Join("testdata", strings.ReplaceAll(tale.name, " ", "-")+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-approved +now; go test ./pkg/supervisor/words -update)\n%s", d)
			}
		})
	}
}

// A body is a process of a tale.
type body struct{ pid int }

func (body) Proceed(error)                              {}
func (body) Leave()                                     {}
func (body) Trace() json.RawMessage                     { return nil }
func (b body) InvocationID() string                     { return fmt.Sprint("invocation-", b.pid) }
func (body) Signal(syscall.Signal, unit.KillMode) error { return nil }
func (body) File() string                               { return "" }
func (body) Program() service.Program                   { return nil }
func (body) Tail() []byte                               { return []byte("\nlistening\npanic: missing DB_URL\n\n") }

func (b body) Survivors() []string { return []string{fmt.Sprintf("pid %d (api)", b.pid)} }
func (body) Remarks() []string     { return nil }

func tell(t tale) string {
	spec := &unit.Spec{Name: "api", Sockets: []*unit.Socket{{Name: "http"}}, Program: unit.Program{Argv: []string{"/srv/api"}}, Life: unit.Life{
		Type: unit.Notify, Overlap: true, Restart: unit.OnFailure, RestartSec: 100 * time.Millisecond, RestartMax: 30 * time.Second, RestartSteps: 8,
		ResetSec: 10 * time.Second, Interval: 10 * time.Second, Start: 90 * time.Second, Bake: time.Second, Stop: 10 * time.Second,
		Abort: 10 * time.Second, Kill: 5 * time.Second, KillSignal: syscall.SIGTERM, KillMode: unit.ControlGroup, MaxDraining: 2,
	}}
	if t.life != nil {
		t.life(&spec.Life)
	}
	var b strings.Builder
	now := unit.Time(time.Hour)
	v := &service.View{Name: "api", State: unit.Service{Inst: make([]unit.Instance, 1)}, Runs: map[unit.Invocation]service.Run{}}
	for _, act := range t.acts {
		var e unit.Event
		switch act := act.(type) {
		case time.Duration:
			now += unit.Time(act)
			e = unit.Elapsed{}
		case unit.Asks:
			act.Build = &unit.Build{Spec: spec}
			if act.Job.Verb == unit.Reload && t.then != nil {
				changed := *spec
				t.then(&changed.Life)
				act.Build.Spec = &changed
			}
			e = act
			fmt.Fprintf(&b, "$ %s\n", act.Job.Verb)
		case unit.Event:
			e = act
		}
		v = say(&b, v, now, e)
	}
	f := Facts{Now: now, Clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Spec: spec, Job: func(unit.Job) *ipc.Job { return nil }}
	text, _ := json.MarshalIndent(Status(v, f, true), "", "  ")
	fmt.Fprintf(&b, "status: %s\n", text)
	return b.String()
}

// say writes what a step has changed, and returns the view after it.
func say(b *strings.Builder, was *service.View, now unit.Time, e unit.Event) *service.View {
	next, effects := unit.Step(was.State, now, e)
	v := &service.View{Name: was.Name, State: next, Past: was.State, At: now, Runs: was.Runs, Last: was.Last}
	for _, f := range effects {
		if f, ok := f.(unit.Forget); ok && v.Runs[f.ID].Handle != nil {
			v.Last = v.Runs[f.ID].Handle.Tail()
		}
	}
	if s, ok := e.(unit.Started); ok {
		v.Runs[s.ID] = service.Run{Handle: body{s.PID}, Began: now}
	}
	for _, c := range unit.Changes(was.State, next, effects) {
		text := Change(v, c)
		if c.Kind == unit.Queued || c.Kind == unit.Begun {
			text = Begins(c.Job, was.State.Current, next.Size)
		}
		fmt.Fprintf(b, "%-10s %s\n", c.Kind, text)
		if c.Kind == unit.Finished && c.Finish.Result == unit.Done && verbs[c.Finish.Jobs[0]] == unit.Scale {
			said := &ipc.Error{}
			said.Notes, said.Hints = Scaled(v)
			advise(b, said)
		}
		if c.Kind == unit.Finished && c.Finish.Result != unit.Done {
			verb := verbs[c.Finish.Jobs[0]]
			x := Explain(v, verb, c.Finish)
			fmt.Fprintf(b, "  %s (%s)\n", x.Message, x.Code)
			advise(b, x)
			for _, o := range x.Output {
				fmt.Fprintf(b, "  | %s\n", o)
			}
		}
	}
	return v
}

func advise(b *strings.Builder, x *ipc.Error) {
	for _, n := range x.Notes {
		fmt.Fprintf(b, "  note: %s\n", n)
	}
	for _, h := range x.Hints {
		fmt.Fprintf(b, "  hint: %s\n", h)
	}
}

var verbs = map[unit.JobID]unit.Verb{1: unit.Start, 2: unit.Reload, 3: unit.Restart, 4: unit.Stop, 5: unit.Scale, 6: unit.End, 7: unit.Reload, 8: unit.Stop}

// A table's note of a start that failed says what failed, not only at which value.
func TestBriefNotesCanBeUnderstood(t *testing.T) {
	for want, e := range map[string]unit.Exit{
		"cannot set nice to 0: permission denied":                                        {Kind: unit.NotRun, Step: "nice", Detail: "0", Errno: syscall.EACCES},
		"/usr/bin/none: no such file or directory":                                       {Kind: unit.NotRun, Step: "exec", Detail: "/usr/bin/none", Errno: syscall.ENOENT},
		"/etc/api.env: it is not a regular file":                                         {Kind: unit.NotRun, Step: "environment", Detail: "/etc/api.env", Errno: syscall.EINVAL},
		"/etc/api.env:1: the line is not KEY=VALUE, or has a quote that is never closed": {Kind: unit.NotRun, Step: "environment", Detail: "/etc/api.env:1", Errno: syscall.EBADMSG},
		"cannot become user www: operation not permitted":                                {Kind: unit.NotRun, Step: "user", Detail: "www", Errno: syscall.EPERM},
	} {
		if got := brief(e); got != want {
			t.Errorf("got %q, not %q", got, want)
		}
	}
}

// Who waits for a job when supervisord ends is told that, not that somebody asked for
// something else.
func TestAJobThatTheEndCancels(t *testing.T) {
	v := &service.View{}
	for why, want := range map[unit.Reason]ipc.Code{unit.WhyEnding: ipc.Ending, unit.WhyStop: ipc.Canceled} {
		if got := code(v, unit.Finish{Result: unit.Canceled, Why: why}); got != want {
			t.Errorf("%s: code %s, want %s", why, got, want)
		}
	}
}

func TestNotesOfSeveralInstances(t *testing.T) {
	failed := unit.Finish{Jobs: []unit.JobID{1}, Result: unit.Failed, Why: unit.WhyExited}
	comes, serves := unit.Instance{Main: unit.Proc{ID: 1, Phase: unit.Starting}}, unit.Instance{Main: unit.Proc{ID: 2, PID: 7, Gen: 1, Phase: unit.Serving}}
	many := make([]unit.Instance, 100)
	for i := range many {
		many[i] = comes
	}
	for _, c := range []struct {
		inst []unit.Instance
		want []string
	}{
		{[]unit.Instance{comes}, []string{"nothing serves: it is being started again"}},
		{[]unit.Instance{comes, comes, comes}, []string{"nothing serves: it is being started again"}},
		{[]unit.Instance{{Due: 2e9}, {Due: 1e9}}, []string{"nothing serves: it will be started again in 1s"}},
		{[]unit.Instance{serves, comes, {Due: 1e9}}, []string{"instance 1: it is being started again", "instance 2: it will be started again in 1s"}},
	} {
		v := &service.View{State: unit.Service{Inst: c.inst}}
		if diff := cmp.Diff(c.want, notes(v, unit.Start, failed)); diff != "" {
			t.Error(diff)
		}
	}
	v := &service.View{State: unit.Service{Inst: append(many, serves)}}
	if n := len(notes(v, unit.Start, failed)); n != mostNotes {
		t.Errorf("%d notes", n)
	}
}

func TestWhatWasNotRunHasNoLogs(t *testing.T) {
	for _, c := range []struct {
		exit unit.Exit
		want []string
	}{
		{unit.Exit{Kind: unit.ByStatus, Code: 1}, []string{"superctl logs api", "to start the file on disk at once: superctl reload api"}},
		{unit.Exit{Kind: unit.NotRun, Step: "exec", Errno: syscall.EACCES, Detail: "/srv/api", Hint: "chmod +x /srv/api"}, []string{"chmod +x /srv/api", "to start the file on disk at once: superctl reload api"}},
		{unit.Exit{Kind: unit.NotRun, Step: "chdir", Errno: syscall.ENOENT, Detail: "/srv"}, []string{"to start the file on disk at once: superctl reload api"}},
	} {
		v := &service.View{Name: "api", State: unit.Service{Want: unit.Up, Inst: []unit.Instance{{Due: 1e9, Result: unit.Resources, Exit: c.exit}}}}
		if diff := cmp.Diff(c.want, nextSteps(v, Facts{})); diff != "" {
			t.Error(diff)
		}
	}
}
