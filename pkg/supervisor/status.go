package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// Status is what anyone may see of the units, made of what the actors last
// showed. See [ipc.Supervisor].
func (m *Manager) Status(names []string) (ipc.Status, error) {
	services, c := m.list(), m.configuration()
	facts := m.look(services, c)
	st := ipc.Status{Time: facts.Clock}
	known := map[string]bool{}
	for _, e := range services {
		known[e.Name()] = true
		if len(names) == 0 || slices.Contains(names, e.Name()) {
			st.Services = append(st.Services, m.unitStatus(e, facts, len(names) > 0))
		}
	}
	for _, s := range c.Sockets {
		known[s.Name+".socket"] = true
		if len(names) == 0 || slices.Contains(names, s.Name+".socket") || needed(st.Services, s.Name) {
			st.Sockets = append(st.Sockets, m.socketStatus(c, services, s.Name))
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
			return ipc.Status{}, m.noSuchUnit("show", name)
		}
	}
	slices.SortStableFunc(st.Services, func(a, b ipc.UnitStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(st.Sockets, func(a, b ipc.SocketUnit) int { return strings.Compare(a.Name, b.Name) })
	st.Degraded = m.degraded(services, c)
	st.Notes = facts.notes
	return st, nil
}

func (m *Manager) unitStatus(e entry, f facts, whole bool) ipc.UnitStatus {
	f.Spec = e.spec
	return words.Status(e.View(), f.Facts, whole)
}

// degraded is what does not work of supervisord itself.
func (m *Manager) degraded(services []entry, c *config.Config) (all []string) {
	all = slices.Clone(c.Degraded)
	for _, e := range services {
		if err := e.View().Fault; err != nil {
			all = append(all, err.Error())
		}
	}
	all = append(all, m.sinks.faults()...)
	if err := m.history.Err(); err != nil {
		all = append(all, err.Error()+"; it is tried again every few seconds")
	}
	if err := m.numbers.Err(); err != nil {
		all = append(all, err.Error()+"; it is tried again when something happens")
	}
	if err := m.metrics.Fault(); err != nil {
		all = append(all, err.Error()+"; superctl daemon-reload tries again")
	}
	return all
}

// Count says how many services there are, and how many of them are active or
// failed. It costs little enough to be asked after each event.
func (m *Manager) Count() (all, active, failed int) {
	services := m.list()
	for _, a := range m.configuration().Aside {
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

func (m *Manager) socketStatus(c *config.Config, services []entry, name string) ipc.SocketUnit {
	u := ipc.SocketUnit{Name: name, Sockets: []ipc.Socket{}}
	for _, spec := range c.Services {
		if spec.Uses(name) {
			u.Services = append(u.Services, spec.Name)
		}
	}
	for _, part := range m.doors.Parts(name) {
		sockets := m.o.Table.Status(part)
		for _, s := range sockets {
			u.Sockets = append(u.Sockets, m.oneSocket(part, s))
		}
		if err := m.doors.Err(part); err != nil && len(sockets) == 0 {
			u.Sockets = append(u.Sockets, ipc.Socket{Queue: -1, Limit: -1, Error: err.Error()})
		}
		u.Seats = append(u.Seats, m.seats(services, part)...)
	}
	return u
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

// seats are the places at a steered socket.
func (m *Manager) seats(services []entry, name string) (all []ipc.Seat) {
	seats := m.o.Table.Seats(name)
	sum := 0
	for _, s := range seats {
		sum += s.Share
	}
	for _, s := range seats {
		x := ipc.Seat{Index: s.Index, PID: pidOf(services, name, s.Holder), Stray: s.Strays, Share: words.Percent(s.Share, sum)}
		for _, h := range s.Shards {
			x.Queue += max(0, h.Queue)
			x.Drops += h.Drops
		}
		all = append(all, x)
	}
	return all
}

// found is told what a process did to a socket that it was given. It must not wait.
func (m *Manager) found(name string, f socket.Finding) {
	of, _ := unit.SplitSocket(name)
	m.log.Warn().Str("unit", of+".socket").Msg(m.blame(name, f))
	if f.Dead != 0 {
		go m.replace(name, f.Dead)
	}
}

// replace tells the services whose processes hold a dead socket.
func (m *Manager) replace(name string, dead uint64) {
	of, _ := unit.SplitSocket(name)
	for service, holders := range m.doors.Holders(name, dead) {
		if e := m.find(service); e.Actor != nil {
			e.Tell(unit.Broken{Socket: of, Procs: holders})
		}
	}
}

// blame is a finding in words, with the pid of who did it if that is known.
func (m *Manager) blame(name string, f socket.Finding) string {
	who := "a process that has it"
	if pid := pidOf(m.list(), name, f.Holder); pid != 0 {
		who = fmt.Sprintf("pid %d", pid)
	}
	text := fmt.Sprintf("%s: %s %s", f.Address, who, f.What)
	switch {
	case f.Err != nil:
		text += "; it cannot be mended: " + f.Err.Error()
	case f.Mended != "":
		text += "; " + f.Mended
	}
	if f.Dead != 0 {
		text += "; the processes that have it are replaced"
	}
	return text
}

// pidOf is the process of a service that has a socket.
func pidOf(services []entry, name string, id unit.Invocation) int {
	name, _ = unit.SplitSocket(name)
	for _, e := range services {
		s := e.View().State
		if p := s.Find(id); id != 0 && p.ID != 0 && s.Build(p.Gen).Spec.Uses(name) {
			return p.PID
		}
	}
	return 0
}

// account is what the kernel counts at the sockets of a service now, in the order
// in which the service has them.
func (m *Manager) account(v *service.View) (all []ipc.SocketAccount) {
	names := m.doors.Of(v.Name)
	if b := v.State.Build(v.State.Current); b != nil {
		slices.SortStableFunc(names, inOrder(b.Spec.SocketNames()))
	}
	for _, name := range names {
		for _, s := range m.o.Table.Status(name) {
			all = append(all, ipc.SocketAccount{
				Unit: name, Address: s.Address, Queue: s.Queue, Limit: s.Limit,
				Drops: s.Drops, Retried: s.Retried, Lost: s.Lost,
			})
		}
	}
	return all
}

// roomFor refuses more instances than a service's sockets have places for. What
// opens a steered socket once never opens more of it.
func (m *Manager) roomFor(e entry, size int) error {
	if e.spec == nil {
		return nil // the rules refuse that
	}
	refuse := func(why, hint string) error {
		return &ipc.Error{Code: ipc.Refused, Message: fmt.Sprintf("cannot scale %s to %d: %s", e.Name(), size, why), Hints: []string{hint}}
	}
	for _, s := range e.spec.Sockets {
		of, err := s.Of(size - 1)
		if err != nil {
			return refuse(err.Error(), "a smaller number, or another listen_stream for its sockets and superctl daemon-reload")
		}
		if seats := len(m.o.Table.Seats(of.Name)); seats > 0 && size+e.spec.Life.Surge > seats-1 {
			return refuse(fmt.Sprintf("[socket.%s] is steered, and has places for %d processes, one of them for the next reload", s.Name, seats-1),
				fmt.Sprintf("instances = %d in the configuration, and a restart of supervisord, make it larger", size))
		}
	}
	return nil
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
