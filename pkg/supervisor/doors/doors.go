// Package doors opens and closes sockets to clients.
//
// Each service declares which sockets it needs, and which of them must be open
// ([Doors.Set], with what unit.Doors derives from the state). The configuration declares
// which sockets exist at all ([Doors.Configure]). Whenever a declaration changes, Doors
// works out what that means for the socket: whether it must be bound, listen, refuse
// clients or be closed.
//
// A file system that hangs below a unix path holds up only the sockets of that unit.
// Changes to a unit take turns. At most one change waits for its turn, and it carries
// out everything that was asked for by then.
package doors

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// patience is how long Set and Configure wait for what they begin. Nearly all of it
// takes microseconds; what takes longer goes on by itself.
const patience = time.Second

// ErrUnwanted means that a process asked for sockets that its service no longer needs.
var ErrUnwanted = errors.New("the service no longer needs its sockets")

// Doors opens and closes the sockets of a table. It is safe for use by several
// goroutines.
type Doors struct {
	table *socket.Table
	fault func(socket string, err error)

	mu     sync.Mutex // guards what follows, held for moments
	each   map[string]*door
	demand demand
	visits visits
}

// New returns Doors for the sockets of a table. fault receives what could not be done
// to a socket unit. It must not wait.
func New(t *socket.Table, fault func(socket string, err error)) *Doors {
	return &Doors{
		table: t, fault: fault,
		each: map[string]*door{}, demand: newDemand(), visits: visits{of: map[unit.Invocation]Process{}},
	}
}

// Configure declares which sockets exist. Sockets that no service needs are bound, so
// that nobody else takes their addresses. Sockets that no longer exist are closed when
// the last service that needs them lets go of them.
func (d *Doors) Configure(sockets []*unit.Socket) {
	d.mu.Lock()
	changed := d.demand.configure(sockets, func(name string) bool { return d.errOf(name) != nil })
	d.mu.Unlock()
	d.apply(changed)
}

// Set says what a service needs from now on; nothing: it needs none. Shutting is
// done when it returns, but where a file system hangs.
func (d *Doors) Set(service string, wanted []unit.Door) {
	d.mu.Lock()
	changed := d.demand.set(service, wanted)
	d.mu.Unlock()
	d.apply(changed)
}

// apply makes sockets what is wanted of them. It waits for nothing that somebody has
// waited for in vain: a file system that hangs holds up each actor once.
func (d *Doors) apply(names []string) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	all := map[string]chan struct{}{}
	for _, name := range names {
		if done, late := d.adjust(name); !late {
			all[name] = done
		}
	}
	for name, done := range all {
		select {
		case <-done:
		case <-timer.C:
			timer.Reset(0) // nor is the next one waited for
			d.late(name, done)
		}
	}
}

// late says that a change takes too long, if it still does.
func (d *Doors) late(name string, done chan struct{}) {
	d.mu.Lock()
	door := d.each[name]
	select {
	case <-done:
		door = nil
	default:
		door.late = done
	}
	d.mu.Unlock()
	if door != nil {
		d.fault(name, errors.New("it takes long to open or close it: its file system does not answer, or getent still looks up its owner"))
	}
}

// adjust has one socket unit made what is wanted of it when its turn comes, and
// returns what is closed then. What waits for that already does this as well. late: that
// will take long.
func (d *Doors) adjust(name string) (done chan struct{}, late bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	door := d.use(name)
	if door.due != nil {
		door.users--
		return door.due, door.late != nil
	}
	door.due = make(chan struct{})
	go d.change(name, door, door.due)
	return door.due, door.late != nil
}

func (d *Doors) change(name string, door *door, done chan struct{}) {
	defer d.changed(door, done)
	defer d.leave(name, door)
	door.turn <- struct{}{}
	defer func() { <-door.turn }()
	d.mu.Lock()
	door.due = nil // what is asked for from now on, this may not do
	w := d.demand.of(name)
	d.mu.Unlock()
	err := d.make(name, w)
	if door.note(err) {
		d.fault(name, err)
	}
}

func (d *Doors) changed(door *door, done chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if door.late == done {
		door.late = nil
	}
	close(done)
}

// make needs the door's lock.
func (d *Doors) make(name string, w want) error {
	if len(w.keep) == 0 {
		return d.table.Drop(name)
	}
	trim := d.table.Trim
	err := d.bind(w.keep)
	if err != nil {
		trim = d.table.Yield // for another that waits for it
	}
	err = errors.Join(err, trim(name, w.keep...))
	if w.open {
		return errors.Join(err, d.table.Listen(name))
	}
	if e := d.table.Refuse(name); e != nil {
		err = errors.Join(err, fmt.Errorf("cannot close socket %s to clients: %w", name, e))
	}
	return err
}

// bind binds all definitions of a socket unit, the newest last: its options count.
func (d *Doors) bind(all []*unit.Socket) (err error) {
	for _, s := range all {
		if e := d.table.Bind(s); e != nil {
			err = e // of an address that several name one error is enough
		}
	}
	return err
}
