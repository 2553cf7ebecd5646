// Package doors opens and closes sockets to clients.
//
// Each service says which sockets it needs, and which of them are to be open
// ([Doors.Set], by unit.Doors, which derives it from the state). The configuration
// says which there are at all ([Doors.Configure]). What follows for a socket, to be
// bound, to listen, to refuse, to be closed, is worked out from all who name it
// each time that one of them says something else.
//
// A file system that hangs below a unix path holds up only that socket: each has a
// lock of its own, and who changes what it needs waits for moments.
package doors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// patience is how long Set and Configure wait for what they begin. Nearly all of it
// takes microseconds; what takes longer goes on by itself.
const patience = time.Second

// ErrUnwanted: a process asks for sockets that its service no longer needs.
var ErrUnwanted = errors.New("the service no longer needs its sockets")

// Doors is safe for use by several goroutines.
type Doors struct {
	table *socket.Table
	fault func(socket string, err error)

	mu         sync.Mutex // guards what follows, held for moments
	each       map[string]*door
	wanted     map[string][]unit.Door  // by service
	configured map[string]*unit.Socket // by name, as of an instance
}

// A door is one socket unit, as of an instance.
type door struct {
	mu    sync.Mutex // held while its sockets are changed
	state sync.Mutex // guards what follows, held for moments
	err   error      // why it is not what is wanted
	has   map[unit.Invocation]holder
}

// A holder is a process that was given sockets, and which.
type holder struct {
	service string
	cookies []uint64
}

// New returns Doors to the sockets of a table. fault is told what could not be
// done to a socket unit; it must not wait.
func New(t *socket.Table, fault func(socket string, err error)) *Doors {
	return &Doors{
		table: t, fault: fault,
		each: map[string]*door{}, wanted: map[string][]unit.Door{}, configured: map[string]*unit.Socket{},
	}
}

// Configure says which sockets there are. Those that no service needs are bound, so
// that nobody else has their addresses; those that are no longer there are closed
// when the last service that needs them says so.
func (d *Doors) Configure(sockets []*unit.Socket) {
	now := map[string]*unit.Socket{}
	for _, s := range sockets {
		now[s.Name] = s
	}
	d.mu.Lock()
	before := d.configured
	d.configured = now
	var changed []string
	for name := range d.union(before, now) {
		if !reflect.DeepEqual(before[name], now[name]) || d.errOf(name) != nil {
			changed = append(changed, name)
		}
	}
	d.mu.Unlock()
	d.apply(changed)
}

func (d *Doors) union(a, b map[string]*unit.Socket) map[string]*unit.Socket {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// Set says what a service needs from now on; nothing: it needs none. Shutting is
// done when it returns, but where a file system hangs.
func (d *Doors) Set(service string, wanted []unit.Door) {
	d.mu.Lock()
	before := d.wanted[service]
	if d.wanted[service] = wanted; len(wanted) == 0 {
		delete(d.wanted, service)
	}
	d.mu.Unlock()
	d.apply(differing(before, wanted))
}

// differing are the names of doors that a and b want otherwise.
func differing(a, b []unit.Door) (names []string) {
	of := func(all []unit.Door, name string) (some []unit.Door) {
		for _, w := range all {
			if w.Socket.Name == name {
				some = append(some, w)
			}
		}
		return some
	}
	for _, w := range slices.Concat(a, b) {
		if name := w.Socket.Name; !slices.Contains(names, name) && !reflect.DeepEqual(of(a, name), of(b, name)) {
			names = append(names, name)
		}
	}
	return names
}

// apply makes sockets what is wanted of them.
func (d *Doors) apply(names []string) {
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { d.adjust(name) })
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.fault(fmt.Sprint(names), errors.New("it takes long to open or close it: its file system does not answer"))
	}
}

// adjust makes one socket unit what is wanted of it when its turn comes.
func (d *Doors) adjust(name string) {
	door := d.door(name)
	door.mu.Lock()
	defer door.mu.Unlock()
	w := d.want(name)
	err := d.make(name, w)
	if door.note(err) && err != nil {
		d.fault(name, err)
	}
}

// note remembers why the door is not what is wanted, and says whether that is new.
func (door *door) note(err error) bool {
	door.state.Lock()
	defer door.state.Unlock()
	was := door.err
	door.err = err
	return err != nil && (was == nil || was.Error() != err.Error())
}

// A want is what all together want of a socket unit.
type want struct {
	keep []*unit.Socket // its definitions in use, the newest last
	open bool
}

func (d *Doors) want(name string) (w want) {
	d.mu.Lock()
	defer d.mu.Unlock()
	add := func(s *unit.Socket) {
		if !slices.ContainsFunc(w.keep, func(k *unit.Socket) bool { return reflect.DeepEqual(k, s) }) {
			w.keep = append(w.keep, s)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(d.wanted)) {
		for _, x := range slices.Backward(d.wanted[service]) {
			if x.Socket.Name == name {
				add(x.Socket)
				w.open = w.open || x.Open
			}
		}
	}
	if s := d.configured[name]; s != nil && len(w.keep) == 0 {
		add(s)
	}
	return w
}

// make needs the door's lock.
func (d *Doors) make(name string, w want) error {
	if len(w.keep) == 0 {
		return d.table.Drop(name)
	}
	err := d.bind(w.keep)
	err = errors.Join(err, d.table.Trim(name, w.keep...))
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

// Enter returns what a process of a service that is about to start gets of the
// sockets, in their order. An heir is to serve at once, and so gets the clients
// that one before it has left. It waits for the file systems that they are in, no
// longer than ctx says.
func (d *Doors) Enter(ctx context.Context, service string, id unit.Invocation, heir bool, sockets []*unit.Socket) (files []socket.File, err error) {
	type entered struct {
		files []socket.File
		err   error
	}
	for _, s := range sockets {
		done := make(chan entered, 1)
		go func() {
			files, err := d.enter(service, id, heir, s)
			done <- entered{files, err}
		}()
		select {
		case e := <-done:
			if e.err != nil {
				return nil, e.err // those that are open are shut when the service is known to be down
			}
			files = append(files, e.files...)
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot open socket %s: its file system does not answer", s.Name)
		}
	}
	return files, nil
}

func (d *Doors) enter(service string, id unit.Invocation, heir bool, s *unit.Socket) ([]socket.File, error) {
	door := d.door(s.Name)
	door.mu.Lock()
	defer door.mu.Unlock()
	if !d.needs(service, s.Name) {
		return nil, ErrUnwanted
	}
	err := d.table.Bind(s)
	if err == nil {
		err = d.table.Listen(s.Name)
	}
	if door.note(err); err != nil {
		return nil, err
	}
	if err := d.table.Seat(s.Name, id, heir); err != nil {
		return nil, err
	}
	files, err := d.table.Files(s, id)
	if err == nil {
		door.give(service, id, files)
	}
	return files, err
}

func (door *door) give(service string, id unit.Invocation, files []socket.File) {
	h := holder{service: service}
	for _, f := range files {
		h.cookies = append(h.cookies, f.Cookie)
	}
	door.state.Lock()
	defer door.state.Unlock()
	door.has[id] = h
}

func (d *Doors) needs(service, name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.wanted[service], func(w unit.Door) bool { return w.Socket.Name == name })
}

// Free takes back what a process that has ended had of the sockets.
func (d *Doors) Free(id unit.Invocation, sockets []*unit.Socket) {
	for _, s := range sockets {
		door := d.door(s.Name)
		door.state.Lock()
		delete(door.has, id)
		door.state.Unlock()
		d.table.Free(s.Name, id)
	}
}

// Holders are the processes, by their services, that were given the socket with
// this cookie and have not ended.
func (d *Doors) Holders(name string, cookie uint64) map[string][]unit.Invocation {
	all := map[string][]unit.Invocation{}
	door := d.door(name)
	door.state.Lock()
	defer door.state.Unlock()
	for id, h := range door.has {
		if slices.Contains(h.cookies, cookie) {
			all[h.service] = append(all[h.service], id)
		}
	}
	return all
}

// Err is why a socket unit is not what it should be, or nil.
func (d *Doors) Err(name string) error {
	door := d.door(name)
	door.state.Lock()
	defer door.state.Unlock()
	return door.err
}

// errOf needs d.mu.
func (d *Doors) errOf(name string) error {
	door := d.each[name]
	if door == nil {
		return nil
	}
	door.state.Lock()
	defer door.state.Unlock()
	return door.err
}

// Of lists the sockets that a service needs now, in the order in which it has them.
func (d *Doors) Of(service string) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.wanted[service] {
		if !slices.Contains(names, w.Socket.Name) {
			names = append(names, w.Socket.Name)
		}
	}
	return names
}

// Parts are the names under which the sockets of a unit are kept: its own, or one
// for each instance.
func (d *Doors) Parts(unitName string) (parts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.each {
		if of, _ := unit.SplitSocket(name); of == unitName {
			parts = append(parts, name)
		}
	}
	slices.SortFunc(parts, byInstance)
	return parts
}

func byInstance(a, b string) int {
	_, i := unit.SplitSocket(a)
	_, k := unit.SplitSocket(b)
	return i - k
}

func (d *Doors) door(name string) *door {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each[name] == nil {
		d.each[name] = &door{has: map[unit.Invocation]holder{}}
	}
	return d.each[name]
}
