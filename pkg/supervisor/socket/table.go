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
//     and mended ([Table.Audit]), at events: a question changes nothing.
//   - A socket that nothing can mend is replaced. Processes that have the old one
//     must be replaced as well, so they are told ([Finding.Dead]), and until then
//     clients are refused: nobody would accept from the new one.
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
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Table holds the sockets of all socket units. It is safe for use by several
// goroutines. A slow file system below one unit's paths holds up only what changes
// that unit: whoever asks for its status is answered, and other units notice nothing.
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
// where, status, look and file.
type endpoint interface {
	open() error
	configure(*unit.Socket)
	listen() error
	serving() bool
	refuse() error
	close() error
	audit() []Finding
	forget() // what was done to it and is over
	look() []fault
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
	hands *hands
	lost  map[unit.Address]uint64 // dead sockets that a former supervisord left with processes; needs op
	fresh bool                    // taken over, and not told yet to listen or refuse; needs op
	gone  bool                    // it has nothing any more and is not in the table; needs op

	mu      sync.Mutex // held for moments, to read and to commit
	all     map[unit.Address]endpoint
	order   []endpoint     // as the last Bind named them
	opening []unit.Address // by a Bind in progress
	seats   []seat         // while there is a ring: one for each of its shards
	up      bool           // Listen was called last, not Refuse

	unsaved error // why saved is not what it should be
}

// NewTable returns a Table that owns the given sockets and no other.
func NewTable(given []Given) *Table {
	t := &Table{units: map[string]*group{}, given: slices.Clone(given), custody: &custody{keys: map[int]string{}}}
	t.watch = newWatch(func(name string) { t.Audit(name) })
	return t
}

// find is nil for a unit that has nothing.
func (t *Table) find(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.units[name]
}

func (t *Table) group(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.units[name]
	if g == nil {
		g = &group{all: map[unit.Address]endpoint{}, hands: newHands()}
		t.units[name] = g
	}
	return g
}

// retire lets go of a unit that has nothing any more. It needs op.
func (t *Table) retire(name string, g *group) {
	if len(g.all) > 0 || !g.hands.empty() || g.unsaved != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.units[name] == g {
		delete(t.units, name)
		g.gone = true
	}
}

// Bind makes the table own every address of s, in this order. What it owns
// already stays as it is, with the options of s that an open socket can be given;
// what was given by systemd is taken; the rest is bound, and the directory of a path
// is made if it is missing (0755, as by DirectoryMode= of systemd.socket(5)). What
// changes the socket under those that have it (non_blocking) is done when no process
// has it, and what only a new one can have (free_bind, bind_ipv6_only) when it
// refuses as well; until then [Status] says so. A steered address keeps its seats,
// and one that is open stays shared or steered as it is until it is closed. With
// [unit.Queue] clients queue from now on, otherwise they are refused until
// [Table.Listen].
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
	g.begins(missing)
	defer g.begins(nil)
	for _, a := range missing {
		if fd, ok := given[a]; ok {
			fresh[a] = t.taken(g, s, a, fd)
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
		return t.newListener(g, s, a)
	}
	if len(g.seats) > 0 {
		return t.newRing(g, s, a, g.weights())
	}
	return t.newRing(g, s, a, firstWeights(s))
}

// begins notes what a Bind is about to open, for whoever asks meanwhile.
func (g *group) begins(all []unit.Address) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening = all
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
		g := t.find(name)
		if g == nil {
			continue
		}
		for _, l := range g.each() {
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
	g.mourn(fresh)
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
		if s.WhenDown == unit.Queue && !void(l) {
			err = errors.Join(err, l.listen())
		}
	}
	return one(err)
}

// mourn has what is bound anew wait for those that have a dead socket instead.
func (g *group) mourn(fresh map[unit.Address]endpoint) {
	for a, e := range fresh {
		if l, ok := e.(*listener); ok {
			l.gone = g.lost[a]
		}
		delete(g.lost, a)
	}
}

// void says that a socket does not listen since processes have a dead one instead.
func void(e endpoint) bool {
	l, ok := e.(*listener)
	return ok && l.gone != 0
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

// Listen makes every address that the last Bind of a unit named accept connections or
// queue them. It is for the start of a process, is idempotent, and mends first what
// others did to the unit's sockets, as [Table.Audit] does. It also opens what was bound
// anew while processes have a dead socket instead, since the process that starts gets
// one that works; if [Table.Files] gives it to none, or that process ends before them,
// clients are refused again.
// If one address cannot ([*BindError]), those that did not listen before do not
// now: no client waits for a service that will not start.
func (t *Table) Listen(name string) error {
	g, end := t.begin(name)
	for _, e := range g.each() {
		e.forget() // a note of it ends with the next start
	}
	found := g.audit(g.seats)
	err, late := g.listen()
	end()
	t.watch.say(name, found)
	if late {
		t.watch.later(name)
	}
	return err
}

// listen says whether it opened what is only for the start of a process: if none gets
// it soon, clients are refused again.
func (g *group) listen() (err error, late bool) {
	fresh := g.turn(true)
	var opened []endpoint
	for _, l := range g.snapshot() {
		if l.serving() || fresh && void(l) {
			continue
		}
		late = late || void(l)
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
		g.turn(g.listens())
	}
	return one(err), late
}

// turn notes whether the unit is in use, and says whether it was just taken over.
func (g *group) turn(up bool) (fresh bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh, g.fresh, g.up = g.fresh, false, up
	return fresh
}

// listens says whether any address does.
func (g *group) listens() bool {
	return slices.ContainsFunc(g.snapshot(), func(e endpoint) bool { return e.status().Listening })
}

// Refuse makes clients be refused at once (ECONNREFUSED), if when_down says so, at
// every address of the unit, also those that only an earlier Bind named.
// Nothing else can take the addresses meanwhile. A unix path is bound anew, so
// descriptors from [Table.Files] are void: call Files again after Listen.
// Sockets that systemd gave keep queueing, since systemd listens on them too; then
// Queues of [Status] says so.
func (t *Table) Refuse(name string) error {
	g, end := t.begin(name)
	defer end()
	g.turn(false)
	var err error
	for _, l := range g.each() {
		err = errors.Join(err, l.refuse())
		if l, ok := l.(*listener); ok {
			l.settle()
		}
	}
	return one(err)
}

// each lists the endpoints of a unit: those of the last Bind in its order, then the
// others.
func (g *group) each() []endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.Clone(g.order)
	for _, a := range slices.SortedFunc(maps.Keys(g.all), func(a, b unit.Address) int { return cmp.Compare(a.String(), b.String()) }) {
		if e := g.all[a]; !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

func (g *group) snapshot() []endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.order)
}

// A File is a socket on its way to a worker.
type File struct {
	FD     int    // see [Table.Files] and [Table.Copies]
	Name   string // for LISTEN_FDNAMES
	Cookie uint64 // SO_COOKIE, which no other socket ever has; see [Finding.Dead]
}

// Files lists the descriptors for one process, in the order of the addresses of s,
// which need not be those of the last Bind: those of the process's seat, and those
// that all processes share. They are the Table's: to be duplicated into a child, and
// neither closed nor changed. From now on the process has them, until [Table.Free]; 0
// is a holder that is not counted. If the unit is in use, each of them listens.
//
// An error says which address has no socket at present, or that the unit is steered
// and the process has no seat; then it has nothing.
func (t *Table) Files(s *unit.Socket, holder unit.Invocation) ([]File, error) {
	g, end := t.begin(s.Name)
	defer end()
	files, held, err := g.files(s, g.seatOf(holder))
	if err != nil {
		return nil, err
	}
	g.hands.give(holder, held)
	return files, nil
}

// Copies is [Table.Files] with descriptors that are the caller's, to be closed with
// [Close]: a socket that dies meanwhile is replaced, and its descriptor becomes
// another file's.
func (t *Table) Copies(s *unit.Socket, holder unit.Invocation) ([]File, error) {
	g, end := t.begin(s.Name)
	defer end()
	files, held, err := g.files(s, g.seatOf(holder))
	if err == nil {
		err = duplicate(files)
	}
	if err != nil {
		return nil, err
	}
	g.hands.give(holder, held)
	return files, nil
}

// duplicate puts duplicates in the place of all descriptors, or leaves none open.
func duplicate(files []File) error {
	for i, f := range files {
		fd, err := unix.FcntlInt(uintptr(f.FD), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			Close(files[:i])
			return fmt.Errorf("cannot pass socket %s on: %w", f.Name, err)
		}
		files[i].FD = fd
	}
	return nil
}

// Close closes what [Table.Copies] returned.
func Close(files []File) {
	for _, f := range files {
		closeFD(f.FD)
	}
}

func (g *group) files(s *unit.Socket, seat int) (files []File, held []Held, err error) {
	var done []unit.Address
	for _, a := range s.Listen {
		if slices.Contains(done, a) {
			continue
		}
		done = append(done, a)
		e := g.all[a]
		if e == nil {
			return nil, nil, bindError(s.Name, a, errUnbound)
		}
		if l, ok := e.(*listener); ok && g.up && !l.serving() {
			if err := l.listen(); err != nil {
				return nil, nil, err
			}
		}
		f, err := e.file(seat)
		if err != nil {
			return nil, nil, err
		}
		f.Name = fdName(s)
		files = append(files, f)
		held = append(held, Held{Cookie: f.Cookie, Address: e.where().String()})
	}
	return files, held, nil
}

var errUnbound = errors.New("it was not bound before its start")

// Status describes the sockets of a unit, in the order of its addresses. It changes
// nothing and waits for nobody: what a Bind in progress is about to open is listed too.
func (t *Table) Status(name string) (all []Status) {
	g := t.find(name)
	if g == nil {
		return nil
	}
	g.mu.Lock()
	seats, unsaved, up, opening := len(g.seats), g.unsaved, g.up, g.opening
	g.mu.Unlock()
	for _, e := range g.snapshot() {
		s := e.status()
		s.Queues = s.Listening && !up
		if s.Given && s.Queues {
			s.note("systemd owns it: clients wait until the next start")
		}
		if seats > 0 && !s.Steered && s.Note == "" {
			s.note("not steered: all processes share it")
		}
		s.Err = one(errors.Join(s.Err, unsaved))
		all = append(all, s)
	}
	for _, a := range opening {
		if !slices.ContainsFunc(all, func(s Status) bool { return s.Address == a.String() }) {
			all = append(all, Status{Address: a.String(), Queue: -1, Limit: -1, Note: "supervisord is binding it"})
		}
	}
	return all
}

// Trim closes the addresses of a unit that neither its last Bind names nor any of
// keep. Its time is when no process is left that was started with them, or once those
// can do without new clients.
func (t *Table) Trim(name string, keep ...*unit.Socket) error {
	g, end := t.begin(name)
	defer end()
	return t.trim(name, g, keep)
}

// Yield is Trim after a Bind that failed: it also closes what the last one that did not
// fail has named, if none of keep does. Else two units that are to swap their addresses
// would wait for each other.
func (t *Table) Yield(name string, keep ...*unit.Socket) error {
	g, end := t.begin(name)
	defer end()
	g.mu.Lock()
	var order []endpoint
	for _, e := range g.order {
		named := func(s *unit.Socket) bool {
			return slices.ContainsFunc(s.Listen, func(a unit.Address) bool { return g.all[a] == e })
		}
		if slices.ContainsFunc(keep, named) {
			order = append(order, e)
		}
	}
	g.order = order
	g.mu.Unlock()
	return t.trim(name, g, keep)
}

// trim needs op. What goes is forgotten before it is closed: a record that names
// what nobody has would be an error, what is kept and not recorded is just closed.
func (t *Table) trim(name string, g *group, keep []*unit.Socket) (err error) {
	g.mu.Lock()
	var former []endpoint
	maps.DeleteFunc(g.all, func(a unit.Address, l endpoint) bool {
		kept := slices.ContainsFunc(keep, func(s *unit.Socket) bool { return slices.Contains(s.Listen, a) })
		gone := !kept && !slices.Contains(g.order, l)
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
	return t.trim(name, g, nil)
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
