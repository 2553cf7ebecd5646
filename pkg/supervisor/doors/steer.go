package doors

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A will is who is to get the new connections of a service; see [socket.Table.Steer].
type will struct {
	shares []unit.Share
	closed bool
}

// A division is a change of who gets the new connections of a socket unit.
type division struct {
	done chan struct{}
	err  error // when it is done
}

// Steer divides the new connections of a service's sockets among its processes. It
// holds also for those that have yet to enter: a process gets its part as soon as it has
// a socket of its own. If nobody gets any, clients wait until somebody does; if it is
// closed, nobody will, and they meet what when_down says. The division is in effect when
// Steer returns, except where a file system hangs below a path of the same unit.
func (d *Doors) Steer(service string, shares []unit.Share, closed bool) (err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var all []*division
	for _, name := range d.Of(service) {
		all = append(all, d.divide(name, service, will{shares, closed}))
	}
	for _, v := range all {
		select {
		case <-v.done:
			err = errors.Join(err, v.err)
		case <-timer.C:
			return errors.Join(err, fmt.Errorf("cannot divide the connections of %s yet: a file system of its sockets does not answer, or getent still looks up their owner", service))
		}
	}
	return err
}

// divide has a socket unit steered when its turn comes. What waits for that already
// does this as well.
func (d *Doors) divide(name, service string, w will) *division {
	d.mu.Lock()
	defer d.mu.Unlock()
	door := d.use(name)
	door.want(service, w)
	if v := door.next; v != nil {
		door.users--
		return v
	}
	v := &division{done: make(chan struct{})}
	door.next = v
	go d.steer(name, door, v)
	return v
}

func (door *door) want(service string, w will) {
	door.state.Lock()
	defer door.state.Unlock()
	door.wills[service] = w
}

func (d *Doors) steer(name string, door *door, v *division) {
	defer close(v.done)
	defer d.leave(name, door)
	door.turn <- struct{}{}
	defer func() { <-door.turn }()
	d.mu.Lock()
	door.next = nil // what is asked for from now on, this may not do
	d.mu.Unlock()
	v.err = d.deal(name, door)
}

// deal needs the door's turn.
func (d *Doors) deal(name string, door *door) error {
	d.mu.Lock()
	door.forget(func(service string) bool { return d.demand.needs(service, name) })
	d.mu.Unlock()
	shares, closed := door.shares()
	if shares == nil {
		return nil
	}
	return d.table.Steer(name, shares, closed)
}

// shares are those of all services, by tickets; nil if none has said anything.
func (door *door) shares() (shares map[unit.Invocation]int, closed bool) {
	door.state.Lock()
	defer door.state.Unlock()
	if len(door.wills) == 0 {
		return nil, false
	}
	shares, closed = map[unit.Invocation]int{}, true
	for service, w := range door.wills {
		closed = closed && w.closed
		for _, s := range w.shares {
			if h, ok := door.has[Process{service, s.ID}]; ok {
				shares[h.ticket] = s.Weight
			}
		}
	}
	return shares, closed
}

// forget is for services that need the door no more: they want nothing of it.
func (door *door) forget(needs func(service string) bool) {
	door.state.Lock()
	defer door.state.Unlock()
	maps.DeleteFunc(door.wills, func(service string, _ will) bool { return !needs(service) })
}

// Waiting returns how many connections wait for a process to accept them, and for how
// long it has taken none of them; of a service that is not steered, 0.
func (d *Doors) Waiting(who Process) (n int, still time.Duration) {
	for _, name := range d.Of(who.Service) {
		waiting, since := d.table.Waiting(name, d.ticket(name, who))
		if n += waiting; waiting > 0 {
			still = max(still, since)
		}
	}
	return n, still
}
