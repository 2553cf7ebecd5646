package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// steer says who of a service gets new connections.
func (m *Manager) steer(service string, shares []unit.Share) {
	if err := m.doors.steer(service, shares); err != nil {
		m.log.Error().Str("unit", service).Msg(err.Error())
	}
}

// lookAgain is how often it is looked whether a process has settled.
const lookAgain = 10 * time.Millisecond

// settle tells when nothing is on its way to a process any more, or gives up
// when nobody can wait for that any longer.
func (m *Manager) settle(service string, id unit.Invocation, atMost time.Duration, tell func(unit.Event) bool) {
	m.going.Add(1)
	go func() {
		defer m.going.Done()
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		end := time.Now().Add(atMost)
		for !m.doors.settled(service, id) {
			if time.Now().After(end) {
				return
			}
			<-tick.C
		}
		tell(unit.Quiet{ID: id})
	}()
}

// roomFor refuses more instances than a service's sockets have places for. What
// opens a steered socket once never opens more of it.
func (m *Manager) roomFor(spec *unit.Spec, size int) error {
	sockets, err := m.socketsOf(spec, size-1)
	if err != nil {
		return &ipc.Error{
			Code: ipc.Refused, Message: fmt.Sprintf("cannot scale %s to %d: %v", spec.Name, size, err),
			Hints: []string{"a smaller number, or another listen_stream for its sockets and superctl daemon-reload"},
		}
	}
	for _, s := range sockets {
		if seats := len(m.o.Table.Seats(s.Name)); seats > 0 && size+spec.Life.Surge > seats-1 {
			return &ipc.Error{
				Code:    ipc.Refused,
				Message: fmt.Sprintf("cannot scale %s to %d: [socket.%s] is steered, and has places for %d processes, one of them for the next reload", spec.Name, size, s.Name, seats-1),
				Hints:   []string{fmt.Sprintf("instances = %d in the configuration, and a restart of supervisord, make it larger", size)},
			}
		}
	}
	return nil
}

// patience is how long a status waits for a look at all sockets. It takes less
// than a millisecond, unless somebody binds one in a slow file system.
const patience = 100 * time.Millisecond

// inspect looks for what processes did to sockets. Most of that tells nobody by
// itself, and nobody looks while nobody asks: supervisord sleeps when it is idle.
func (m *Manager) inspect() {
	if !m.inspects.CompareAndSwap(false, true) {
		return // whoever does it now will tell
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer m.inspects.Store(false)
		for _, name := range m.o.Table.Names() {
			m.o.Table.Audit(name)
		}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// found is told what a process did to a socket that it was given.
func (m *Manager) found(name string, f socket.Finding) {
	of, _ := unit.SplitSocket(name)
	m.log.Warn().Str("unit", of+".socket").Msg(m.blame(name, f))
}

// blame is a finding in words, with the pid of who did it if that is known.
func (m *Manager) blame(name string, f socket.Finding) string {
	who := "a process that has it"
	if pid := m.pidOf(name, f.Holder); pid != 0 {
		who = fmt.Sprintf("pid %d", pid)
	}
	text := fmt.Sprintf("%s: %s %s", f.Address, who, f.What)
	switch {
	case f.Err != nil:
		text += "; it cannot be mended: " + f.Err.Error()
	case f.Mended != "":
		text += "; " + f.Mended
	}
	if f.Void {
		text += "; a reload gives it to the processes anew"
	}
	return text
}

// pidOf is the process of the service that has a steered socket.
func (m *Manager) pidOf(socket string, id unit.Invocation) int {
	for _, v := range m.usersOf(socket) {
		if p := v.state.Find(id); id != 0 && p.ID != 0 {
			return p.PID
		}
	}
	return 0
}

// usersOf are the services that have a socket, as they were last shown.
func (m *Manager) usersOf(name string) (users []*view) {
	name, _ = unit.SplitSocket(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.list() {
		v := s.shown.Load()
		uses := func(b unit.Build) bool { return b.Spec.Uses(name) }
		if slices.ContainsFunc(v.state.Builds, uses) {
			users = append(users, v)
		}
	}
	return users
}

// seats are the places at a steered socket.
func (m *Manager) seats(name string) (all []ipc.Seat) {
	seats := m.o.Table.Seats(name)
	sum := 0
	for _, s := range seats {
		sum += s.Share
	}
	for _, s := range seats {
		x := ipc.Seat{Index: s.Index, PID: m.pidOf(name, s.Holder), Stray: s.Strays, Share: percent(s.Share, sum)}
		for _, h := range s.Shards {
			x.Queue += max(0, h.Queue)
			x.Drops += h.Drops
		}
		all = append(all, x)
	}
	return all
}

// percent is how much part is of sum, to a hundredth.
func percent(part, sum int) float64 {
	if sum == 0 {
		return 0
	}
	return float64(part*10000/sum) / 100
}

// account is what the kernel counts at the sockets of a service now, in the order
// in which the service has them.
func (m *Manager) account(service string) (all []ipc.SocketAccount) {
	names := m.doors.of(service)
	if spec := m.specOf(service); spec != nil {
		slices.SortStableFunc(names, inOrder(spec.SocketNames()))
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

// since takes what was counted before from what is counted now.
func since(before, now []ipc.SocketAccount) []ipc.SocketAccount {
	for i := range now {
		a := &now[i]
		a.QueueBefore = -1
		for _, b := range before {
			if a.Unit == b.Unit && a.Address == b.Address && a.Drops >= b.Drops {
				a.QueueBefore = b.Queue
				a.Drops, a.Retried, a.Lost = a.Drops-b.Drops, a.Retried-b.Retried, a.Lost-b.Lost
			}
		}
	}
	return now
}
