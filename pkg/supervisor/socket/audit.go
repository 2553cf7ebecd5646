package socket

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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
// it: a socket that was shut down listens again (who waited in its queue was
// reset), options and the length of the queue are set back, the program that
// divides new connections is attached again, what nothing can mend is replaced. It
// lists what it found; what cannot be mended, once. O_NONBLOCK is set back only when
// no process has the socket.
//
// It is for events, such as a process that is ready. [Table.Listen] and [Table.Free]
// do it themselves, and what is fatal is noticed by [Table.Watch]. A question must
// not change anything: for that there are [Table.Status] and [Table.Look].
func (t *Table) Audit(name string) []Finding {
	g, end := t.begin(name)
	found := g.audit(g.seats)
	end()
	t.watch.say(name, found)
	return found
}

// audit needs op. seats are those whose holders are to blame.
func (g *group) audit(seats []seat) (found []Finding) {
	for _, e := range g.each() {
		found = append(found, e.audit()...)
		if r, ok := e.(*ring); ok {
			found = append(found, g.auditShares(r)...)
		}
	}
	blame(found, seats)
	return found
}

// blame turns seats into who holds them. Until here Holder is 1 + the seat.
func blame(found []Finding, seats []seat) {
	for i, f := range found {
		if f.Holder > 0 && int(f.Holder) <= len(seats) {
			found[i].Holder = seats[f.Holder-1].holder
		}
	}
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

// audit looks at each shard.
func (r *ring) audit() (found []Finding) {
	if !r.listening {
		return r.auditSilent()
	}
	found, _ = r.mend()
	for i, s := range r.shards {
		for _, f := range r.auditShard(s) {
			f.Holder = unit.Invocation(i + 1)
			found = append(found, f)
		}
	}
	r.remember(found)
	return found
}

func (r *ring) auditShard(s *shard) []Finding {
	r.watch.retry(s.fd)
	found := optionFindings(r.where(), s.base, s.fd)
	want := s.base.nonblocking(r.spec.NonBlocking)
	if is, known := nonblocking(s.fd); known && is != want && !r.hands.have(s.cookie) {
		found = append(found, Finding{Address: r.where().String(), What: "set O_NONBLOCK", Mended: "it is set back", Err: unix.SetNonblock(s.fd, want)})
	}
	if limit, low := lowered(s.fd, r.addr, backlog(r.spec)); low {
		if err := unix.Listen(s.fd, backlog(r.spec)); err != nil {
			found = append(found, Finding{Address: r.where().String(), What: fmt.Sprintf("set its backlog to %d", limit), Err: err})
		}
	}
	return found
}

// auditSilent looks for a process that listens while its service is down.
func (r *ring) auditSilent() (found []Finding) {
	for i, s := range r.shards {
		if accepts(s.fd) {
			found = append(found, Finding{Address: r.where().String(), Holder: unit.Invocation(i + 1), What: "listened on it while the service is down", Mended: "it refuses again"})
		}
	}
	if len(found) > 0 {
		found[0].Err = r.silence()
	}
	r.remember(found)
	return found
}

// mend makes shards that were shut down listen again, finds out which places
// they have now, and attaches the program.
func (r *ring) mend() (found []Finding, err error) {
	gone := r.gone()
	if len(gone) == 0 {
		return nil, r.attach()
	}
	for _, i := range gone {
		found = append(found, Finding{
			Address: r.where().String(), Holder: unit.Invocation(i + 1),
			What: "shut it down", Mended: "it listens again",
		})
	}
	if err = r.rejoin(gone); err != nil {
		err = r.failed(err)
		found[0].Err = err
	}
	r.count()
	return found, err
}

// gone lists the shards that do not listen.
func (r *ring) gone() (gone []int) {
	for i, s := range r.shards {
		if !accepts(s.fd) {
			gone = append(gone, i)
		}
	}
	return gone
}

// rejoin takes shards into the group again. Their places follow from the rules if
// it is one; else they are asked for, and if that cannot be, all join anew, in
// order, and whoever waits in a queue is reset.
func (r *ring) rejoin(gone []int) error {
	for _, i := range gone {
		if err := r.join(r.shards[i]); err != nil {
			return err
		}
	}
	if len(gone) == 1 && !r.unsure {
		r.moved(r.shards[gone[0]])
	} else if r.learn() != nil {
		return errors.Join(r.silence(), r.listen())
	}
	return r.attach()
}

// moved says what became of the places when one shard left and came back: the
// last one took its place, and it became the last.
func (r *ring) moved(s *shard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.shards {
		if other.place == len(r.shards) {
			other.place = s.place
		}
	}
	s.place = len(r.shards)
}

// auditShares looks for connections where there should be none: somebody has
// detached the program, or a shard has another place than we know. Which places
// they have is found out, and the program attached again.
func (g *group) auditShares(r *ring) []Finding {
	if !r.listening {
		return nil
	}
	turned := r.turnedAway()
	strays := g.strays(r)
	if strays+turned == 0 {
		return nil
	}
	f := Finding{
		Address: r.where().String(),
		What:    fmt.Sprintf("steered clients itself: %s", astray(strays, turned)),
		Mended:  "they are steered as they should be",
	}
	if r.filtered {
		f.Err = r.learn()
	}
	f.Err = errors.Join(f.Err, r.attach())
	r.count()
	r.remember([]Finding{f})
	return []Finding{f}
}

// astray counts in words.
func astray(strays, turned int) string {
	var words []string
	if strays > 0 {
		words = append(words, fmt.Sprintf("%d wait where nobody was to come", strays))
	}
	if turned > 0 {
		words = append(words, fmt.Sprintf("%d were turned away", turned))
	}
	return strings.Join(words, ", ")
}

// strays counts connections that have come to seats without a share since the
// last look, but for handshakes that began while they had one.
func (g *group) strays(r *ring) (n int) {
	var came []int
	for i, s := range g.seats {
		more := 0
		if s.weight == 0 && !s.blind {
			more = max(0, r.queued(i)-r.shards[i].seen)
		}
		came = append(came, more)
	}
	late := g.late()
	r.count()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, more := range came {
		if more = max(0, more-late[i]); more > 0 {
			g.seats[i].strays += uint64(more)
			n += more
		}
	}
	return n
}

// late is how many of the handshakes that a seat waits for have ended since they
// were last counted. It is asked after the queues: who is in one has ended.
func (g *group) late() []int {
	late := make([]int, len(g.seats))
	if !slices.ContainsFunc(g.seats, func(s seat) bool { return len(s.wait) > 0 }) {
		return late
	}
	now := g.handshakes()
	if now == nil {
		return late
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, s := range g.seats {
		still := map[uint64]bool{}
		for id := range s.wait {
			if now[id] {
				still[id] = true
			}
		}
		late[i] = len(s.wait) - len(still)
		g.seats[i].wait = still
	}
	return late
}

// count makes the queues as they are what later ones are compared with.
func (r *ring) count() {
	for _, s := range r.shards {
		s.seen = s.status().Queue
	}
	r.turnedAway()
}

// turnedAway is how many clients came to the anchor since it was last asked. What
// is in its queue could wait there for ever, and is reset.
func (r *ring) turnedAway() (n int) {
	if r.filtered {
		now := drops(r.anchor.fd)
		n = int(now - r.retried)
		r.retried = now
		return n
	}
	for ; ; n++ {
		fd, _, err := unix.Accept4(r.anchor.fd, unix.SOCK_CLOEXEC)
		if err != nil {
			break
		}
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		closeFD(fd)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += uint64(n)
	return n
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
