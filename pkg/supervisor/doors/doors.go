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
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
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

	mu         sync.Mutex // guards what follows, held for moments
	each       map[string]*door
	wanted     map[string]wishes       // by socket unit
	of         map[string][]string     // by service: the socket units that it needs, in its order
	configured map[string]*unit.Socket // by name, as of an instance
	visits     visits
}

// wishes are what services want of one socket unit, those of each in its order.
type wishes map[string][]unit.Door

// A door is one socket unit, as of an instance. It is there as long as anybody
// wants it, uses it or has something of it.
type door struct {
	turn  chan struct{} // has room for one: who changes its sockets
	users int           // who have it in hand; guarded by Doors.mu
	due   chan struct{} // closed when the change that waits for its turn is done; nil: none waits; guarded by Doors.mu
	next  *division     // waits for its turn; nil: none does; guarded by Doors.mu

	state sync.Mutex // guards what follows, held for moments
	err   error      // why it is not what is wanted
	has   map[Process]holder
}

// A holder is what a process was given.
type holder struct {
	ticket  unit.Invocation
	cookies []uint64
}

// New returns Doors for the sockets of a table. fault receives what could not be done
// to a socket unit. It must not wait.
func New(t *socket.Table, fault func(socket string, err error)) *Doors {
	return &Doors{
		table: t, fault: fault,
		each: map[string]*door{}, wanted: map[string]wishes{}, of: map[string][]string{}, configured: map[string]*unit.Socket{},
		visits: visits{of: map[unit.Invocation]Process{}},
	}
}

// Configure declares which sockets exist. Sockets that no service needs are bound, so
// that nobody else takes their addresses. Sockets that no longer exist are closed when
// the last service that needs them lets go of them.
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

// Set declares which sockets a service needs from now on; wanted may be empty. When Set
// returns, sockets that had to be shut are shut, except where a file system hangs.
func (d *Doors) Set(service string, wanted []unit.Door) {
	d.apply(d.wish(service, wanted))
}

// wish notes what a service wants, and returns the names of what that changes.
func (d *Doors) wish(service string, wanted []unit.Door) (changed []string) {
	names, now := byName(wanted)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range d.of[service] {
		if now[name] == nil {
			changed = append(changed, name)
			d.put(service, name, nil)
		}
	}
	for _, name := range names {
		if !reflect.DeepEqual(d.wanted[name][service], now[name]) {
			changed = append(changed, name)
			d.put(service, name, now[name])
		}
	}
	if d.of[service] = names; len(names) == 0 {
		delete(d.of, service)
	}
	return changed
}

// byName are doors by the names of their units, and those names in order.
func byName(doors []unit.Door) (names []string, all map[string][]unit.Door) {
	all = map[string][]unit.Door{}
	for _, w := range doors {
		name := w.Socket.Name
		if all[name] == nil {
			names = append(names, name)
		}
		all[name] = append(all[name], w)
	}
	return names, all
}

// put needs d.mu.
func (d *Doors) put(service, name string, doors []unit.Door) {
	w := d.wanted[name]
	switch {
	case len(doors) > 0 && w == nil:
		d.wanted[name] = wishes{service: doors}
	case len(doors) > 0:
		w[service] = doors
	default:
		if delete(w, service); len(w) == 0 {
			delete(d.wanted, name)
		}
	}
}

// apply makes sockets what is wanted of them.
func (d *Doors) apply(names []string) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var all []<-chan struct{}
	for _, name := range names {
		all = append(all, d.adjust(name))
	}
	for _, done := range all {
		select {
		case <-done:
		case <-timer.C:
			d.fault(fmt.Sprint(names), errors.New("it takes long to open or close it: its file system does not answer"))
			return
		}
	}
}

// adjust has one socket unit made what is wanted of it when its turn comes, and
// returns what is closed then. What waits for that already does this as well.
func (d *Doors) adjust(name string) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	door := d.use(name)
	if door.due != nil {
		door.users--
		return door.due
	}
	door.due = make(chan struct{})
	go d.change(name, door, door.due)
	return door.due
}

func (d *Doors) change(name string, door *door, done chan struct{}) {
	defer close(done)
	defer d.leave(name, door)
	door.turn <- struct{}{}
	defer func() { <-door.turn }()
	d.mu.Lock()
	door.due = nil // what is asked for from now on, this may not do
	d.mu.Unlock()
	err := d.make(name, d.want(name))
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
	for _, service := range slices.Sorted(maps.Keys(d.wanted[name])) {
		for _, x := range slices.Backward(d.wanted[name][service]) {
			add(x.Socket)
			w.open = w.open || x.Open
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

// Enter returns the files that a process gets which is about to start, in the order of
// sockets. An heir serves at once, and so gets the clients that a process before it left
// behind. Enter waits for the file systems of the sockets, at most until ctx is done.
func (d *Doors) Enter(ctx context.Context, who Process, heir bool, sockets []*unit.Socket) (files []socket.File, err error) {
	for _, s := range sockets {
		of, err := d.enterOne(ctx, who, heir, s)
		if err != nil {
			socket.Close(files)
			return nil, err // those that are open are shut when the service is known to be down
		}
		files = append(files, of...)
	}
	return files, nil
}

// enterOne waits for its turn, and then for the file system. Who does not wait any
// longer has nothing of it, also if it answers later.
func (d *Doors) enterOne(ctx context.Context, who Process, heir bool, s *unit.Socket) ([]socket.File, error) {
	type entered struct {
		files []socket.File
		err   error
	}
	d.mu.Lock()
	door := d.use(s.Name)
	d.mu.Unlock()
	late := fmt.Errorf("cannot open socket %s: its file system does not answer", s.Name)
	select {
	case door.turn <- struct{}{}:
	case <-ctx.Done():
		d.leave(s.Name, door)
		return nil, late
	}
	done := make(chan entered)
	go func() {
		defer d.leave(s.Name, door)
		defer func() { <-door.turn }()
		files, err := d.enter(door, who, heir, s)
		select {
		case done <- entered{files, err}:
		case <-ctx.Done():
			socket.Close(files)
			d.Free(who, []*unit.Socket{s})
		}
	}()
	select {
	case e := <-done:
		return e.files, e.err
	case <-ctx.Done():
		return nil, late
	}
}

// enter needs the door's turn.
func (d *Doors) enter(door *door, who Process, heir bool, s *unit.Socket) ([]socket.File, error) {
	if !d.needs(who.Service, s.Name) {
		return nil, ErrUnwanted
	}
	err := d.table.Bind(s)
	if err == nil {
		err = d.table.Listen(s.Name)
	}
	if door.note(err); err != nil {
		return nil, err
	}
	ticket := d.admit(door, who)
	if err := d.table.Seat(s.Name, ticket, heir); err != nil {
		return nil, d.named(err)
	}
	files, err := d.table.Copies(s, ticket)
	if err == nil {
		door.give(who, holder{ticket, cookies(files)})
	}
	return files, err
}

func cookies(files []socket.File) (all []uint64) {
	for _, f := range files {
		all = append(all, f.Cookie)
	}
	return all
}

func (door *door) give(who Process, h holder) {
	door.state.Lock()
	defer door.state.Unlock()
	door.has[who] = h
}

func (d *Doors) needs(service, name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted[name][service] != nil
}

// Free releases the sockets of a process that has ended. It is complete when Free
// returns, except where a file system hangs.
func (d *Doors) Free(who Process, sockets []*unit.Socket) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, s := range sockets {
		ticket := d.leaves(s.Name, who)
		if ticket == 0 {
			continue
		}
		done := make(chan struct{})
		go func() { defer close(done); d.table.Free(s.Name, ticket) }()
		select {
		case <-done:
		case <-timer.C:
			timer.Reset(0) // nor is the next one waited for
		}
	}
}

// Leaving declares that a process was told to end. The process keeps its sockets until
// Free, and may treat them as a server does that shuts down.
func (d *Doors) Leaving(who Process, sockets []*unit.Socket) {
	for _, s := range sockets {
		d.table.Leaving(s.Name, d.ticket(s.Name, who))
	}
}

// Pending reports whether the configuration of a socket unit differs from what its users
// were started with. The change takes effect when the next of them starts.
func (d *Doors) Pending(name string) bool {
	d.mu.Lock()
	configured := d.configured[name]
	d.mu.Unlock()
	keep := d.want(name).keep
	return configured != nil && len(keep) > 0 && !reflect.DeepEqual(configured, keep[len(keep)-1])
}

// Check looks, in the background, for damage that the processes of a service did to its
// sockets, and repairs what it can. The kernel does not report most of that.
func (d *Doors) Check(service string) {
	for _, name := range d.Of(service) {
		go d.table.Audit(name)
	}
}

// Holders returns the processes that were given the socket with this cookie and have
// not ended, by service.
func (d *Doors) Holders(name string, cookie uint64) map[string][]unit.Invocation {
	all := map[string][]unit.Invocation{}
	d.look(name, func(door *door) {
		for who, h := range door.has {
			if slices.Contains(h.cookies, cookie) {
				all[who.Service] = append(all[who.Service], who.ID)
			}
		}
	})
	return all
}

// Err says why a socket unit is not in the state it should be in. It is nil if it is.
func (d *Doors) Err(name string) (err error) {
	d.look(name, func(door *door) { err = door.err })
	return err
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

// Of returns the sockets that a service needs now, in the service's order.
func (d *Doors) Of(service string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.of[service])
}

// Parts returns the names under which the sockets of a unit are kept: the name of the
// unit, or one name for each instance.
func (d *Doors) Parts(unitName string) (parts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.each {
		if !strings.HasPrefix(name, unitName) {
			continue
		}
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

// look lets f have a look at what is known of a door, if there is one, and forgets
// it if it was the last that had something of it.
func (d *Doors) look(name string, f func(*door)) {
	d.mu.Lock()
	door := d.each[name]
	if door == nil {
		d.mu.Unlock()
		return
	}
	door.users++
	d.mu.Unlock()
	defer d.leave(name, door)
	door.state.Lock()
	defer door.state.Unlock()
	f(door)
}

// use takes a door in hand until [Doors.leave]. It needs d.mu.
func (d *Doors) use(name string) *door {
	if d.each[name] == nil {
		d.each[name] = &door{turn: make(chan struct{}, 1), has: map[Process]holder{}}
	}
	d.each[name].users++
	return d.each[name]
}

// leave forgets a door that nobody uses, wants, or has something of.
func (d *Doors) leave(name string, door *door) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if door.users--; door.users > 0 || d.configured[name] != nil || d.wanted[name] != nil {
		return
	}
	door.state.Lock()
	defer door.state.Unlock()
	if door.err == nil && len(door.has) == 0 {
		delete(d.each, name)
	}
}
