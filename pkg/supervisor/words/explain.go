package words

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// outputLines of the process that failed are part of the answer.
const outputLines = 8

// Explain says what it means for the unit that a job of it ended as f says.
func Explain(v *service.View, verb unit.Verb, f unit.Finish) *ipc.Error {
	x := &ipc.Error{Code: code(v, f), Message: fmt.Sprintf("cannot %s %s: %s", verb, v.Name, cause(v, f))}
	x.Notes, x.Hints = notes(v, verb, f), hints(v, verb, f)
	switch r := v.Runs[f.Proc.ID]; {
	case r.Handle != nil:
		x.Output = lastLines(r.Handle.Tail(), outputLines)
	case f.Proc.ID != 0 && f.Proc.ID == v.LastOf: // it is gone
		x.Output = lastLines(v.Last, outputLines)
	}
	return x
}

// Scaled is what to know of a new number of instances that does not count yet, and
// what to do about it. There is nothing to say if it does.
func Scaled(v *service.View) (notes, hints []string) {
	if !v.State.Dormant() {
		return nil, nil
	}
	return []string{v.Name + " is down and stays down: the number counts from its next start"}, []string{"superctl start " + v.Name}
}

func code(v *service.View, f unit.Finish) ipc.Code {
	switch {
	case f.Why == unit.WhyEnding:
		return ipc.Ending
	case f.Result == unit.Canceled:
		return ipc.Canceled
	case f.Why == unit.WhyDown:
		return ipc.NotActive
	case f.Why == unit.WhyRemoved:
		return ipc.NoSuchUnit
	case f.Result == unit.Refused:
		return ipc.Refused
	case !serving(v):
		return ipc.Down
	}
	return ipc.Failed
}

// cause is why, in the words for the process that did it.
func cause(v *service.View, f unit.Finish) string {
	p := f.Proc
	switch f.Why {
	case unit.WhySpawn:
		return startError(p.Exit).Error()
	case unit.WhyExited:
		if Life(v, p).Type == unit.Oneshot {
			return fmt.Sprintf("%s %s", who(v, p), Ended(p.Exit))
		}
		return fmt.Sprintf("%s %s before it was ready", who(v, p), Ended(p.Exit))
	case unit.WhyBaking:
		return fmt.Sprintf("%s %s while it baked (bake = %s)", who(v, p), Ended(p.Exit), Short(Life(v, p).Bake))
	case unit.WhyTimeout:
		return late(v, p)
	case unit.WhyWatchdog:
		return fmt.Sprintf("%s sent no WATCHDOG=1 within watchdog_sec = %s", who(v, p), Short(Life(v, p).Watchdog))
	case unit.WhyRuntime:
		return fmt.Sprintf("%s ran for longer than runtime_max_sec = %s", who(v, p), Short(Life(v, p).Runtime))
	case unit.WhyStopping:
		if p.Phase < unit.Baking {
			return who(v, p) + " said STOPPING=1 before it was ready"
		}
		return fmt.Sprintf("%s said STOPPING=1 while it baked (bake = %s)", who(v, p), Short(Life(v, p).Bake))
	case unit.WhyLeaving:
		return fmt.Sprintf("%s %s", who(v, p), f.Why)
	case unit.WhyCrashed:
		return fmt.Sprintf("%s %s", who(v, p), Ended(p.Exit))
	case unit.WhyStuck:
		return stuck(v)
	case unit.WhyDown:
		return "it is not running"
	case unit.WhyDraining:
		return tooMany(v)
	}
	return string(f.Why)
}

func late(v *service.View, p unit.Proc) string {
	limit := Short(Life(v, p).Start)
	switch {
	case p.PID == 0:
		return fmt.Sprintf("the new process could not be set up within timeout_start_sec = %s", limit)
	case Life(v, p).Type == unit.Notify:
		return fmt.Sprintf("%s did not send READY=1 within timeout_start_sec = %s", who(v, p), limit)
	}
	return fmt.Sprintf("%s did not end within timeout_start_sec = %s", who(v, p), limit)
}

func stuck(v *service.View) string {
	var names []string
	for p := range v.State.Procs() {
		if p.Phase == unit.Stuck {
			names = append(names, survivors(v, p)...)
		}
	}
	if len(names) == 1 {
		return "SIGKILL does not end " + names[0]
	}
	return "SIGKILL does not end " + strings.Join(names, ", ")
}

// survivors names what is left of p's tree.
func survivors(v *service.View, p unit.Proc) (names []string) {
	if r := v.Runs[p.ID]; r.Handle != nil {
		names = r.Handle.Survivors()
	}
	if names == nil {
		names = append(names, fmt.Sprintf("pid %d", p.PID))
	}
	return names
}

func tooMany(v *service.View) string {
	var pids []string
	limit := 0
	for _, in := range v.State.Inst {
		for _, p := range in.Old {
			if in.Surplus {
				break // a reload needs no place there
			}
			pids = append(pids, fmt.Sprintf("pid %d of generation %d", p.PID, p.Gen))
			limit = Life(v, p).MaxDraining
		}
	}
	return fmt.Sprintf("old processes are still draining (max_draining = %d): %s", limit, strings.Join(pids, ", "))
}

// who names a process as the reader knows it.
func who(v *service.View, p unit.Proc) string {
	name := "process"
	if p.Gen != 0 && p.Gen != v.State.Current {
		name = "new process"
	}
	if p.PID == 0 {
		return "the " + name
	}
	return fmt.Sprintf("%s %d", name, p.PID)
}

func notes(v *service.View, verb unit.Verb, f unit.Finish) (notes []string) {
	if verb == unit.Reload {
		for i, in := range v.State.Inst {
			if in.Main.Phase >= unit.Baking && in.Main.ID != f.Proc.ID {
				notes = append(notes, stillServes(v, f, i, in.Main))
			}
		}
	}
	notes = append(notes, comingBack(v, f)...)
	if len(notes) == 0 && f.Result == unit.Failed && !serving(v) && verb != unit.Stop && verb != unit.End {
		notes = append(notes, down(v, f)+"it will not be started again")
	}
	return few(notes)
}

// comingBack says what is being started again: of which instance, where others
// serve. Where none does it matters only which is there first.
func comingBack(v *service.View, f unit.Finish) (notes []string) {
	first, what := unit.Time(math.MaxInt64), ""
	for i, in := range v.State.Inst {
		due, comes := returns(in, v.At)
		if !comes {
			continue
		}
		if due < first {
			first, what = due, build(in, f)
		}
		if len(v.State.Inst) > 1 && serving(v) {
			notes = append(notes, fmt.Sprintf("instance %d: %s", i, again(build(in, f), due, v.At)))
		}
	}
	if len(notes) == 0 && first != math.MaxInt64 {
		notes = append(notes, down(v, f)+again(what, first, v.At))
	}
	return notes
}

// returns says when an instance without a Main that serves is to be started again, if
// it is.
func returns(in unit.Instance, now unit.Time) (due unit.Time, comes bool) {
	if in.Main.ID == 0 {
		return in.Due, in.Due != 0
	}
	return now, in.Main.Phase < unit.Baking
}

// build names what an instance runs, unless that is what has failed.
func build(in unit.Instance, f unit.Finish) string {
	if replaced(in, f) {
		return fmt.Sprintf("the previous build (generation %d)", in.Gen)
	}
	return "it"
}

// replaced: in runs again what the build that failed was to replace.
func replaced(in unit.Instance, f unit.Finish) bool { return f.Proc.Gen != 0 && in.Gen < f.Proc.Gen }

func again(what string, due, now unit.Time) string {
	if due > now {
		return what + " will be started again in " + until(due, now)
	}
	return what + " is being started again"
}

func down(v *service.View, f unit.Finish) string {
	switch {
	case Life(v, f.Proc).Type == unit.Oneshot: // which never does
		return ""
	case serving(v):
		return "another process serves; "
	}
	return "nothing serves: "
}

// mostNotes is what people read.
const mostNotes = 8

func few(notes []string) []string {
	if len(notes) <= mostNotes {
		return notes
	}
	rest := len(notes) - mostNotes + 1
	return append(notes[:mostNotes-1:mostNotes-1], fmt.Sprintf("and %d more instances", rest))
}

// stillServes is what a failed reload did to who serves: nothing, unless the
// two may not run side by side, it was replaced before another instance failed, or
// all of the rollout went well.
func stillServes(v *service.View, f unit.Finish, i int, p unit.Proc) string {
	who := fmt.Sprintf("generation %d (pid %d)", p.Gen, p.PID)
	if len(v.State.Inst) > 1 {
		who = fmt.Sprintf("instance %d: %s", i, who)
	}
	switch {
	case f.Proc.ID != 0 && p.ID > f.Proc.ID, !Life(v, p).Overlap && f.Result != unit.Refused:
		return who + " serves again"
	case f.Proc.Gen != 0 && f.Proc.Gen == v.State.Current:
		return who + " serves: only what the reload adds has failed"
	}
	return who + " was never signalled and still serves"
}

func hints(v *service.View, verb unit.Verb, f unit.Finish) (hints []string) {
	p := f.Proc
	switch f.Why {
	case unit.WhySpawn:
		if h := startError(p.Exit).Hint(); h != "" {
			hints = append(hints, h)
		}
	case unit.WhyDown:
		hints = append(hints, "superctl start "+v.Name)
	case unit.WhyRemoved:
		hints = append(hints, "put it back into the configuration, then: superctl daemon-reload")
	case unit.WhyCrowded:
		hints = append(hints, "to see what they wait for: superctl status "+v.Name)
	case unit.WhySocket:
		hints = append(hints, "to see what was done to it: superctl sockets")
	case unit.WhyDraining:
		hints = append(hints, "wait until they have finished, or end them: superctl kill --whom=old "+v.Name)
	case unit.WhyStuck:
		hints = append(hints, "superctl status "+v.Name)
	case unit.WhyTimeout:
		if h := whyNotReady(v, p); h != "" {
			hints = append(hints, h)
		}
	case unit.WhyExited, unit.WhyBaking, unit.WhyCrashed:
		if Life(v, p).Type != unit.Oneshot && p.Exit == (unit.Exit{Kind: unit.ByStatus}) {
			hints = append(hints, "a program that puts itself in the background counts as ended: run it in the foreground")
		}
	}
	if p.Gen != 0 && f.Why != unit.WhySpawn && f.Why != unit.WhyStuck {
		hints = append(hints, fmt.Sprintf("superctl logs %s --generation %d", v.Name, p.Gen))
	}
	if verb == unit.Reload && !serving(v) && revives(v, f) {
		hints = append(hints, "to see when it serves again: superctl status "+v.Name)
	}
	return hints
}

// revives: the build that was to be replaced is started again.
func revives(v *service.View, f unit.Finish) bool {
	return slices.ContainsFunc(v.State.Inst, func(in unit.Instance) bool {
		_, comes := returns(in, v.At)
		return comes && replaced(in, f)
	})
}

// whyNotReady is a guess why p has not said READY=1.
func whyNotReady(v *service.View, p unit.Proc) string {
	r := v.Runs[p.ID]
	switch {
	case Life(v, p).Type != unit.Notify || p.PID == 0:
		return ""
	case r.Handle != nil && len(r.Handle.Survivors()) > 1:
		return "it has children: if exec_start is a script, it must exec the server"
	case v.State.Current == 0 || p.Gen == v.State.Current:
		return `type = "exec" is for a program that does not call sd_notify`
	}
	return "" // a reload: an earlier one could say it
}

func Life(v *service.View, p unit.Proc) *unit.Life {
	for _, s := range []unit.Service{v.State, v.Past} {
		if b := s.Build(p.Gen); b != nil {
			return &b.Spec.Life
		}
	}
	return &unit.Life{}
}

// serving: some process can answer.
func serving(v *service.View) bool {
	for _, in := range v.State.Inst {
		if in.Main.Phase >= unit.Baking || in.Next.Phase >= unit.Baking {
			return true
		}
	}
	return v.State.SubState() == "exited"
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
