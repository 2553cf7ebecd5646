package doors

import (
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Process is one process of a service. Each service numbers its own invocations, so
// two services that share a socket may both have a process with the number 1.
type Process struct {
	Service string
	ID      unit.Invocation
}

// Visits are who was let in. A [socket.Table] knows a process by its ticket alone,
// a number that nobody else gets at any door.
type visits struct {
	last unit.Invocation
	of   map[unit.Invocation]Process
	past []unit.Invocation // who has left, the latest last
}

// maxPast is how many that have left are still known: what a process did to a socket
// may be told when it has ended.
const maxPast = 64

// admit gives a process its ticket for a door; who has one keeps it.
func (d *Doors) admit(door *door, who Process) unit.Invocation {
	d.mu.Lock()
	defer d.mu.Unlock()
	door.state.Lock()
	defer door.state.Unlock()
	if h, ok := door.has[who]; ok {
		return h.ticket
	}
	v := &d.visits
	v.last++
	v.of[v.last] = who
	door.has[who] = holder{ticket: v.last}
	return v.last
}

// leaves takes the ticket from a process; 0: it has none.
func (d *Doors) leaves(name string, who Process) (ticket unit.Invocation) {
	d.look(name, func(door *door) {
		ticket = door.has[who].ticket
		delete(door.has, who)
	})
	if ticket != 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.visits.leave(ticket)
	}
	return ticket
}

func (v *visits) leave(ticket unit.Invocation) {
	if v.past = append(v.past, ticket); len(v.past) > maxPast {
		delete(v.of, v.past[0])
		v.past = v.past[1:]
	}
}

func (d *Doors) ticket(name string, who Process) (ticket unit.Invocation) {
	d.look(name, func(door *door) { ticket = door.has[who].ticket })
	return ticket
}

// Who returns the process that a ticket of the table stands for, with a socket of its own
// or in a finding.
func (d *Doors) Who(ticket unit.Invocation) Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.visits.of[ticket]
}
