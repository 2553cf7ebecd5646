package supervisor

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Status is what anyone may see of the units, made of what the actors last
// showed. See [ipc.Supervisor].
func (m *Manager) Status(names []string) (ipc.Status, error) {
	m.mu.Lock()
	services, c := m.list(), m.config
	m.mu.Unlock()
	m.inspect()
	st := ipc.Status{Time: time.Now()}
	known := map[string]bool{}
	for _, s := range services {
		known[s.name] = true
		if len(names) == 0 || slices.Contains(names, s.name) {
			st.Services = append(st.Services, m.unitStatus(s, len(names) > 0))
		}
		if v := s.shown.Load(); v.fault != nil {
			st.Degraded = append(st.Degraded, v.fault.Error())
		}
	}
	for _, s := range c.Sockets {
		known[s.Name+".socket"] = true
		if len(names) == 0 || slices.Contains(names, s.Name+".socket") || m.needed(st.Services, s.Name) {
			st.Sockets = append(st.Sockets, m.socketStatus(s.Name))
		}
	}
	for _, name := range names {
		if !known[name] {
			return ipc.Status{}, m.noSuchUnit("show", name)
		}
	}
	st.Degraded = append(st.Degraded, m.logFaults()...)
	if err := m.history.Err(); err != nil {
		st.Degraded = append(st.Degraded, err.Error()+"; it is tried again every few seconds")
	}
	if err := m.metrics.Fault(); err != nil {
		st.Degraded = append(st.Degraded, err.Error()+"; superctl daemon-reload tries again")
	}
	if m.filesDiffer() {
		st.Notes = append(st.Notes, "the configuration's files differ from what is taken in: superctl daemon-reload takes them in")
	}
	return st, nil
}

// Count says how many services there are, and how many of them are active or
// failed. It costs little enough to be asked after each event.
func (m *Manager) Count() (all, active, failed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.services {
		switch s.shown.Load().state.ActiveState() {
		case "active", "reloading":
			active++
		case "failed":
			failed++
		}
	}
	return len(m.services), active, failed
}

// needed says whether one of the services names the socket.
func (m *Manager) needed(services []ipc.UnitStatus, socket string) bool {
	return slices.ContainsFunc(services, func(u ipc.UnitStatus) bool { return slices.Contains(u.Sockets, socket) })
}

func (m *Manager) socketStatus(name string) ipc.SocketUnit {
	u := ipc.SocketUnit{Name: name, Sockets: []ipc.Socket{}}
	m.mu.Lock()
	for _, spec := range m.config.Services {
		if spec.Uses(name) {
			u.Services = append(u.Services, spec.Name)
		}
	}
	m.mu.Unlock()
	for _, part := range m.partsOf(name) {
		sockets := m.o.Table.Status(part)
		for _, s := range sockets {
			u.Sockets = append(u.Sockets, m.oneSocket(part, s))
		}
		if err := m.doors.fault(part); err != nil && len(sockets) == 0 {
			u.Sockets = append(u.Sockets, ipc.Socket{Queue: -1, Limit: -1, Error: err.Error()})
		}
		u.Seats = append(u.Seats, m.seats(part)...)
	}
	return u
}

// partsOf are the names under which the sockets of a unit are kept: its own, or
// one for each instance.
func (m *Manager) partsOf(name string) []string {
	var parts []string
	for _, n := range m.o.Table.Names() {
		if of, i := unit.SplitSocket(n); of == name && i >= 0 {
			parts = append(parts, n)
		}
	}
	if parts == nil {
		parts = []string{name}
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return parts
}

func (m *Manager) oneSocket(name string, s socket.Status) ipc.Socket {
	x := ipc.Socket{
		Address: s.Address, Listening: s.Listening, Given: s.Given, Steered: s.Steered, Queue: s.Queue, Limit: s.Limit,
		Drops: s.Drops, Retried: s.Retried, Lost: s.Lost, Note: s.Note,
	}
	if s.Err != nil {
		x.Error = s.Err.Error()
	}
	if s.Last != nil {
		x.Last = m.blame(name, *s.Last)
	}
	return x
}

func (m *Manager) unitStatus(s *service, whole bool) ipc.UnitStatus {
	v := s.shown.Load()
	spec := m.specOf(s.name)
	u := ipc.UnitStatus{
		Name: s.name, ActiveState: string(v.state.ActiveState()), SubState: string(v.state.SubState()),
		Generation: uint32(v.state.Current), Want: v.want(), Removed: spec == nil,
	}
	if b := v.state.Build(v.state.Current); b != nil {
		spec = b.Spec // what runs, not what the files say
	}
	if spec != nil {
		u.Command, u.Sockets = spec.Program.Argv[0], spec.SocketNames()
	}
	for i, in := range v.state.Inst {
		v.instance(&u, i, in)
	}
	u.Job, u.Queued = m.jobIn(v.state.Job), m.jobIn(v.state.Queue)
	u.Waiting = v.waiting()
	u.Note = v.note()
	u.FileDiffers = v.fileDiffers()
	if whole {
		u.Output, u.Hints = v.output(), v.nextSteps()
	}
	return u
}

// want is how many instances there are to be.
func (v *view) want() (n int) {
	for _, in := range v.state.Inst {
		if !in.Surplus {
			n++
		}
	}
	return n
}

// instance adds what one instance has to u.
func (v *view) instance(u *ipc.UnitStatus, i int, in unit.Instance) {
	if in.Result != "" && in.Result != unit.Success {
		u.Result = string(in.Result)
	}
	if in.Exit.Kind != unit.NotExited {
		u.LastExit = Ended(in.Exit)
	}
	u.Restarts += in.Again
	if in.Main.Phase >= unit.Baking && !in.Main.Stopping || v.state.Sub(i) == "exited" {
		u.Ready++
	}
	v.processes(u, i, unit.RoleMain, in.Main)
	v.processes(u, i, unit.RoleNext, in.Next)
	v.processes(u, i, unit.RoleOld, in.Old...)
	if m := in.Main; u.MainPID == 0 && m.PID != 0 {
		u.MainPID, u.Since = m.PID, v.wall(m.Since)
		u.StatusText, u.Errno = v.runs[m.ID].heard.status, v.runs[m.ID].heard.errno
	}
}

func (v *view) processes(u *ipc.UnitStatus, i int, role unit.Role, ps ...unit.Proc) {
	for _, p := range ps {
		if p.ID == 0 {
			continue
		}
		x := ipc.Process{
			Instance: i, Role: string(role), PID: p.PID, Generation: uint32(p.Gen), Phase: v.phase(p),
			Since: v.wall(p.Since), Deadline: v.wall(p.By), Memory: resident(p), Invocation: v.runs[p.ID].trace.InvocationID,
			Share: v.share(p.ID),
		}
		u.Memory += x.Memory
		u.Processes = append(u.Processes, x)
	}
}

// share is the part of new connections that a process gets, in per cent.
func (v *view) share(id unit.Invocation) float64 {
	of, sum := 0, 0
	for _, h := range v.state.Shares() {
		if sum += h.Weight; h.ID == id {
			of = h.Weight
		}
	}
	return percent(of, sum)
}

// phase is what a process does, for people.
func (v *view) phase(p unit.Proc) string {
	switch {
	case p.Phase == unit.Spawning:
		return "being set up"
	case p.Stopping && p.Phase <= unit.Serving:
		return "stopping (it said so)"
	case p.Phase == unit.Starting && v.life(p).Type == unit.Notify:
		return "waiting for READY=1"
	case p.Phase == unit.Starting:
		return "running to its end"
	case p.Phase == unit.Baking:
		return "baking"
	case p.Phase == unit.Serving && v.runs[p.ID].heard.reloading:
		return "serving, reloading by itself"
	case p.Phase == unit.Serving:
		return "serving"
	case p.Phase == unit.Settling:
		return "settling"
	case p.Phase == unit.Emptying:
		return "settling: connections are still on their way to it"
	case p.Phase == unit.Stuck:
		return "outlived SIGKILL"
	case p.Exit.Kind != unit.NotExited:
		return Ended(p.Exit) + ", ending what it left behind"
	case p.Phase == unit.Told:
		return "sent SIGKILL"
	}
	return "draining"
}

// wall is the time of day of t, as far as one can tell.
func (v *view) wall(t unit.Time) *time.Time {
	if t == 0 {
		return nil
	}
	w := time.Now().Add(time.Duration(t - now())).Round(time.Millisecond)
	return &w
}

// resident is the memory of a main process in bytes (proc_pid_statm(5)).
func resident(p unit.Proc) uint64 {
	if p.PID == 0 || p.Exit.Kind != unit.NotExited {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		return 0
	}
	if f := strings.Fields(string(text)); len(f) > 1 {
		pages, _ := strconv.ParseUint(f[1], 10, 64)
		return pages * uint64(os.Getpagesize())
	}
	return 0
}

// waiting says for what the unit waits, and how long it will yet.
func (v *view) waiting() (lines []string) {
	left := func(t unit.Time) string {
		if t == 0 {
			return ""
		}
		return ", " + until(t, now()) + " left"
	}
	for _, in := range v.state.Inst {
		for _, p := range []unit.Proc{in.Main, in.Next} {
			switch {
			case p.ID == 0:
			case p.Phase == unit.Spawning:
				lines = append(lines, "waiting for the process to be set up"+left(p.By))
			case p.Phase == unit.Starting && v.life(p).Type == unit.Notify:
				lines = append(lines, fmt.Sprintf("waiting for READY=1 from pid %d (type = notify)%s", p.PID, left(p.By)))
			case p.Phase == unit.Starting:
				lines = append(lines, fmt.Sprintf("waiting for pid %d to end (type = %s)%s", p.PID, v.life(p).Type, left(p.By)))
			case p.Phase == unit.Baking && (p.ID == in.Next.ID || v.life(p).Type == unit.Exec):
				lines = append(lines, fmt.Sprintf("baking: pid %d must stay ready%s", p.PID, left(p.By)))
			}
		}
		for _, p := range in.Old {
			if p.Phase < unit.Stuck {
				lines = append(lines, v.waitingForOld(p))
			}
		}
		if in.Main.ID == 0 && in.Due > now() {
			lines = append(lines, "starts again in "+until(in.Due, now()))
		}
	}
	return lines
}

func (v *view) waitingForOld(p unit.Proc) string {
	switch {
	case p.By == 0:
		return fmt.Sprintf("waiting for pid %d to end", p.PID)
	case p.Phase == unit.Told:
		return fmt.Sprintf("waiting for pid %d to end after SIGKILL, given up in %s", p.PID, until(p.By, now()))
	}
	return fmt.Sprintf("waiting for pid %d to end, SIGKILL in %s", p.PID, until(p.By, now()))
}

// note is the one thing that a reader of the table should know.
func (v *view) note() string {
	var notes []string
	for _, in := range v.state.Inst {
		if in.Main.ID == 0 && (in.Due != 0 || in.Result != unit.Success) && in.Exit.Kind != unit.NotExited {
			notes = append(notes, brief(in.Exit))
		}
		switch {
		case in.Main.ID == 0 && in.Due > now():
			notes = append(notes, "retry in "+until(in.Due, now()))
		case in.Result == unit.StartLimitHit:
			notes = append(notes, "restarted too often")
		case in.Main.ID == 0 && in.Exit.Kind == unit.NotExited && in.Result != "" && in.Result != unit.Success:
			notes = append(notes, string(in.Result))
		}
		if n := len(in.Old); n > 0 && in.Main.ID != 0 {
			notes = append(notes, fmt.Sprintf("%d draining", n))
		}
	}
	if v.fileDiffers() {
		notes = append(notes, "file on disk differs")
	}
	return strings.Join(notes, ", ")
}

// brief is an exit for a table.
func brief(e unit.Exit) string {
	switch e.Kind {
	case unit.ByStatus:
		return fmt.Sprintf("exit %d", e.Code)
	case unit.ByKill, unit.ByDump:
		return SignalName(int(e.Signal))
	case unit.NotRun:
		if e.Errno != 0 && e.Detail != "" {
			return e.Detail + ": " + e.Errno.Error()
		}
		return startError(e).Error()
	}
	return "unknown end"
}

// fileDiffers: the next reload would run another file than Main does.
func (v *view) fileDiffers() bool {
	for _, in := range v.state.Inst {
		if p := v.baked[in.Main.Gen]; p != nil && p.Differs(p.Path()) {
			return true
		}
	}
	return false
}

// output is the last that a unit wrote.
func (v *view) output() []string {
	var last unit.Proc
	for p := range v.state.Procs() {
		if p.ID > last.ID {
			last = p
		}
	}
	if r := v.runs[last.ID]; r.handle != nil {
		return lastLines(r.handle.Tail(), outputLines)
	}
	return nil
}

// nextSteps are what an operator would do about the state that the unit is in.
func (v *view) nextSteps() (hints []string) {
	switch v.state.SubState() {
	case "dead":
		hints = append(hints, "superctl start "+v.name)
	case "failed":
		hints = append(hints, "superctl logs "+v.name, "superctl start "+v.name+" tries again")
	case "auto-restart":
		hints = append(hints, "superctl logs "+v.name, "superctl reload "+v.name+" starts what is at the path now, at once")
	}
	if v.fileDiffers() {
		hints = append(hints, "superctl reload "+v.name+" takes the file on disk")
	}
	return hints
}
