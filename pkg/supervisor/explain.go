package supervisor

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// outputLines of the process that failed are part of the answer.
const outputLines = 8

// explain says what it means for the unit that a job of it ended as f says.
func (v *view) explain(verb unit.Verb, f unit.Finish) *ipc.Error {
	x := &ipc.Error{Code: v.code(f), Message: fmt.Sprintf("cannot %s %s: %s", verb, v.name, v.cause(f))}
	x.Notes, x.Hints = v.notes(verb, f), v.hints(verb, f)
	if r, ok := v.runs[f.Proc.ID]; ok && r.handle != nil {
		x.Output = lastLines(r.handle.Tail(), outputLines)
	}
	return x
}

func (v *view) code(f unit.Finish) ipc.Code {
	switch {
	case f.Result == unit.Canceled:
		return ipc.Canceled
	case f.Why == unit.WhyDown:
		return ipc.NotActive
	case f.Result == unit.Refused:
		return ipc.Refused
	case !v.serving():
		return ipc.Down
	}
	return ipc.Failed
}

// cause is why, in the words for the process that did it.
func (v *view) cause(f unit.Finish) string {
	p := f.Proc
	switch f.Why {
	case unit.WhySpawn:
		return startError(p.Exit).Error()
	case unit.WhyExited:
		if v.life(p).Type == unit.Oneshot {
			return fmt.Sprintf("%s %s", v.who(p), Ended(p.Exit))
		}
		return fmt.Sprintf("%s %s before it was ready", v.who(p), Ended(p.Exit))
	case unit.WhyBaking:
		return fmt.Sprintf("%s %s while it baked (bake = %s)", v.who(p), Ended(p.Exit), short(v.life(p).Bake))
	case unit.WhyTimeout:
		return v.late(p)
	case unit.WhyWatchdog:
		return fmt.Sprintf("%s sent no WATCHDOG=1 within watchdog_sec = %s", v.who(p), short(v.life(p).Watchdog))
	case unit.WhyRuntime:
		return fmt.Sprintf("%s ran for longer than runtime_max_sec = %s", v.who(p), short(v.life(p).Runtime))
	case unit.WhyStopping, unit.WhyLeaving:
		return fmt.Sprintf("%s %s", v.who(p), f.Why)
	case unit.WhyCrashed:
		return fmt.Sprintf("%s %s", v.who(p), Ended(p.Exit))
	case unit.WhyStuck:
		return v.stuck()
	case unit.WhyDown:
		return "it is not running"
	case unit.WhyDraining:
		return v.tooMany()
	}
	return string(f.Why)
}

func (v *view) late(p unit.Proc) string {
	limit := short(v.life(p).Start)
	switch {
	case p.PID == 0:
		return fmt.Sprintf("the new process could not be set up within timeout_start_sec = %s", limit)
	case v.life(p).Type == unit.Notify:
		return fmt.Sprintf("%s did not send READY=1 within timeout_start_sec = %s", v.who(p), limit)
	}
	return fmt.Sprintf("%s did not end within timeout_start_sec = %s", v.who(p), limit)
}

func (v *view) stuck() string {
	var names []string
	for p := range v.state.Procs() {
		if p.Phase == unit.Stuck {
			names = append(names, v.survivors(p)...)
		}
	}
	if len(names) == 1 {
		return "SIGKILL does not end " + names[0]
	}
	return "SIGKILL does not end " + strings.Join(names, ", ")
}

// survivors names what is left of p's tree.
func (v *view) survivors(p unit.Proc) (names []string) {
	if r := v.runs[p.ID]; r.handle != nil {
		for _, s := range r.handle.Survivors() {
			names = append(names, fmt.Sprintf("pid %d (%s)", s.PID, s.Comm))
		}
	}
	if names == nil {
		names = append(names, fmt.Sprintf("pid %d", p.PID))
	}
	return names
}

func (v *view) tooMany() string {
	var pids []string
	limit := 0
	for _, in := range v.state.Inst {
		for _, p := range in.Old {
			pids = append(pids, fmt.Sprintf("pid %d of generation %d", p.PID, p.Gen))
			limit = v.life(p).MaxDraining
		}
	}
	return fmt.Sprintf("%d old processes are still draining and max_draining = %d (%s)", len(pids), limit, strings.Join(pids, ", "))
}

// who names a process as the reader knows it.
func (v *view) who(p unit.Proc) string {
	name := "process"
	if p.Gen != 0 && p.Gen != v.state.Current {
		name = "new process"
	}
	if p.PID == 0 {
		return "the " + name
	}
	return fmt.Sprintf("%s %d", name, p.PID)
}

func (v *view) notes(verb unit.Verb, f unit.Finish) (notes []string) {
	if verb == unit.Reload {
		for i, in := range v.state.Inst {
			if in.Main.Phase >= unit.Baking && in.Main.ID != f.Proc.ID {
				notes = append(notes, v.stillServes(i, in.Main))
			}
		}
	}
	for _, in := range v.state.Inst {
		switch {
		case in.Main.ID == 0 && in.Due > v.at:
			notes = append(notes, fmt.Sprintf("nothing serves: it is started again in %s", until(in.Due, v.at)))
		case in.Main.ID == 0 && in.Due != 0, in.Main.ID != 0 && in.Main.Phase < unit.Baking:
			notes = append(notes, "nothing serves: it is being started again")
		}
	}
	if len(notes) == 0 && f.Result == unit.Failed && !v.serving() && verb != unit.Stop {
		notes = append(notes, fmt.Sprintf("nothing serves: %s is %s", v.name, v.state.SubState()))
	}
	return notes
}

// stillServes is what a failed reload did to who serves: nothing, unless the
// two may not run side by side.
func (v *view) stillServes(i int, p unit.Proc) string {
	who := fmt.Sprintf("generation %d (pid %d)", p.Gen, p.PID)
	if len(v.state.Inst) > 1 {
		who = fmt.Sprintf("instance %d: %s", i, who)
	}
	if !v.life(p).Overlap {
		return who + " serves again"
	}
	return who + " was never signalled and still serves"
}

func (v *view) hints(verb unit.Verb, f unit.Finish) (hints []string) {
	p := f.Proc
	switch f.Why {
	case unit.WhySpawn:
		if h := startError(p.Exit).Hint(); h != "" {
			hints = append(hints, h)
		}
	case unit.WhyDown:
		hints = append(hints, "superctl start "+v.name)
	case unit.WhyDraining:
		hints = append(hints, "superctl kill --whom=old "+v.name+", or wait until they have finished")
	case unit.WhyStuck:
		hints = append(hints, "superctl status "+v.name)
	case unit.WhyTimeout:
		if r := v.runs[p.ID]; r.handle != nil && v.life(p).Type == unit.Notify && len(r.handle.Survivors()) > 1 {
			hints = append(hints, "it has children: if exec_start is a script, it must exec the server")
		}
	}
	if p.Gen != 0 && f.Why != unit.WhySpawn && f.Why != unit.WhyStuck {
		hints = append(hints, fmt.Sprintf("superctl logs %s --generation %d", v.name, p.Gen))
	}
	return hints
}

func (v *view) life(p unit.Proc) *unit.Life {
	for _, s := range []unit.Service{v.state, v.past} {
		if b := s.Build(p.Gen); b != nil {
			return &b.Spec.Life
		}
	}
	return &unit.Life{}
}

// serving: some process can answer.
func (v *view) serving() bool {
	for _, in := range v.state.Inst {
		if in.Main.Phase >= unit.Baking || in.Next.Phase >= unit.Baking {
			return true
		}
	}
	return v.state.SubState() == "exited"
}

// Ended says how a main process ended: `exited with status 1`.
func Ended(e unit.Exit) string {
	switch e.Kind {
	case unit.ByStatus:
		return fmt.Sprintf("exited with status %d", e.Code)
	case unit.ByKill:
		return "was killed by " + SignalName(int(e.Signal))
	case unit.ByDump:
		return "was killed by " + SignalName(int(e.Signal)) + " and dumped core"
	case unit.NotRun:
		return startError(e).Error()
	}
	return "ended unseen"
}

// SignalName is signal(7)'s name for a number.
func SignalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

func startError(e unit.Exit) *process.StartError { return process.NotRun(e) }

func until(t, now unit.Time) string { return short(max(0, time.Duration(t-now))) }

// short is a duration with as many digits as people want to read.
func short(d time.Duration) string {
	switch {
	case d == unit.Infinity:
		return "infinity"
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if t := strings.TrimSuffix(s, zero); t != s && t != "" && strings.ContainsAny(t[len(t)-1:], "hm") {
			s = t
		}
	}
	return s
}

// lastLines returns the last n lines of text that have something in them.
func lastLines(text []byte, n int) (lines []string) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}
