package socket

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A ring is the sockets of one steered address: the shards of processes and a waiting
// room, joined by SO_REUSEPORT, and the program by which the kernel chooses one of them
// for each new connection. The rules:
//
//   - The room is there from the first to the last moment, and only supervisord has it. It
//     keeps the address, programs are attached through it (shards are locked against
//     that, SO_LOCK_FILTER), and nobody accepts from it.
//   - The program is attached before anybody can come, and again before each socket is
//     shut: no lock forbids SO_DETACH_REUSEPORT_BPF, and without the program those who
//     wait in a socket that ends are reset.
//   - A shard ends by shutdown(2), then close(2). That moves its queue at once, whoever
//     else has a copy of its descriptor; close(2) alone would do so with the last copy.
//   - A shard that its process shut down is not opened again: that process has seen
//     accept(2) fail, and accepts no more.
//   - Who waits in the room is moved to processes by shutting the room, after a new one
//     has taken its place. So a process never gets the room itself.
//   - Before any bind(2) the sockets are given to a user id that no process has, if we
//     may. Only sockets of one user can share a port, so nobody joins.
type ring struct {
	addr  unit.Address
	deal  *deal
	watch *watch
	kept  *custody
	hands *hands

	mu       sync.Mutex // as in listener
	spec     *unit.Socket
	to       unix.Sockaddr // where it is bound, with the port that the kernel chose
	uid      int           // that owns the sockets; -1: our own
	room     int           // -1: the ring is not open
	sockets  int           // BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: sockets by key
	program  int
	shards   map[uint16]*shard
	past     uint64 // drops of sockets that are closed
	refusing bool
	served   bool // a shard has cards
	err      error
	warning  error
	last     *Finding
}

// A shard is the socket of one process.
type shard struct {
	fd     int
	cookie uint64
	holder unit.Invocation
	base   *Baseline
	ended  bool // it does not listen any more: its process has shut it down, or we have
	told   bool // that its process did so
}

func (t *Table) newRing(g *group, s *unit.Socket, a unit.Address) *ring {
	return &ring{
		addr: a, spec: s, deal: g.deal, watch: t.watch, kept: t.custody, hands: g.hands,
		uid: -1, room: -1, sockets: -1, program: -1, shards: map[uint16]*shard{},
	}
}

// open binds the address. Who comes from then on is met by the deal as it is.
func (r *ring) open() error {
	err := r.build()
	if err == nil {
		err = r.occupy()
	}
	if err != nil {
		r.close()
		return r.failed(err)
	}
	r.mu.Lock()
	r.err, r.refusing = nil, r.deal.refuses()
	r.mu.Unlock()
	return nil
}

// build makes what bpf(2) makes.
func (r *ring) build() (err error) {
	defer func() { err = unsteerable(err) }()
	if err = r.deal.open(); err != nil {
		return err
	}
	if r.sockets, err = newMap(mapSockets, 8, keyCount); err != nil {
		return err
	}
	r.kept.hold(r.key("sockets"), r.sockets)
	if r.program, err = load(steering(r.deal.fd, r.sockets)); err != nil {
		return err
	}
	r.kept.hold(r.key("program"), r.program)
	return nil
}

// key names what belongs to the ring and has no cookie.
func (r *ring) key(of string) string { return fmt.Sprintf("%s/%s/%s", of, r.spec.Name, r.addr) }

// occupy binds the room. The first bind(2) is exclusive, so that it fails where anybody
// has the port; only then is the port opened to its own.
func (r *ring) occupy() error {
	to, err := sockaddr(r.addr)
	if err != nil {
		return err
	}
	uid := strangerID()
	first, err := bindOwned(r.spec, to, &uid, false)
	if err == unix.EAFNOSUPPORT && r.addr.Host == "" { // as in bindTCP
		to = &unix.SockaddrInet4{Port: r.addr.Port}
		first, err = bindOwned(r.spec, to, &uid, false)
	}
	if err != nil {
		return err
	}
	if err = reusePort(first); err == nil {
		to, err = unix.Getsockname(first)
	}
	if err != nil {
		closeFD(first)
		return err
	}
	r.mu.Lock()
	r.to, r.uid = to, uid
	r.mu.Unlock()
	return r.newRoom(func(room int) error {
		closeFD(first) // a socket with a program can listen only where no other is bound
		if room < 0 {
			return nil
		}
		return r.attachBy(room)
	})
}

// listenBeside is for a room beside others: the program is theirs.
func listenBeside(int) error { return nil }

// newRoom opens a room in the place of the one that is there. bound is called when it has
// the address and does not listen yet, or with -1 if it has not.
func (r *ring) newRoom(bound func(fd int) error) error {
	uid := r.uid
	fd, err := bindOwned(r.spec, r.to, &uid, true)
	if err != nil {
		return errors.Join(err, bound(-1))
	}
	err = errors.Join(unix.SetNonblock(fd, true), bound(fd))
	r.kept.add(fd)
	if err == nil {
		err = r.enter(roomKey, fd)
	}
	if err != nil {
		r.discard(fd)
		return err
	}
	r.mu.Lock()
	r.room = fd
	r.mu.Unlock()
	return nil
}

// enter has a socket listen, and gives it its key: the map takes none that does not.
// Whoever had the key has it no more.
func (r *ring) enter(key uint16, fd int) error {
	if err := unix.Listen(fd, backlog(r.spec)); err != nil {
		return err
	}
	return r.register(key, fd)
}

func (r *ring) register(key uint16, fd int) error {
	v := uint64(fd)
	if err := put(r.sockets, uint32(key), &v); err != nil {
		return fmt.Errorf("cannot register a socket with the steering program: %w", err)
	}
	return nil
}

// bindOwned is bindTo for a socket of another user. Where we may not give it away, uid
// becomes -1 and it is our own. What shares the port may do so beside connections of an
// earlier process: as it listens for as long as it is there, SO_REUSEADDR opens the port
// to nobody else.
func bindOwned(s *unit.Socket, to unix.Sockaddr, uid *int, shared bool) (int, error) {
	fd, err := prepared(s, to)
	if err != nil {
		return -1, err
	}
	if *uid >= 0 && unix.Fchown(fd, *uid, -1) != nil {
		*uid = -1
	}
	if shared {
		err = errors.Join(reusePort(fd), reuse(fd, true))
	}
	if err == nil {
		err = occupyPort(fd, to)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// strangerID is a user id for the sockets of one ring. Ids from 2^31 up are given
// to nobody (systemd's and shadow's ranges end below), and two supervisords that
// choose at random do not meet. Only root can give sockets away; in a user
// namespace the id may have no meaning.
func strangerID() int {
	if os.Geteuid() != 0 {
		return -1
	}
	return 0xc0000000 + int(rand.Uint32N(0x3fff0000))
}

func reusePort(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

func (r *ring) attach() error { return r.attachBy(r.room) }

func (r *ring) attachBy(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, r.program); err != nil {
		return fmt.Errorf("cannot attach the steering program: %w", err)
	}
	return nil
}

// admit opens a shard. It has no cards yet.
func (r *ring) admit(key uint16, holder unit.Invocation) error {
	if r.room < 0 {
		return cmp.Or(r.err, error(bindError(r.spec.Name, r.addr, errNone)))
	}
	uid := r.uid
	fd, err := bindOwned(r.spec, r.to, &uid, true)
	if err != nil {
		return r.failed(err)
	}
	warning := tune(fd, r.spec, r.addr)
	s := &shard{fd: fd, holder: holder, base: observe(fd, r.addr)}
	s.cookie, _ = cookieOf(fd)
	// Its process may neither filter nor attach a program.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1)
	r.kept.add(fd)
	if err == nil {
		err = r.enter(key, fd)
	}
	if err != nil {
		r.discard(fd)
		return r.failed(err)
	}
	r.mu.Lock()
	r.shards[key], r.warning, r.err = s, warning, nil
	r.mu.Unlock()
	return nil
}

// discard closes what nobody waits in.
func (r *ring) discard(fd int) {
	r.watch.drop(fd)
	r.kept.drop(fd)
	closeFD(fd)
}

// shut ends a socket. Who waits there goes where the deal says.
func (r *ring) shut(fd int) error {
	err := r.attach()
	if e := unix.Shutdown(fd, unix.SHUT_RD); e != unix.ENOTCONN { // it has ended before
		err = errors.Join(err, e)
	}
	return err
}

// remove closes the shard of a process that is gone.
func (r *ring) remove(key uint16) {
	s := r.shards[key]
	if s == nil {
		return
	}
	if err := r.shut(s.fd); err != nil {
		r.strained(err)
	}
	r.mu.Lock()
	delete(r.shards, key)
	r.past += drops(s.fd)
	r.mu.Unlock()
	r.discard(s.fd)
	r.wake()
}

// leave shuts the shard of a process that takes nobody any more, and lives.
func (r *ring) leave(key uint16) error {
	s := r.shards[key]
	if s == nil || s.ended {
		return nil
	}
	r.mu.Lock()
	s.ended = true
	r.mu.Unlock()
	err := r.shut(s.fd)
	r.wake()
	return err
}

// ended says that a process has a shard that does not listen any more.
func (r *ring) ended(key uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[key]
	return s != nil && s.ended
}

// release moves those who wait in the room to where the deal says: a new room takes its
// place, then it is shut.
func (r *ring) release() error {
	if r.room < 0 || !waits(r.room) {
		return nil
	}
	return r.vacate()
}

func (r *ring) vacate() error {
	old := r.room
	if err := r.newRoom(listenBeside); err != nil {
		return err
	}
	r.watch.add(r.spec.Name, r.room, r.roomEvents())
	err := r.shut(old)
	r.mu.Lock()
	r.past += drops(old)
	r.mu.Unlock()
	r.discard(old)
	r.wake()
	return err
}

func waits(fd int) bool {
	n, _ := tcpQueue(fd)
	return n > 0
}

// follow does here what the deal, which is in force, asks for.
func (r *ring) follow(weights map[uint16]int) error {
	r.watchFor(weights)
	err := r.attach()
	if len(weights) > 0 || r.deal.refuses() {
		err = errors.Join(err, r.release())
	}
	if err != nil {
		return r.strained(one(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = nil
	return nil
}

// watchFor has the kernel tell of clients where none is to come: at shards without cards,
// and in the room while there are cards here.
func (r *ring) watchFor(weights map[uint16]int) {
	served := false
	for key, s := range r.shards {
		events := uint32(unix.EPOLLIN)
		if weights[key] > 0 {
			events, served = 0, true
		}
		r.watch.add(r.spec.Name, s.fd, events)
	}
	r.mu.Lock()
	r.served, r.refusing = served, r.deal.refuses()
	r.mu.Unlock()
	r.watch.add(r.spec.Name, r.room, r.roomEvents())
}

func (r *ring) roomEvents() uint32 {
	if r.served {
		return unix.EPOLLIN
	}
	return 0
}

func (r *ring) tune() {
	var warning error
	for _, s := range r.shards {
		warning = errors.Join(warning, tune(s.fd, r.spec, r.addr))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warning = one(warning)
}

// configure is [listener.configure]. Shards that are open keep their backlog: a process
// may have chosen another.
func (r *ring) configure(s *unit.Socket) {
	if r.spec == s {
		return
	}
	r.mu.Lock()
	r.spec = s
	r.mu.Unlock()
	r.tune()
	if err := unix.Listen(r.room, backlog(s)); err != nil {
		r.strained(err)
	}
}

func (r *ring) failed(err error) error {
	e := bindError(r.spec.Name, r.addr, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = e
	return e
}

// strained notes what did not work at an address that is bound.
func (r *ring) strained(err error) error {
	e := fmt.Errorf("cannot steer %s: %w", r.where(), err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = e
	return e
}

// look tells nothing: its status does.
func (r *ring) look() []fault { return nil }

// serving says that clients reach it. Who is met how is the deal's affair.
func (r *ring) serving() bool { return r.room >= 0 && accepts(r.room) }

// listen has nothing to open, as a ring is never closed to clients but by its deal. It
// puts the program back if somebody took it off.
func (r *ring) listen() error {
	if r.room < 0 {
		return r.open()
	}
	if err := r.attach(); err != nil {
		return r.strained(err)
	}
	return nil
}

func (r *ring) refuse() error { return nil }

func (r *ring) steered() bool { return true }

func (r *ring) inUse() bool { return len(r.shards) > 0 || r.room >= 0 && waits(r.room) }

// close closes everything. Processes that have shards keep them, with who waits there:
// the program lives for as long as one of them does.
func (r *ring) close() error {
	r.mu.Lock()
	fds := []int{}
	for _, s := range r.shards {
		fds = append(fds, s.fd)
	}
	fds = append(fds, r.room, r.program, r.sockets) // the room last of the sockets: it resets who waits there
	r.room, r.program, r.sockets, r.shards, r.served = -1, -1, -1, map[uint16]*shard{}, false
	r.mu.Unlock()
	for _, fd := range fds {
		if fd >= 0 {
			r.discard(fd)
		}
	}
	return nil
}

func (r *ring) where() unit.Address {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at()
}

// at needs mu.
func (r *ring) at() unit.Address {
	if r.to != nil {
		return address(r.to)
	}
	return r.addr
}

// file is the shard of a process.
func (r *ring) file(key uint16) (File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[key]
	if s == nil {
		return File{}, cmp.Or(r.err, fmt.Errorf("cannot pass %s on: the process has no socket there", r.at()))
	}
	return passed(s.fd, r.spec), nil
}

// queued is how many wait at a process's shard, or in the room.
func (r *ring) queued(key uint16) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.shards[key]; s != nil {
		n, _ := tcpQueue(s.fd)
		return max(0, n)
	}
	return 0
}

// describe is what the socket with a key is like; empty if there is none.
func (r *ring) describe(key uint16) []Shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	fd := r.room
	if key != roomKey {
		s := r.shards[key]
		if s == nil {
			return nil
		}
		fd = s.fd
	}
	if fd < 0 {
		return nil
	}
	x := Shard{Address: r.at().String(), Drops: drops(fd)}
	x.Cookie, _ = cookieOf(fd)
	if queue, limit := tcpQueue(fd); queue >= 0 { // else it does not listen, and nobody waits
		x.Queue, x.Limit = queue, limit
	}
	return []Shard{x}
}

// status sums up over all sockets.
func (r *ring) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Address: r.at().String(), Listening: r.room >= 0 && !r.refusing, Steered: true,
		Drops: r.past, Err: one(errors.Join(r.err, r.warning)), Last: r.last,
	}
	for _, fd := range r.all() {
		s.Drops += drops(fd)
		if queue, limit := tcpQueue(fd); queue >= 0 {
			s.Queue += queue
			s.Limit = max(s.Limit, limit)
		}
	}
	switch {
	case !r.spec.Steer:
		s.Note = "steered until no process has it"
	case r.uid < 0:
		s.Note = "another process of this user could join the port"
	}
	return s
}

// all lists the sockets that are open. It needs mu.
func (r *ring) all() (fds []int) {
	for _, key := range slices.Sorted(maps.Keys(r.shards)) {
		fds = append(fds, r.shards[key].fd)
	}
	if r.room >= 0 {
		fds = append(fds, r.room)
	}
	return fds
}
