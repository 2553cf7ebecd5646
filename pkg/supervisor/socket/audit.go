package socket

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Whoever has a descriptor of a socket can ruin the socket for all that share it,
// and the shares of a steered unit with it. It cannot be prevented, so it is
// noticed, named and mended.

// A Finding is what a process did to a socket that it was given.
type Finding struct {
	Address string
	Holder  unit.Invocation // who did it; 0: any of those that have the socket
	What    string          // in words: "shut it down", "set SO_LINGER"
	Mended  string          // in words: "it listens again"; empty: nothing could be done
	Err     error           // why it is not mended
	Again   int             // how often more it was so and mended, since it was last told
	Void    bool            // it was replaced, and processes have the old one until they are
	// Dead is the cookie of the socket that processes have in vain (the Cookie of a
	// [File]); 0: none. It is told once. They must be replaced: a process that starts
	// now gets a socket that works. Until then clients are refused. Where all that have
	// it are leaving ([Table.Leaving]) it is 0, and clients wait for the next start. If
	// Err is not nil as well, none could be bound yet, and the start of a process tries again:
	// an abstract name is free only when the last of them is gone.
	Dead uint64
}

// String is a sentence.
func (f Finding) String() string {
	who := "a process that has it"
	if f.Holder != 0 {
		who = fmt.Sprintf("invocation %d", f.Holder)
	}
	text := fmt.Sprintf("%s: %s %s", f.Address, who, f.What)
	switch {
	case f.Err != nil:
		text += "; cannot mend it: " + f.Err.Error()
	case f.Mended != "":
		text += "; " + f.Mended
	}
	if f.Void {
		text += "; processes that were started with it must be replaced"
	}
	return text
}

// Audit looks at every socket of a unit for what processes did to it, and mends
// it: a shared socket that was shut down listens again (who waited in its queue was
// reset), the clients of a shard that was shut down go to other processes, options and
// the length of a shared queue are set back, the program that divides new connections is
// attached again, what nothing can mend is replaced. It lists what it found; what cannot
// be mended, once. O_NONBLOCK is set back only when
// no process has the socket.
//
// It is for events, such as a process that is ready. [Table.Listen] and [Table.Free]
// do it themselves, and what is fatal is noticed by [Table.Watch]. A question must
// not change anything: for that there are [Table.Status] and [Table.Look].
func (t *Table) Audit(name string) []Finding {
	g, end := t.begin(name)
	found := g.audit()
	end()
	t.watch.say(name, found)
	return found
}

// audit needs op.
func (g *group) audit() (found []Finding) {
	for _, e := range g.each() {
		found = append(found, e.audit()...)
	}
	found = append(found, g.depart()...)
	g.failed(g.redeal()) // who was found to be gone has no cards, and who strayed goes on
	return found
}

// audit mends what a look finds, and a path that leads elsewhere.
func (l *listener) audit() (found []Finding) {
	defer func() { l.remember(found) }()
	l.mark()
	l.watch.retry(l.fd)
	if to := l.leads(); to != here {
		found = append(found, l.displaced(to))
	} else {
		found = l.mendAll()
	}
	l.settle()
	l.revive()
	return l.sayable(found)
}

func (l *listener) mendAll() (found []Finding) {
	at, broken := l.where().String(), false
	for _, fault := range l.faults() {
		f := Finding{Address: at, What: fault.what}
		if fault.mend != nil {
			fault.mend(&f)
		}
		broken = broken || f.Err != nil
		if !fault.quiet || f.Err != nil {
			found = append(found, f)
		}
	}
	if broken && l.addr.Network != "unix" && !l.given {
		found = append(found, l.renew())
	}
	return found
}

// remember is for what is over; what stands is in the notes of a status.
func (l *listener) remember(found []Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range found {
		if f.Mended != "" || f.Err != nil {
			l.last = &found[i]
		}
	}
}

func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = nil
}

// hungUp says that a unix listener was shut down: it says itself that it accepts.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0
}

// lowered reads how many clients may wait, and whether these are fewer than we
// asked for. More do no harm.
func lowered(fd int, a unit.Address, asked int) (limit int, low bool) {
	if a.Network == "unix" {
		_, limit = unixQueue(fd)
	} else {
		_, limit = tcpQueue(fd)
	}
	return limit, limit >= 0 && limit < asked && limit < somaxconn()
}

// foreignFilter says that there is a filter on a socket that we gave none.
func foreignFilter(fd int) bool {
	n, err := filterLen(fd)
	return n > 0 || err == unix.EACCES // not a classic one
}

// audit looks at each shard, and for clients in the room that should be elsewhere. The
// program is attached again by what follows: [group.redeal].
func (r *ring) audit() (found []Finding) {
	if r.room < 0 {
		return nil
	}
	r.watch.retry(r.room)
	ended := r.countEnded()
	for _, key := range slices.Sorted(maps.Keys(r.shards)) {
		found = append(found, r.auditShard(key, r.shards[key])...)
	}
	if f, ok := r.strays(); ok && r.countEnded() == ended {
		found = append(found, f)
	}
	r.remember(found)
	return found
}

func (r *ring) auditShard(key uint16, s *shard) (found []Finding) {
	r.watch.retry(s.fd)
	if !accepts(s.fd) {
		return r.lost(s)
	}
	found = optionFindings(r.where(), s.base, s.fd)
	want := s.base.nonblocking(r.spec.NonBlocking)
	if is, known := nonblocking(s.fd); known && is != want && !r.hands.have(s.cookie) {
		found = append(found, Finding{Address: r.where().String(), What: "set O_NONBLOCK", Mended: "it is set back", Err: unix.SetNonblock(s.fd, want)})
	}
	if err := r.rejoin(key, s); err != nil {
		found = append(found, Finding{Address: r.where().String(), What: "left the ring", Err: err})
	}
	for i := range found {
		found[i].Holder = s.holder
	}
	return found
}

// lost is for a shard that was shut down. Its clients have moved. Who was not told to
// end has no clients any more, and must be replaced; it is not opened again, since the
// process has seen accept(2) fail.
func (r *ring) lost(s *shard) []Finding {
	if s.ended {
		return nil
	}
	r.mu.Lock()
	s.ended = true
	r.mu.Unlock()
	if s.told || !r.hands.bury(s.cookie) {
		return nil
	}
	s.told = true
	return []Finding{{
		Address: r.where().String(), Holder: s.holder,
		What: "shut it down", Mended: "its clients go to other processes", Void: true, Dead: s.cookie,
	}}
}

// rejoin gives a shard its key again: who shuts one down and listens again is in the
// kernel's group, but not in the map.
func (r *ring) rejoin(key uint16, s *shard) error {
	var cookie uint64
	if get(r.sockets, uint32(key), &cookie) == nil && !s.ended {
		return nil
	}
	if err := r.register(key, s.fd); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.ended = false
	return nil
}

// countEnded: who waited at a shard that has ended since the last look may be in the
// room by right.
func (r *ring) countEnded() (n int) {
	for _, s := range r.shards {
		if s.ended {
			n++
		}
	}
	return n
}

// strays says that clients wait in the room although a process here should have them:
// somebody has detached the program.
func (r *ring) strays() (f Finding, is bool) {
	queue, _ := tcpQueue(r.room)
	if !r.served || queue <= 0 {
		return f, false
	}
	return Finding{
		Address: r.where().String(),
		What:    fmt.Sprintf("steered clients itself: %d wait where nobody was to come", queue),
		Mended:  "they are steered as they should be",
	}, true
}

func (r *ring) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = nil
}

func (r *ring) remember(found []Finding) {
	if len(found) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &found[len(found)-1]
}
