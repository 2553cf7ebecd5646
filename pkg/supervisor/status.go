package supervisor

import (
	"cmp"
	"fmt"
	"iter"
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
	if !slices.ContainsFunc(rep.doors.Of(e.Name()), rep.isSteered) {
		for i := range u.Processes {
			u.Processes[i].Share = 0 // it is what would be dealt
		}
	}
	return u
}

func (rep *reporter) isSteered(name string) bool { return len(steered(rep.table, name)) > 0 }

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
	users     map[string][]string // services, by the socket that the configuration gives them
	unsteered map[string]string   // why sockets are not steered that were to be
	procs     map[doors.Process]located
}

// A located process is one with its place in its service.
type located struct {
	unit.Proc
	instance int
	role     unit.Role
}

func whereabouts(services []entry, c *config.Config) places {
	at := places{map[string][]string{}, map[string]string{}, map[doors.Process]located{}}
	for _, s := range c.Sockets {
		if s.Unsteered != "" {
			at.unsteered[s.Name] = s.Unsteered
		}
	}
	for _, spec := range c.Services {
		for _, s := range spec.SocketNames() {
			at.users[s] = append(at.users[s], spec.Name)
		}
	}
	for _, e := range services {
		for p := range locate(e.View()) {
			at.procs[doors.Process{Service: e.Name(), ID: p.ID}] = p
		}
	}
	return at
}

// locate yields the processes of a service; of each instance Next, Main, then all Old.
func locate(v *service.View) iter.Seq[located] {
	return func(yield func(located) bool) {
		for i, in := range v.State.Inst {
			all := []located{{in.Next, i, unit.RoleNext}, {in.Main, i, unit.RoleMain}}
			for _, p := range in.Old {
				all = append(all, located{p, i, unit.RoleOld})
			}
			for _, p := range all {
				if p.ID != 0 && !yield(p) {
					return
				}
			}
		}
	}
}

func (rep *reporter) socketStatus(at places, name string) ipc.SocketUnit {
	u := ipc.SocketUnit{Name: name, Services: at.users[name], Sockets: []ipc.Socket{}, Unsteered: at.unsteered[name]}
	for _, part := range rep.doors.Parts(name) {
		sockets := rep.table.Status(part)
		for _, s := range sockets {
			x := rep.oneSocket(part, s)
			if x.Note == "" && rep.doors.Pending(part) {
				x.Note = "the configuration has changed: the next start, reload or restart takes it"
			}
			if u.Unsteered != "" && !isUnix(s.Address) {
				x.Note = joined(x.Note, "shared: "+u.Unsteered)
			}
			u.Sockets = append(u.Sockets, x)
		}
		if err := rep.doors.Err(part); err != nil && len(sockets) == 0 {
			u.Sockets = append(u.Sockets, ipc.Socket{Queue: -1, Limit: -1, Error: err.Error()})
		}
		u.Holders = append(u.Holders, rep.holders(at, part)...)
	}
	slices.SortStableFunc(u.Holders, inOrderOfRoles)
	return u
}

func isUnix(address string) bool {
	return strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@")
}

func joined(note, more string) string {
	if note == "" {
		return more
	}
	return note + "; " + more
}

func (rep *reporter) oneSocket(name string, s socket.Status) ipc.Socket {
	x := ipc.Socket{
		Address: s.Address, Listening: s.Listening, Given: s.Given, Steered: s.Steered, Queue: s.Queue, Limit: s.Limit,
		Drops: s.Drops, Note: s.Note,
	}
	if s.Err != nil {
		x.Error = s.Err.Error()
	}
	if s.Last != nil {
		x.Last = rep.blame(name, *s.Last)
	}
	return x
}

// holders are those who have queues of their own at a steered socket.
func (rep *reporter) holders(at places, name string) (all []ipc.SocketHolder) {
	for _, p := range steered(rep.table, name) {
		x := ipc.SocketHolder{Share: float64(p.Share) / 100, Queues: []ipc.SocketQueue{}}
		for _, h := range p.Shards {
			x.Queues = append(x.Queues, ipc.SocketQueue{Address: h.Address, Queue: h.Queue, Limit: h.Limit, Drops: h.Drops})
		}
		if p.Holder != 0 {
			rep.name(&x, at, p.Holder)
		}
		all = append(all, x)
	}
	return all
}

// goneRole is that of a process that has ended, and whose sockets are being closed.
const goneRole = "gone"

// inOrderOfRoles has first who waits for nobody in particular, then of each instance Main,
// Next, and all Old.
func inOrderOfRoles(a, b ipc.SocketHolder) int {
	roles := []string{"", string(unit.RoleMain), string(unit.RoleNext), string(unit.RoleOld), goneRole}
	place := func(h ipc.SocketHolder) int { return slices.Index(roles, h.Role) }
	return cmp.Or(cmp.Compare(min(place(a), 1), min(place(b), 1)), cmp.Compare(a.Instance, b.Instance), cmp.Compare(place(a), place(b)))
}

// name says which process a holder is.
func (rep *reporter) name(x *ipc.SocketHolder, at places, holder unit.Invocation) {
	who := rep.doors.Who(holder)
	x.Service, x.Role = who.Service, goneRole
	if p, ok := at.procs[who]; ok {
		x.Instance, x.Role, x.PID, x.Generation = p.instance, string(p.role), p.PID, uint32(p.Gen)
	}
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
				Drops: s.Drops,
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

// stillShared are the sockets that are to be steered, and were open before they were to be.
func (rep *reporter) stillShared(v *service.View) (all []string) {
	b := v.State.Build(v.State.Current)
	if b == nil {
		return nil
	}
	for _, s := range b.Spec.Sockets {
		if s.Steer && rep.shared(s.Name) {
			all = append(all, s.Name)
		}
	}
	return all
}

// shared: it is open, and could be steered, but is not.
func (rep *reporter) shared(name string) bool {
	tcp := func(s socket.Status) bool { return !isUnix(s.Address) && !s.Given }
	return !rep.isSteered(name) && slices.ContainsFunc(rep.table.Status(name), tcp)
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
