package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// doors opens and closes sockets to clients. A socket is open from before the
// first process that is to have it until every service that names it is dead or
// failed: so clients queue while one starts, and are refused by what is down.
type doors struct {
	table *socket.Table

	mu   sync.Mutex // guards the maps, held for moments
	each map[string]*door
	has  map[string][]string // by service: the sockets that it has opened, sorted
}

// A door is one socket unit. Its lock is held for as long as opening takes, so
// nobody closes what another is about to enter.
type door struct {
	mu    sync.Mutex
	users map[string]bool // services that are not down
	fault atomic.Pointer[error]
}

func newDoors(t *socket.Table) *doors {
	return &doors{table: t, each: map[string]*door{}, has: map[string][]string{}}
}

func (d *doors) door(name string) *door {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each[name] == nil {
		d.each[name] = &door{users: map[string]bool{}}
	}
	return d.each[name]
}

// enter opens the sockets for a process of a service that is about to start, and
// returns what is for it, in the order in which the service names them. An heir
// is to serve at once, and so gets the clients that one before it has left.
func (d *doors) enter(service string, id unit.Invocation, heir bool, sockets []*unit.Socket) (files []process.File, err error) {
	for _, s := range sockets {
		fs, err := d.open(service, id, heir, s)
		if err != nil {
			return nil, err // those that are open are left when the service is known to be down
		}
		for _, f := range fs {
			files = append(files, process.File{FD: f.FD, Name: f.Name})
		}
	}
	return files, nil
}

func (d *doors) open(service string, id unit.Invocation, heir bool, s *unit.Socket) ([]socket.File, error) {
	door := d.door(s.Name)
	door.mu.Lock()
	defer door.mu.Unlock()
	if err := door.bind(d.table, s); err != nil {
		return nil, err
	}
	if err := d.table.Listen(s.Name); err != nil {
		return nil, err
	}
	door.users[service] = true
	d.note(service, s.Name, true)
	if err := d.table.Seat(s.Name, id, heir); err != nil {
		return nil, err
	}
	return d.table.Files(s, id)
}

// free takes what a process that has ended had for itself at the sockets that it
// entered by, whether or not its service still has them.
func (d *doors) free(id unit.Invocation, sockets []*unit.Socket) {
	for _, s := range sockets {
		d.table.Free(s.Name, id)
	}
}

// of lists the sockets that a service has opened. It waits for nobody.
func (d *doors) of(service string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.has[service])
}

func (d *doors) note(service, name string, has bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, there := slices.BinarySearch(d.has[service], name)
	switch {
	case has && !there:
		d.has[service] = slices.Insert(d.has[service], i, name)
	case !has && there:
		d.has[service] = slices.Delete(d.has[service], i, i+1)
	}
	if len(d.has[service]) == 0 {
		delete(d.has, service)
	}
}

// steer divides the new connections of a service's sockets. A process has seats
// only in those that it was started with.
func (d *doors) steer(service string, shares []unit.Share) (err error) {
	for _, name := range d.of(service) {
		seated := map[unit.Invocation]int{}
		for _, seat := range d.table.Seats(name) {
			for _, h := range shares {
				if h.ID == seat.Holder {
					seated[h.ID] = h.Weight
				}
			}
		}
		if len(seated) > 0 {
			err = errors.Join(err, d.table.Steer(name, seated))
		}
	}
	return err
}

// settled says whether no connection is on its way to a process.
func (d *doors) settled(service string, id unit.Invocation) bool {
	for _, name := range d.of(service) {
		if s, err := d.table.Settled(name, id); err == nil && !s.Done() {
			return false
		}
	}
	return true
}

// bind takes a socket's addresses, so that nobody else has them, and opens it to
// nobody.
func (d *doors) bind(s *unit.Socket) error {
	door := d.door(s.Name)
	door.mu.Lock()
	defer door.mu.Unlock()
	return door.bind(d.table, s)
}

// bind needs door.mu. Its error is remembered for who asks, until it has worked.
func (door *door) bind(t *socket.Table, s *unit.Socket) error {
	err := t.Bind(s)
	door.fault.Store(&err)
	return err
}

// fault is why a socket is not bound, or nil. It waits for nobody.
func (d *doors) fault(name string) error {
	if err := d.door(name).fault.Load(); err != nil {
		return *err
	}
	return nil
}

// trim closes addresses that sockets had by an earlier configuration, now that
// a service has no process left that knows them.
func (d *doors) trim(service string) (err error) {
	for _, name := range d.of(service) {
		door := d.door(name)
		door.mu.Lock()
		err = errors.Join(err, d.table.Trim(name))
		door.mu.Unlock()
	}
	return err
}

// leave says that a service is down: sockets that nobody else uses refuse.
func (d *doors) leave(service string) (err error) {
	for _, name := range d.of(service) {
		if e := d.shut(service, name); e != nil {
			err = errors.Join(err, fmt.Errorf("cannot close socket %s to clients: %w", name, e))
		}
	}
	return err
}

// leaveInstances closes the sockets of instances from n on, which are no more.
func (d *doors) leaveInstances(service string, n int) (err error) {
	for _, name := range d.of(service) {
		if _, i := unit.SplitSocket(name); i >= n {
			err = errors.Join(err, d.shut(service, name), d.drop(name))
		}
	}
	return err
}

func (d *doors) shut(service, name string) error {
	door := d.door(name)
	door.mu.Lock()
	defer door.mu.Unlock()
	if !door.users[service] {
		return nil
	}
	d.note(service, name, false)
	if delete(door.users, service); len(door.users) > 0 {
		return nil
	}
	return d.table.Refuse(name)
}

// drop closes a socket that the configuration no longer names, unless a service
// still uses it.
func (d *doors) drop(name string) error {
	door := d.door(name)
	door.mu.Lock()
	defer door.mu.Unlock()
	if len(door.users) > 0 {
		return nil
	}
	return d.table.Drop(name)
}
