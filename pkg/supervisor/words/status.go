package words

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Facts are what a status says besides what the actor has shown: the time, and
// what only a look at the machine tells.
type Facts struct {
	Now     unit.Time
	Clock   time.Time               // the time of day at Now
	Memory  map[int]uint64          // by pid, in bytes
	Differs map[string]bool         // by the path of an executable that is kept open: another file is there
	Spec    *unit.Spec              // what the configuration says; nil: nothing
	Job     func(unit.Job) *ipc.Job // what the ledger has of a job in progress; nil: nothing

	shares map[unit.Invocation]int // of new connections
	sum    int                     // of them
}

// wall is the time of day of t, as far as one can tell.
func (f Facts) wall(t unit.Time) *time.Time {
	if t == 0 {
		return nil
	}
	w := f.Clock.Add(time.Duration(t - f.Now)).Round(time.Millisecond)
	return &w
}

// Status is what anyone may see of a unit; whole: with its output, and what to
// do next.
func Status(v *service.View, f Facts, whole bool) ipc.UnitStatus {
	u := ipc.UnitStatus{
		Name: v.Name, ActiveState: string(v.State.ActiveState()), SubState: string(v.State.SubState()),
		Generation: uint32(v.State.Current), Want: want(v), Removed: f.Spec == nil,
	}
	spec := f.Spec
	if b := v.State.Build(v.State.Current); b != nil {
		spec = b.Spec // what runs, not what the files say
	}
	if spec != nil {
		u.Command, u.Sockets = spec.Program.Argv[0], spec.SocketNames()
	}
	f.shares, f.sum = shares(v)
	for i, in := range v.State.Inst {
		instance(v, f, &u, i, in)
	}
	u.Job, u.Queued = f.Job(v.State.Job), f.Job(v.State.Queue)
	u.Waiting = Waiting(v, f.Now)
	u.FileDiffers = fileDiffers(v, f)
	u.Note = note(v, f)
	if whole {
		u.Output, u.Hints = output(v), nextSteps(v, f)
		if spec != nil {
			u.Argv = spec.Program.Argv
		}
		others(v, &u)
	}
	return u
}

// fileDiffers: the next reload would run another file than Main does.
func fileDiffers(v *service.View, f Facts) bool {
	for _, in := range v.State.Inst {
		if p := v.Baked[in.Main.Gen]; p != nil && f.Differs[p.Path()] {
			return true
		}
	}
	return false
}

// want is how many instances there are to be.
func want(v *service.View) (n int) {
	for _, in := range v.State.Inst {
		if !in.Surplus {
			n++
		}
	}
	return n
}

// instance adds what one instance has to u.
func instance(v *service.View, f Facts, u *ipc.UnitStatus, i int, in unit.Instance) {
	if in.Result != "" && in.Result != unit.Success {
		u.Result = string(in.Result)
	}
	if in.Exit.Kind != unit.NotExited {
		u.LastExit = Ended(in.Exit)
	}
	u.Restarts += in.Again
	if in.Main.Phase >= unit.Baking && !in.Main.Stopping || v.State.Sub(i) == "exited" {
		u.Ready++
	}
	processes(v, f, u, i, unit.RoleMain, in.Main)
	processes(v, f, u, i, unit.RoleNext, in.Next)
	processes(v, f, u, i, unit.RoleOld, in.Old...)
	if m := in.Main; u.MainPID == 0 && m.PID != 0 {
		u.MainPID, u.Since = m.PID, f.wall(m.Since)
		u.StatusText, u.Errno = v.Runs[m.ID].Status, v.Runs[m.ID].Errno
	}
}

func processes(v *service.View, f Facts, u *ipc.UnitStatus, i int, role unit.Role, ps ...unit.Proc) {
	for _, p := range ps {
		if p.ID == 0 {
			continue
		}
		x := ipc.Process{
			Instance: i, Role: string(role), PID: p.PID, Generation: uint32(p.Gen), Phase: phase(v, p),
			Since: f.wall(p.Since), Deadline: f.wall(p.By), Memory: f.Memory[p.PID], Invocation: invocationID(v, p.ID),
			Share: Percent(f.shares[p.ID], f.sum), Remarks: remarks(v, p.ID),
		}
		u.Memory += x.Memory
		u.Processes = append(u.Processes, x)
	}
}

// shares are the parts of new connections that processes get, and their sum.
func shares(v *service.View) (of map[unit.Invocation]int, sum int) {
	of = map[unit.Invocation]int{}
	for _, h := range v.State.Shares() {
		of[h.ID] = h.Weight
		sum += h.Weight
	}
	return of, sum
}

// phase is what a process does, for people.
func phase(v *service.View, p unit.Proc) string {
	switch {
	case p.Phase == unit.Spawning:
		return "being set up"
	case p.Stopping && p.Phase <= unit.Serving:
		return "stopping (it said so)"
	case p.Phase == unit.Starting && Life(v, p).Type == unit.Notify:
		return "waiting for READY=1"
	case p.Phase == unit.Starting:
		return "running to its end"
	case p.Phase == unit.Baking:
		return "baking"
	case p.Phase == unit.Serving && v.Runs[p.ID].Reloading:
		return "serving, reloading by itself"
	case p.Phase == unit.Serving:
		return "serving"
	case p.Phase == unit.Settling:
		return "settling"
	case p.Phase == unit.Emptying:
		return "settling: clients still wait in its queue"
	case p.Phase == unit.Stuck:
		return "outlived SIGKILL"
	case p.Exit.Kind != unit.NotExited:
		return Ended(p.Exit) + ", ending what it left behind"
	case p.Phase == unit.Told:
		return "sent SIGKILL"
	}
	return "draining"
}

// Waiting says for what the unit waits, and how long it will yet.
func Waiting(v *service.View, now unit.Time) (lines []string) {
	left := func(t unit.Time) string {
		if t == 0 {
			return ""
		}
		return ", " + until(t, now) + " left"
	}
	for _, in := range v.State.Inst {
		for _, p := range []unit.Proc{in.Main, in.Next} {
			switch {
			case p.ID == 0:
			case p.Stopping:
				lines = append(lines, fmt.Sprintf("waiting for pid %d to end (it said STOPPING=1)%s", p.PID, left(p.By)))
			case p.Phase == unit.Spawning:
				lines = append(lines, "waiting for the process to be set up"+left(p.By))
			case p.Phase == unit.Starting && Life(v, p).Type == unit.Notify:
				lines = append(lines, fmt.Sprintf("waiting for READY=1 from pid %d (type = notify)%s", p.PID, left(p.By)))
			case p.Phase == unit.Starting:
				lines = append(lines, fmt.Sprintf("waiting for pid %d to end (type = %s)%s", p.PID, Life(v, p).Type, left(p.By)))
			case p.Phase == unit.Baking && (p.ID == in.Next.ID || Life(v, p).Type == unit.Exec):
				lines = append(lines, fmt.Sprintf("baking: pid %d must stay ready%s", p.PID, left(p.By)))
			}
		}
		for _, p := range in.Old {
			if p.Phase < unit.Stuck {
				lines = append(lines, waitingForOld(p, now))
			}
		}
		if in.Main.ID == 0 && in.Due > now {
			lines = append(lines, "restarts in "+until(in.Due, now))
		}
	}
	return lines
}

func waitingForOld(p unit.Proc, now unit.Time) string {
	switch {
	case p.By == 0:
		return fmt.Sprintf("waiting for pid %d to end", p.PID)
	case p.Phase == unit.Settling:
		return fmt.Sprintf("waiting for pid %d to settle, kill signal in %s", p.PID, until(p.By, now))
	case p.Phase == unit.Emptying:
		return fmt.Sprintf("waiting for the queue of pid %d to get empty, kill signal in %s at the latest", p.PID, until(p.By, now))
	case p.Phase == unit.Told:
		return fmt.Sprintf("waiting for pid %d to end after SIGKILL, given up in %s", p.PID, until(p.By, now))
	}
	return fmt.Sprintf("waiting for pid %d to end, SIGKILL in %s", p.PID, until(p.By, now))
}

// note is the one thing that a reader of the table should know.
func note(v *service.View, f Facts) string {
	var notes []string
	for _, in := range v.State.Inst {
		if in.Main.ID == 0 && (in.Due != 0 || in.Result != unit.Success) && in.Exit.Kind != unit.NotExited {
			notes = append(notes, brief(in.Exit))
		}
		switch {
		case in.Main.ID == 0 && in.Due > f.Now:
			notes = append(notes, "retry in "+until(in.Due, f.Now))
		case in.Result == unit.StartLimitHit:
			notes = append(notes, "restarted too often")
		case in.Main.ID == 0 && in.Exit.Kind == unit.NotExited && in.Result != "" && in.Result != unit.Success:
			notes = append(notes, string(in.Result))
		}
		if in.Main.Fresh && in.Main.Phase < unit.Serving {
			notes = append(notes, "tries the file on disk in place of the one that baked")
		}
		if n := len(in.Old); n > 0 && in.Main.ID != 0 {
			notes = append(notes, fmt.Sprintf("%d draining", n))
		}
	}
	if fileDiffers(v, f) {
		notes = append(notes, "file on disk differs")
	}
	if b := v.State.Build(v.State.Current); b != nil && noCanary(b.Spec) != "" {
		notes = append(notes, noCanary(b.Spec))
	}
	text := strings.Join(notes, ", ")
	if text != "" {
		text += lastWords(v)
	}
	return text
}

// brief is an exit for a table.
func brief(e unit.Exit) string {
	switch e.Kind {
	case unit.ByStatus:
		return fmt.Sprintf("exit %d", e.Code)
	case unit.ByKill, unit.ByDump:
		return SignalName(int(e.Signal))
	case unit.NotRun:
		if e.Errno != 0 && strings.HasPrefix(e.Detail, "/") { // what else it can be needs the verb
			return e.Detail + ": " + startError(e).Cause()
		}
		return startError(e).Error()
	}
	return "unknown end"
}

// output is the last that a unit wrote.
func output(v *service.View) []string {
	var last unit.Proc
	for p := range v.State.Procs() {
		if p.ID > last.ID {
			last = p
		}
	}
	if r := v.Runs[last.ID]; r.Handle != nil {
		return lastLines(r.Handle.Tail(), outputLines)
	}
	if last.ID == 0 {
		return lastLines(v.Last, outputLines)
	}
	return nil
}

// others adds to each process what else is in its tree.
func others(v *service.View, u *ipc.UnitStatus) {
	for p := range v.State.Procs() {
		i := slices.IndexFunc(u.Processes, func(x ipc.Process) bool { return x.PID == p.PID })
		if h := v.Runs[p.ID].Handle; h != nil && i >= 0 && p.PID != 0 {
			u.Processes[i].Others = besides(p.PID, h.Survivors())
		}
	}
}

// besides are the first of all processes but the main one.
func besides(main int, all []string) []string {
	const most = 16
	all = slices.DeleteFunc(all, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("pid %d ", main)) })
	if len(all) > most {
		return append(all[:most:most], fmt.Sprintf("%d more", len(all)-most))
	}
	return all
}

// lastWords is the last line of a process that ended by itself before its service
// runs again, for a table: it often says why.
func lastWords(v *service.View) string {
	const most = 160
	lines := lastLines(v.Last, 1)
	for _, in := range v.State.Inst {
		if in.Main.ID != 0 || in.Exit.Kind == unit.NotExited || in.Exit.Kind == unit.NotRun || in.Result == unit.Success {
			return ""
		}
	}
	if len(lines) == 0 {
		return ""
	}
	line := []rune(lines[0])
	if len(line) > most {
		line = append(line[:most], '…')
	}
	return ": " + strings.TrimSpace(string(line))
}

// nextSteps are what an operator would do about the state that the unit is in.
func nextSteps(v *service.View, f Facts) (hints []string) {
	switch v.State.SubState() {
	case "dead":
		hints = append(hints, "superctl start "+v.Name)
	case "failed":
		hints = append(whatFailed(v), "to try again: superctl start "+v.Name)
	case "auto-restart":
		hints = append(whatFailed(v), "to start the file on disk at once: superctl reload "+v.Name)
	}
	if fileDiffers(v, f) {
		hints = append(hints, "to switch to the file on disk: superctl reload "+v.Name)
	}
	return hints
}

// whatFailed is where to look first. What was not run has written nothing.
func whatFailed(v *service.View) (hints []string) {
	logs := "superctl logs " + v.Name
	for _, in := range v.State.Inst {
		h := logs
		if in.Exit.Kind == unit.NotRun {
			h = startError(in.Exit).Hint()
		}
		if h != "" && !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	return few(hints)
}

// invocationID is $INVOCATION_ID of a process that has been made.
func invocationID(v *service.View, id unit.Invocation) string {
	if h := v.Runs[id].Handle; h != nil {
		return h.InvocationID()
	}
	return ""
}

func remarks(v *service.View, id unit.Invocation) []string {
	if h := v.Runs[id].Handle; h != nil {
		return h.Remarks()
	}
	return nil
}
