package supervisor

import (
	"errors"
	"fmt"
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

	mu   sync.Mutex // guards the map, held for moments
	each map[string]*door
}

// A door is one socket unit. Its lock is held for as long as opening takes, so
// nobody closes what another is about to enter.
type door struct {
	mu    sync.Mutex
	users map[string]bool // services that are not down
	fault atomic.Pointer[error]
}

func newDoors(t *socket.Table) *doors { return &doors{table: t, each: map[string]*door{}} }

func (d *doors) door(name string) *door {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each[name] == nil {
		d.each[name] = &door{users: map[string]bool{}}
	}
	return d.each[name]
}

// enter opens the sockets for a service that is about to start, and returns
// them in the order in which it names them.
func (d *doors) enter(service string, sockets []*unit.Socket) (files []process.File, err error) {
	for _, s := range sockets {
		fs, err := d.open(service, s)
		if err != nil {
			return nil, err // those that are open are left when the service is known to be down
		}
		for _, f := range fs {
			files = append(files, process.File{FD: f.FD, Name: f.Name})
		}
	}
	return files, nil
}

func (d *doors) open(service string, s *unit.Socket) ([]socket.File, error) {
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
	return d.table.Files(s.Name, 0)
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

// trim closes addresses that a socket had by an earlier configuration, now that
// a service has no process left that knows them.
func (d *doors) trim(sockets []string) (err error) {
	for _, name := range sockets {
		door := d.door(name)
		door.mu.Lock()
		err = errors.Join(err, d.table.Trim(name))
		door.mu.Unlock()
	}
	return err
}

// leave says that a service is down: sockets that nobody else uses refuse.
func (d *doors) leave(service string, sockets []string) (err error) {
	for _, name := range sockets {
		if e := d.shut(service, name); e != nil {
			err = errors.Join(err, fmt.Errorf("cannot close socket %s to clients: %w", name, e))
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
