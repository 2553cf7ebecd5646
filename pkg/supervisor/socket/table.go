// Package socket owns the listening sockets of all services.
//
// A socket is bound once and stays bound for as long as the configuration names
// it, whatever becomes of the processes that accept from it: they get copies of
// its descriptor, and all copies share one queue. So the rules are about what is
// shared:
//
//   - O_NONBLOCK lies on the open file description, which every worker shares.
//     It is set when the socket is made and never again: a change would turn a
//     running server's accept into one that blocks. For the same reason a socket
//     never becomes an os.File, whose Fd method clears the flag and whose
//     finalizer closes the descriptor.
//   - Only this package binds, listens, shuts down and unlinks. A worker that
//     leaves takes nothing with it, and what one does to a socket is looked for
//     and mended ([Table.Audit]).
//   - Where a unit is steered, each process has a socket of its own at each TCP
//     address, and the kernel is told how to divide the clients ([Table.Seat]).
//   - While every service of a socket is down, its clients are refused or wait,
//     as when_down says. Refusing keeps the address: nobody else can have it.
//   - What systemd gave (LISTEN_FDS) is taken by name, then by address, and is
//     systemd's: never bound again, never shut down, never unlinked.
package socket

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Table holds the sockets of all socket units. It is safe for use by several
// goroutines. A slow file system below one unit's paths holds up only that
// unit's Bind, Listen, Refuse and Drop.
type Table struct {
	mu    sync.Mutex
	units map[string]*group
	given []Given                            // not taken yet
	save  func(name string, r *Record) error // nil: nothing is saved

	watch   *watch
	custody *custody
}

// An endpoint is what a unit has at one address: a [listener] that all its
// processes share, or a [ring] of which each has a shard. It stays what it was
// opened as. Its methods are called under the op lock of its group, but for
// where, status and file.
type endpoint interface {
	open() error
	configure(*unit.Socket)
	listen() error
	serving() bool
	refuse() error
	close() error
	audit() []Finding
	where() unit.Address
	status() Status
	file(seat int) (File, error)
	record() (r SocketRecord, ok bool) // not ok: it has no socket at present
}

// A group is what one socket unit owns.
type group struct {
	op    sync.Mutex   // held by whoever changes it, however long that takes
	spec  *unit.Socket // of the last Bind; needs op, as saved does
	saved *Record      // as it was last saved

	mu    sync.Mutex // held for moments, to read and to commit
	all   map[unit.Address]endpoint
	order []endpoint // as the last Bind named them: the order of the fds
	seats []seat     // while there is a ring: one for each of its shards

	unsaved error // why saved is not what it should be
}

// NewTable returns a Table that owns the given sockets and no other.
func NewTable(given []Given) *Table {
	t := &Table{units: map[string]*group{}, given: slices.Clone(given), custody: &custody{keys: map[int]string{}}}
	t.watch = newWatch(func(name string) { t.Audit(name) })
	return t
}

func (t *Table) group(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.units[name]
	if g == nil {
		g = &group{all: map[unit.Address]endpoint{}}
		t.units[name] = g
	}
	return g
}

// Bind makes the table own every address of s, in this order. What it owns
// already stays as it is, with the options of s that an open socket can be given
// (all but non_blocking, free_bind and bind_ipv6_only); what was given by
// systemd is taken; the rest is bound. A steered address keeps its seats, and one
// that is open stays shared or steered as it is: changes of that wait until it is
// closed, as [Status] says. With [unit.Queue] clients queue from now
// on, otherwise they are refused until [Table.Listen].
//
// The error is a [*BindError], or several joined; then nothing has changed.
// Addresses that an earlier Bind named and this one does not are kept, and may
// still be accepted from, until [Table.Trim].
func (t *Table) Bind(s *unit.Socket) error {
	g, end := t.begin(s.Name)
	defer end()
	g.bury()
	missing := g.missing(s.Listen)
	given, err := t.claim(s, missing)
	if err != nil {
		return err
	}
	fresh := map[unit.Address]endpoint{}
	for _, a := range missing {
		if fd, ok := given[a]; ok {
			fresh[a] = t.taken(s, a, fd)
			continue
		}
		e := t.closed(g, s, a)
		if failed := e.open(); failed != nil {
			err = errors.Join(err, t.ownOr(failed, a))
			continue
		}
		fresh[a] = e
	}
	if err != nil {
		t.abandon(fresh, given)
		return one(err)
	}
	return t.commit(g, s, fresh)
}

// closed is what a unit should have at an address, before it is opened.
func (t *Table) closed(g *group, s *unit.Socket, a unit.Address) endpoint {
	if !s.Steer || a.Network == "unix" {
		return newListener(s, a, t.watch, t.custody)
	}
	if len(g.seats) > 0 {
		return newRing(s, a, t.watch, t.custody, g.weights())
	}
	return newRing(s, a, t.watch, t.custody, firstWeights(s))
}

// firstWeights lead to the first seat until somebody has one.
func firstWeights(s *unit.Socket) []uint32 {
	n := s.Shards
	if n <= 0 {
		n = defaultShards
	}
	w := make([]uint32, min(n, maxShards)+1)
	w[0] = 1
	return w
}

// ownOr names the unit if the address is taken by one of ours: a port that is
// bound and silent shows nowhere else.
func (t *Table) ownOr(err error, a unit.Address) error {
	var e *BindError
	if !errors.As(err, &e) || !errors.Is(err, unix.EADDRINUSE) || e.PID > 0 && e.PID != os.Getpid() {
		return err
	}
	for _, name := range t.Names() {
		for _, l := range t.group(name).snapshot() {
			if collide(l.where(), a) {
				e.PID, e.Command = os.Getpid(), "[socket."+name+"]"
			}
		}
	}
	return err
}

// missing lists the addresses that have no socket yet.
func (g *group) missing(all []unit.Address) (m []unit.Address) {
	for _, a := range all {
		if g.all[a] == nil && !slices.Contains(m, a) {
			m = append(m, a)
		}
	}
	return m
}

// commit makes the new sockets part of the group and the order that of s.
func (t *Table) commit(g *group, s *unit.Socket, fresh map[unit.Address]endpoint) (err error) {
	g.spec = s
	g.mu.Lock()
	maps.Copy(g.all, fresh)
	g.order = g.order[:0:0]
	for _, a := range s.Listen {
		if e := g.all[a]; !slices.Contains(g.order, e) {
			g.order = append(g.order, e)
		}
	}
	order := g.order
	g.mu.Unlock()
	g.furnish()
	t.remember(s.Name, g)
	for _, l := range order {
		l.configure(s)
		if s.WhenDown == unit.Queue {
			err = errors.Join(err, l.listen())
		}
	}
	return one(err)
}

// furnish makes the seats when the first ring is open, and removes them when the
// last one is closed and nothing is left of any.
func (g *group) furnish() {
	rings, left := g.rings(), g.remnants()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(rings) == 0 && len(left) > 0:
	case len(rings) == 0:
		g.seats = nil
	case len(g.seats) == 0:
		g.seats = make([]seat, len(rings[0].weights))
		for i, w := range rings[0].weights {
			g.seats[i].weight = w
		}
	}
}

// abandon undoes a Bind that failed half way.
func (t *Table) abandon(fresh map[unit.Address]endpoint, given map[unit.Address]Given) {
	for a, e := range fresh {
		if g, ok := given[a]; ok {
			t.watch.drop(g.FD)
			t.custody.drop(g.FD)
		} else {
			e.close()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range given {
		t.given = append(t.given, g)
	}
}

// Listen makes every address of a unit accept connections or queue them. It is
// idempotent, and mends what others did to it: a TCP listener that a process with
// a copy has shut down, a unix path that was removed.
// If one address cannot ([*BindError]), those that did not listen before do not
// now: no client waits for a service that will not start.
func (t *Table) Listen(name string) error {
	g, end := t.begin(name)
	defer end()
	var err error
	var opened []endpoint
	for _, l := range g.snapshot() {
		if l.serving() {
			continue
		}
		if e := l.listen(); e != nil {
			err = errors.Join(err, e)
		} else {
			opened = append(opened, l)
		}
	}
	if err != nil {
		for _, l := range opened {
			err = errors.Join(err, l.refuse())
		}
	}
	return one(err)
}

// Refuse makes clients be refused at once (ECONNREFUSED), if when_down says so.
// Nothing else can take the addresses meanwhile. A unix path is bound anew, so
// descriptors from [Table.Files] are void: call Files again after Listen.
// Sockets that systemd gave keep queueing, since systemd listens on them too.
func (t *Table) Refuse(name string) error {
	g, end := t.begin(name)
	defer end()
	var err error
	for _, l := range g.snapshot() {
		err = errors.Join(err, l.refuse())
	}
	return one(err)
}

func (g *group) snapshot() []endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.order)
}

// A File is a socket on its way to a worker.
type File struct {
	FD   int    // borrowed: the Table closes it
	Name string // for LISTEN_FDNAMES
}

// Files lists the descriptors for one process, in the order of the unit's
// addresses: those of its seat, and those that all processes share. They are the
// Table's: to be duplicated into a child, and neither closed nor changed. An error
// says which address has no socket at present, or that the unit is steered and
// the process has no seat. Other units ignore who asks.
func (t *Table) Files(name string, holder unit.Invocation) (files []File, err error) {
	g := t.group(name)
	g.mu.Lock()
	seat := g.seatOf(holder)
	g.mu.Unlock()
	for _, e := range g.snapshot() {
		f, err := e.file(seat)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// Status describes the sockets of a unit, in the order of its addresses. It
// never waits for a Bind in progress.
func (t *Table) Status(name string) (all []Status) {
	g := t.group(name)
	g.mu.Lock()
	seats, unsaved := len(g.seats), g.unsaved
	g.mu.Unlock()
	for _, e := range g.snapshot() {
		s := e.status()
		if seats > 0 && !s.Steered {
			s.Note = cmp.Or(s.Note, "not steered: all processes share it")
		}
		s.Err = one(errors.Join(s.Err, unsaved))
		all = append(all, s)
	}
	return all
}

// Trim closes the addresses of a unit that its last Bind did not name. Its time
// is when no process is left that was started with them, or once those can do
// without new clients.
func (t *Table) Trim(name string) error {
	g, end := t.begin(name)
	defer end()
	return t.trim(name, g)
}

// trim needs op. What goes is forgotten before it is closed: a record that names
// what nobody has would be an error, what is kept and not recorded is just closed.
func (t *Table) trim(name string, g *group) (err error) {
	g.mu.Lock()
	var former []endpoint
	maps.DeleteFunc(g.all, func(_ unit.Address, l endpoint) bool {
		gone := !slices.Contains(g.order, l)
		if gone {
			former = append(former, l)
		}
		return gone
	})
	g.mu.Unlock()
	g.furnish()
	t.remember(name, g)
	for _, l := range former {
		err = errors.Join(err, l.close())
	}
	return err
}

// Drop closes every socket of a unit, and removes the unix paths that are ours.
// Processes that have copies keep them.
func (t *Table) Drop(name string) error {
	g, end := t.begin(name)
	defer end()
	g.mu.Lock()
	g.order = nil
	g.mu.Unlock()
	t.watch.forget(name)
	return t.trim(name, g)
}

// Unclaimed lists what systemd gave and no Bind has taken; see [Given.Unused].
func (t *Table) Unclaimed() []Given {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.given)
}

// CloseUnclaimed closes what [Table.Unclaimed] lists, and says what that was.
// systemd has descriptors of its own.
func (t *Table) CloseUnclaimed() []Given {
	t.mu.Lock()
	given := t.given
	t.given = nil
	t.mu.Unlock()
	for _, g := range given {
		closeFD(g.FD)
	}
	return given
}

// Names lists the units that have sockets, sorted.
func (t *Table) Names() (names []string) {
	t.mu.Lock()
	units := maps.Clone(t.units)
	t.mu.Unlock()
	for name, g := range units {
		if len(g.snapshot()) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Close drops all units and ends Watch. Given sockets that nobody took are closed
// too.
func (t *Table) Close() (err error) {
	t.watch.close()
	t.mu.Lock()
	names := slices.Collect(maps.Keys(t.units))
	t.mu.Unlock()
	for _, name := range names {
		err = errors.Join(err, t.Drop(name))
	}
	t.CloseUnclaimed()
	return err
}

// one is the error itself where a join has a single one.
func one(err error) error {
	if j, ok := err.(interface{ Unwrap() []error }); ok && len(j.Unwrap()) == 1 {
		return one(j.Unwrap()[0])
	}
	return err
}
