package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/invocation"
	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// A reporter says how things are. It changes nothing.
type reporter struct {
	roster  *roster
	log     zerolog.Logger
	table   *socket.Table
	doors   *doors.Doors
	ledger  *ledger.Ledger
	sinks   sinks
	runner  *invocation.Runner
	history *history.Log
	numbers *numbers
	metrics *metrics.Server
	looks   *looks
}

// Status is what anyone may see of the units, made of what the actors last
// showed. See [ipc.Supervisor].
func (rep *reporter) Status(names []string) (ipc.Status, error) {
	services, c := rep.roster.list(), rep.roster.configuration()
	facts := rep.look(services, c)
	st := ipc.Status{Time: facts.Clock}
	known, at := map[string]bool{}, whereabouts(services, c)
	for _, e := range services {
		known[e.Name()] = true
		if len(names) == 0 || slices.Contains(names, e.Name()) {
			st.Services = append(st.Services, rep.unitStatus(e, facts, len(names) > 0))
		}
	}
	for _, s := range c.Sockets {
		known[s.Name+".socket"] = true
		if len(names) == 0 || slices.Contains(names, s.Name+".socket") || needed(st.Services, s.Name) {
			st.Sockets = append(st.Sockets, rep.socketStatus(at, s.Name))
		}
	}
	for _, a := range c.Aside {
		known[a.String()] = true
		if len(names) > 0 && !slices.Contains(names, a.String()) {
			continue
		}
		if a.Socket {
			st.Sockets = append(st.Sockets, ipc.SocketUnit{Name: a.Name, Sockets: []ipc.Socket{{Queue: -1, Limit: -1, Error: a.Problems[0].String()}}})
		} else {
			st.Services = append(st.Services, asideStatus(a, len(names) > 0))
		}
	}
	for _, name := range names {
		if !known[name] {
			return ipc.Status{}, rep.roster.noSuchUnit("show", name)
		}
	}
	slices.SortStableFunc(st.Services, func(a, b ipc.UnitStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(st.Sockets, func(a, b ipc.SocketUnit) int { return strings.Compare(a.Name, b.Name) })
	st.Degraded = rep.degraded(services, c)
	st.Notes = append(facts.notes, rep.strays()...)
	return st, nil
}

func (rep *reporter) unitStatus(e entry, f facts, whole bool) ipc.UnitStatus {
	f.Spec = e.spec
	u := words.Status(e.View(), f.Facts, whole)
	if e.leavesAlone() {
		for _, l := range rep.runner.Launcher.Leftovers(e.Name()) {
			u.Leftovers = append(u.Leftovers, fmt.Sprintf("pid %d (%s)", l.PID, l.Comm))
		}
	}
	return u
}

// leavesAlone: what its main process leaves behind is not ended.
func (e entry) leavesAlone() bool {
	alone := func(s *unit.Spec) bool { return s != nil && s.Life.KillMode == unit.ProcessOnly }
	return alone(e.spec) || slices.ContainsFunc(e.View().State.Builds, func(b unit.Build) bool { return alone(b.Spec) })
}

// strays are those that nobody ends, since nobody knows whose they are.
func (rep *reporter) strays() (notes []string) {
	for _, s := range rep.runner.Launcher.Strays() {
		notes = append(notes, fmt.Sprintf("stray: pid %d (%s) of uid %d left its service and carries no mark of it", s.PID, s.Comm, s.UID))
	}
	return notes
}

// degraded is what does not work of supervisord itself.
func (rep *reporter) degraded(services []entry, c *config.Config) (all []string) {
	all = slices.Clone(c.Degraded)
	for _, e := range services {
		if err := e.View().Fault; err != nil {
			all = append(all, err.Error())
		}
	}
	all = append(all, rep.sinks.faults()...)
	if err := rep.history.Err(); err != nil {
		all = append(all, err.Error()+"; it is tried again every few seconds")
	}
	if err := rep.numbers.Err(); err != nil {
		all = append(all, err.Error()+"; it is tried again when something happens")
	}
	if err := rep.metrics.Fault(); err != nil {
		all = append(all, err.Error()+"; to try again: superctl daemon-reload")
	}
	return all
}

// Count says how many services there are, and how many of them are active or
// failed. It costs little enough to be asked after each event.
func (rep *reporter) Count() (all, active, failed int) {
	services := rep.roster.all()
	for _, a := range rep.roster.configuration().Aside {
		if !a.Socket {
			all, failed = all+1, failed+1
		}
	}
	for _, e := range services {
		switch e.View().State.ActiveState() {
		case "active", "reloading":
			active++
		case "failed":
			failed++
		}
	}
	return all + len(services), active, failed
}

// needed says whether one of the services names the socket.
func needed(services []ipc.UnitStatus, socket string) bool {
	return slices.ContainsFunc(services, func(u ipc.UnitStatus) bool { return slices.Contains(u.Sockets, socket) })
}

// places say who has what: of many services, each is looked at once.
type places struct {
	users map[string][]string   // services, by the socket that the configuration gives them
	pids  map[doors.Process]int // of all services
}

func whereabouts(services []entry, c *config.Config) places {
	at := places{map[string][]string{}, map[doors.Process]int{}}
	for _, spec := range c.Services {
		for _, s := range spec.SocketNames() {
			at.users[s] = append(at.users[s], spec.Name)
		}
	}
	for _, e := range services {
		for p := range e.View().State.Procs() {
			at.pids[doors.Process{Service: e.Name(), ID: p.ID}] = p.PID
		}
	}
	return at
}

func (rep *reporter) socketStatus(at places, name string) ipc.SocketUnit {
	u := ipc.SocketUnit{Name: name, Services: at.users[name], Sockets: []ipc.Socket{}}
	for _, part := range rep.doors.Parts(name) {
		sockets := rep.table.Status(part)
		for _, s := range sockets {
			x := rep.oneSocket(part, s)
			if x.Note == "" && rep.doors.Pending(part) {
				x.Note = "the configuration has changed: the next start, reload or restart takes it"
			}
			u.Sockets = append(u.Sockets, x)
		}
		if err := rep.doors.Err(part); err != nil && len(sockets) == 0 {
			u.Sockets = append(u.Sockets, ipc.Socket{Queue: -1, Limit: -1, Error: err.Error()})
		}
		u.Seats = append(u.Seats, rep.seats(at, part)...)
	}
	return u
}

func (rep *reporter) oneSocket(name string, s socket.Status) ipc.Socket {
	x := ipc.Socket{
		Address: s.Address, Listening: s.Listening, Given: s.Given, Steered: s.Steered, Queue: s.Queue, Limit: s.Limit,
		Drops: s.Drops, Retried: s.Retried, Lost: s.Lost, Note: s.Note,
	}
	if s.Err != nil {
		x.Error = s.Err.Error()
	}
	if s.Last != nil {
		x.Last = rep.blame(name, *s.Last)
	}
	return x
}

// seats are the places at a steered socket.
func (rep *reporter) seats(at places, name string) (all []ipc.Seat) {
	seats := rep.table.Seats(name)
	sum := 0
	for _, s := range seats {
		sum += s.Share
	}
	for _, s := range seats {
		x := ipc.Seat{Index: s.Index, PID: at.pids[rep.doors.Who(s.Holder)], Stray: s.Strays, Share: words.Percent(s.Share, sum)}
		for _, h := range s.Shards {
			x.Queue += max(0, h.Queue)
			x.Drops += h.Drops
		}
		all = append(all, x)
	}
	return all
}

// blame is a finding in words, with the pid of who did it if that is known.
func (rep *reporter) blame(name string, f socket.Finding) string {
	who := "a process that has it"
	if pid := pidOf(rep.roster.list(), rep.doors.Who(f.Holder)); pid != 0 {
		who = fmt.Sprintf("pid %d", pid)
	}
	text := fmt.Sprintf("%s: %s %s", f.Address, who, f.What)
	switch {
	case f.Err != nil:
		text += "; it cannot be mended: " + f.Err.Error()
	case f.Mended != "":
		text += "; " + f.Mended
	}
	if f.Again > 0 {
		text += fmt.Sprintf("; it was so %d times more since that was last said", f.Again)
	}
	if f.Dead != 0 {
		text += "; the processes that have it are replaced"
	}
	return text
}

// pidOf is the pid of a process that has a socket; 0: it is gone, or nobody.
func pidOf(services []entry, who doors.Process) int {
	for _, e := range services {
		if p := e.View().State.Find(who.ID); who.ID != 0 && p.ID != 0 && e.Name() == who.Service {
			return p.PID
		}
	}
	return 0
}

// account is what the kernel counts at the sockets of a service now, in the order
// in which the service has them.
func (rep *reporter) account(v *service.View) (all []ipc.SocketAccount) {
	names := rep.doors.Of(v.Name)
	if b := v.State.Build(v.State.Current); b != nil {
		slices.SortStableFunc(names, inOrder(b.Spec.SocketNames()))
	}
	for _, name := range names {
		for _, s := range rep.table.Status(name) {
			all = append(all, ipc.SocketAccount{
				Unit: name, Address: s.Address, Queue: s.Queue, Limit: s.Limit,
				Drops: s.Drops, Retried: s.Retried, Lost: s.Lost,
			})
		}
	}
	return all
}

// queueing are the addresses at which clients wait although nobody serves.
func (rep *reporter) queueing(v *service.View) (all []string) {
	b := v.State.Build(v.State.Current)
	if b == nil {
		return nil
	}
	for i := range v.State.Inst {
		for _, s := range b.Spec.Sockets {
			of, err := s.Of(i)
			if err != nil || i > 0 && of.Name == s.Name {
				continue
			}
			for _, x := range rep.table.Status(of.Name) {
				if x.Queues {
					all = append(all, x.Address)
				}
			}
		}
	}
	return all
}

// inOrder compares names of sockets by the place of their units in a list, and by
// their instances. What is not in the list is last.
func inOrder(units []string) func(a, b string) int {
	place := func(name string) (int, int) {
		of, instance := unit.SplitSocket(name)
		if i := slices.Index(units, of); i >= 0 {
			return i, instance
		}
		return len(units), instance
	}
	return func(a, b string) int {
		i, x := place(a)
		k, y := place(b)
		return cmp.Or(cmp.Compare(i, k), cmp.Compare(x, y))
	}
}
