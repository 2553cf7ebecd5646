package socket

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A ring is the sockets of one steered address: shards that are joined by
// SO_REUSEPORT, and the program by which the kernel chooses one for each new
// connection. The kernel knows a member by its place in the group. Places go by
// the order of listen(2), and when a member stops listening the last one moves
// into the hole. Hence the rules:
//
//   - No shard is closed and none is added while the ring is open: the queue and
//     the handshakes of one that closes are reset (with net.ipv4.tcp_migrate_req
//     = 0, the default), and a place would come to mean another process.
//   - The first place is the anchor's. No worker has it and it never stops
//     listening, so it never moves. Programs are attached through it, since the
//     shards are locked against that (SO_LOCK_FILTER). Its filter drops all that
//     comes: a client that gets there, because a worker detached the program
//     (which no lock forbids), tries again one second later and finds a seat.
//     Where we may not filter TCP (EPERM for ordinary users, on some kernels) such
//     a client is reset, and counted as lost.
//   - Before any bind(2) the sockets are given to a user id that no process has,
//     if we may. Only sockets of one user can share a port, so nobody joins.
//   - Refusing takes all of them out of the group, the anchor first; listening
//     puts them back in order.
type ring struct {
	addr  unit.Address
	mark  mark
	watch *watch
	kept  *custody
	hands *hands

	mu        sync.Mutex // as in listener
	spec      *unit.Socket
	shards    []*shard
	anchor    *shard
	uid       int // that owns the sockets; -1: our own
	listening bool
	filtered  bool     // the sockets have their filters
	unsure    bool     // taken over: the places may be others by now
	weights   []uint32 // by shard: shares of new connections
	retried   uint64   // clients that the anchor's filter sent away, at the last look
	lost      uint64   // clients that the anchor had to reset
	err       error
	warning   error
	last      *Finding
}

// A shard is one socket of a ring.
type shard struct {
	fd     int
	cookie uint64
	place  int    // in the kernel's group
	probes uint64 // of its drops
	seen   int    // its queue at the last look
	base   *Baseline
}

func (t *Table) newRing(g *group, s *unit.Socket, a unit.Address, weights []uint32) *ring {
	// Class 0 is what ordinary clients have, which may be of this machine too.
	const classes, hops = 64, 256
	m := mark{class: uint8(1+rand.IntN(classes-1)) << 2, hops: uint8(1 + rand.IntN(hops-1))}
	return &ring{addr: a, spec: s, mark: m, watch: t.watch, kept: t.custody, hands: g.hands, weights: weights}
}

// open binds all sockets of the ring. None listens yet.
func (r *ring) open() error {
	all, uid, err := bindRing(r.spec, r.addr, len(r.weights)+1)
	if err == nil {
		err = r.equip(all)
	}
	if err != nil {
		for _, fd := range all {
			closeFD(fd)
		}
		return r.failed(err)
	}
	r.mu.Lock()
	r.uid, r.err = uid, nil
	for i, fd := range all {
		r.kept.add(fd)
		cookie, _ := cookieOf(fd)
		r.shards = append(r.shards, &shard{fd: fd, cookie: cookie, place: i, base: observe(fd, r.addr)})
	}
	r.anchor, r.shards = r.shards[0], r.shards[1:]
	r.mu.Unlock()
	r.tune()
	return nil
}

// equip gives the sockets their filters, if we may, and locks those of shards for
// good. The anchor is ours alone, so O_NONBLOCK is not the configuration's.
func (r *ring) equip(all []int) error {
	err := unix.SetNonblock(all[0], true)
	r.filtered = attach(all[0], unix.SO_ATTACH_FILTER, dropAll) == nil
	for _, fd := range all[1:] {
		if r.filtered {
			err = errors.Join(err, attach(fd, unix.SO_ATTACH_FILTER, dropMarked(r.mark)))
		}
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1))
	}
	return err
}

// bindRing binds n sockets to one address. The first bind is exclusive, so that
// it fails where anybody has the port; only then is the port opened to its own.
// What it returns is open also if there is an error.
func bindRing(s *unit.Socket, a unit.Address, n int) (all []int, uid int, err error) {
	to, err := sockaddr(a)
	if err != nil {
		return nil, -1, err
	}
	uid = strangerID()
	first, err := bindOwned(s, to, &uid, false)
	if err == unix.EAFNOSUPPORT && a.Host == "" { // as in bindTCP
		to = &unix.SockaddrInet4{Port: a.Port}
		first, err = bindOwned(s, to, &uid, false)
	}
	if err != nil {
		return nil, -1, err
	}
	defer closeFD(first)
	if err = reusePort(first); err == nil {
		to, err = unix.Getsockname(first)
	}
	for len(all) < n && err == nil {
		var fd int
		if fd, err = bindOwned(s, to, &uid, true); err == nil {
			all = append(all, fd)
		}
	}
	return all, uid, err
}

// bindOwned is bindTo for a socket of another user. Where we may not give it
// away, uid becomes -1 and it is our own.
func bindOwned(s *unit.Socket, to unix.Sockaddr, uid *int, shared bool) (int, error) {
	fd, err := prepared(s, to)
	if err != nil {
		return -1, err
	}
	if *uid >= 0 && unix.Fchown(fd, *uid, -1) != nil {
		*uid = -1
	}
	if shared {
		err = reusePort(fd)
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

// all lists the sockets in the order of listen(2).
func (r *ring) all() []*shard { return append([]*shard{r.anchor}, r.shards...) }

func (r *ring) tune() {
	var warning error
	for _, s := range r.shards {
		warning = errors.Join(warning, tune(s.fd, r.spec, r.addr))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warning = one(warning)
}

// configure is [listener.configure].
func (r *ring) configure(s *unit.Socket) {
	if r.spec == s {
		return
	}
	relisten := r.listening && r.spec.Backlog != s.Backlog
	r.mu.Lock()
	r.spec = s
	r.mu.Unlock()
	r.tune()
	for _, s := range r.shards {
		if relisten {
			if err := unix.Listen(s.fd, backlog(r.spec)); err != nil {
				r.failed(err)
			}
		}
	}
}

func (r *ring) failed(err error) error {
	e := bindError(r.spec.Name, r.addr, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = e
	return e
}

func (r *ring) became(listening bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listening, r.err = listening, nil
}

// look tells nothing: its status does.
func (r *ring) look() []fault { return nil }

// serving says that every shard can be reached, in fact.
func (r *ring) serving() bool {
	for _, s := range r.shards {
		if !accepts(s.fd) {
			return false
		}
	}
	return r.listening
}

// listen puts the sockets into the group, in order, and the program before the
// first of them that clients can reach. On a ring that listens it mends.
func (r *ring) listen() error {
	if r.listening {
		_, err := r.mend()
		return err
	}
	if err := r.silence(); err != nil { // a worker that outlived its service may have called listen(2)
		return err
	}
	r.unsure = false // the order makes the places
	for i, s := range r.all() {
		if err := r.join(s); err != nil {
			r.silence()
			return r.failed(err)
		}
		if i == 0 {
			if err := r.attach(); err != nil {
				r.silence()
				return r.failed(err)
			}
		}
		r.mu.Lock()
		s.place = i
		r.mu.Unlock()
	}
	r.count()
	r.became(true)
	r.listenIn()
	return nil
}

// listenIn watches the shards, and those that should have no client for clients.
func (r *ring) listenIn() {
	for i, s := range r.shards {
		events := uint32(0)
		if r.weights[i] == 0 {
			events = unix.EPOLLIN
		}
		r.watch.add(r.spec.Name, s.fd, events)
	}
}

// join makes one socket listen. SO_REUSEADDR is as in [listener.serve].
func (r *ring) join(s *shard) error {
	if err := errors.Join(hush(s.fd), reuse(s.fd, true)); err != nil {
		return err
	}
	return unix.Listen(s.fd, backlog(r.spec))
}

// refuse is [listener.refuse].
func (r *ring) refuse() error {
	if !r.listening || r.spec.WhenDown == unit.Queue {
		return nil
	}
	return r.silence()
}

// silence ends listening without losing the port. The anchor goes first: it
// would keep clients waiting that could be refused.
func (r *ring) silence() error {
	for _, s := range r.all() {
		err := hush(s.fd)
		if err == nil {
			err = reuse(s.fd, false)
		}
		if err != nil {
			return r.failed(err)
		}
	}
	r.became(false)
	return nil
}

// steer makes the weights those of new connections from now on. If that fails
// they are what they were.
func (r *ring) steer(weights []uint32) error {
	before := r.weights
	r.mu.Lock()
	r.weights = weights
	r.mu.Unlock()
	if !r.listening {
		return nil
	}
	if err := r.attach(); err != nil {
		r.mu.Lock()
		r.weights = before
		r.mu.Unlock()
		return err
	}
	r.listenIn()
	return nil
}

// attach puts the program in force. In a ring that was taken over the places are
// asked for first, until that has worked; meanwhile those of the record count.
func (r *ring) attach() error {
	if r.unsure {
		r.unsure = r.learn() != nil
	}
	return r.attachProgram(r.program())
}

func (r *ring) attachProgram(program []unix.SockFilter) error {
	if err := attach(r.anchor.fd, unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		return fmt.Errorf("cannot steer %s: %w", r.where(), err)
	}
	return nil
}

func (r *ring) program() []unix.SockFilter {
	places := make([]int, len(r.shards))
	for i, s := range r.shards {
		places[i] = s.place
	}
	return weighted(places, r.weights)
}

func (r *ring) close() error {
	r.mu.Lock()
	all := r.all()
	r.anchor, r.shards, r.listening = &shard{fd: -1}, nil, false
	r.mu.Unlock()
	for _, s := range all {
		r.watch.drop(s.fd)
		r.kept.drop(s.fd)
		closeFD(s.fd)
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
	if r.anchor != nil && r.anchor.fd >= 0 {
		if sa, err := unix.Getsockname(r.anchor.fd); err == nil {
			return address(sa)
		}
	}
	return r.addr
}

// file is the shard of a seat.
func (r *ring) file(seat int) (File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seat >= len(r.shards) {
		return File{}, cmp.Or(r.err, error(bindError(r.spec.Name, r.addr, errNone)))
	}
	if seat < 0 {
		return File{}, fmt.Errorf("cannot pass %s on: the process has no seat", r.at())
	}
	return passed(r.shards[seat].fd, r.spec), nil
}

// status sums up over the shards. Room is where new connections come.
func (r *ring) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Address: r.at().String(), Listening: r.listening, Steered: true,
		Err: one(errors.Join(r.err, r.warning)), Last: r.last,
	}
	switch {
	case !r.spec.Steer || len(firstWeights(r.spec)) != len(r.weights):
		s.Note = fmt.Sprintf("steered, with places for %d processes, until supervisord binds it anew", len(r.weights)-1)
	case r.uid < 0:
		s.Note = "another process of this user could join the port"
	}
	for i, shard := range r.shards {
		at := shard.status()
		s.Queue += at.Queue
		s.Drops += at.Drops
		if r.weights[i] > 0 {
			s.Limit += at.Limit
		}
		if r.listening && !accepts(shard.fd) {
			s.Note = "a process has shut its socket down; the next start mends it"
		}
	}
	if s.Lost = r.lost; r.anchor.fd >= 0 && r.filtered {
		s.Retried = drops(r.anchor.fd)
	} else if waiting, _ := tcpQueue(r.anchor.fd); waiting > 0 {
		s.Lost += uint64(waiting)
	}
	return s
}

// status is what one shard reports. A queue that does not listen is empty.
func (s *shard) status() ShardStatus {
	st := ShardStatus{Cookie: s.cookie, Place: s.place, Drops: drops(s.fd) - s.probes}
	if queue, limit := tcpQueue(s.fd); queue >= 0 {
		st.Queue, st.Limit = queue, limit
	}
	return st
}
