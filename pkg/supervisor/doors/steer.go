package doors

import (
	"errors"
	"fmt"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A division is how the new connections of a socket unit are to be divided.
type division struct {
	shares map[unit.Invocation]int
	done   chan struct{}
	err    error // when it is done
}

// Steer divides the new connections of a service's sockets among its processes. A
// process has seats only at the sockets that it was started with. The division is in
// effect when Steer returns, except where a file system hangs below a path of the same
// unit.
func (d *Doors) Steer(service string, shares []unit.Share, _ ...bool) (err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var all []*division
	for _, name := range d.Of(service) {
		if seated := d.seated(service, name, shares); len(seated) > 0 {
			all = append(all, d.divide(name, seated))
		}
	}
	for _, v := range all {
		select {
		case <-v.done:
			err = errors.Join(err, v.err)
		case <-timer.C:
			return errors.Join(err, fmt.Errorf("cannot divide the connections of %s yet: a file system of its sockets does not answer", service))
		}
	}
	return err
}

// seated are the shares of those of a service who have a seat at a socket.
func (d *Doors) seated(service, name string, shares []unit.Share) map[unit.Invocation]int {
	seated := map[unit.Invocation]int{}
	for _, seat := range d.table.Seats(name) {
		who := d.Who(seat.Holder)
		for _, h := range shares {
			if who == (Process{service, h.ID}) {
				seated[seat.Holder] = h.Weight
			}
		}
	}
	return seated
}

// divide has a socket unit steered when its turn comes. What waits for that already
// does this instead of what it was to do.
func (d *Doors) divide(name string, shares map[unit.Invocation]int) *division {
	d.mu.Lock()
	defer d.mu.Unlock()
	door := d.use(name)
	if v := door.next; v != nil {
		door.users--
		v.shares = shares
		return v
	}
	v := &division{shares: shares, done: make(chan struct{})}
	door.next = v
	go d.steer(name, door, v)
	return v
}

func (d *Doors) steer(name string, door *door, v *division) {
	defer close(v.done)
	defer d.leave(name, door)
	door.turn <- struct{}{}
	defer func() { <-door.turn }()
	d.mu.Lock()
	door.next = nil
	d.mu.Unlock()
	v.err = d.table.Steer(name, v.shares)
}

// Waiting returns how many wait in the queues of a process. For how long nobody was
// taken from there is not known.
func (d *Doors) Waiting(who Process) (n int, still time.Duration) {
	for _, name := range d.Of(who.Service) {
		if s, err := d.table.Settled(name, d.ticket(name, who)); err == nil {
			n += s.Queue
		}
	}
	return n, 0
}

// Settled reports whether no connection is on its way to a process any more.
func (d *Doors) Settled(who Process) bool {
	for _, name := range d.Of(who.Service) {
		if s, err := d.table.Settled(name, d.ticket(name, who)); err == nil && !s.Done() {
			return false
		}
	}
	return true
}
