package notify

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Closing what a stranger sent can take for ever: a file on a FUSE server that
// does not answer, a socket that lingers. And while such a descriptor is in our
// table, every process that we start hangs as well, since its exec closes its
// copy. So each is closed at once, by a goroutine of its own: when close(2) has
// begun, the descriptor is out of the table. (Threat model: systemd#11112.)
//
// What bounds the goroutines: a socket with fewFDs unclosed descriptors is not
// read any more, and one message brings maxFDs at most; in the whole process no
// more than maxClosing are in close(2), and only those hold a thread.
//
// A socket that every user can write to would be silenced by anybody's stuck
// descriptors. So it takes no more of them from then on, from nobody, and goes on with
// those that are queued; a BARRIER=1 is refused with the rest. Before Linux 6.16 that
// cannot be had: there the path is bound anew for root and the main process's user.
// What is queued is still read, unless that alone brings manyFDs.
const (
	fewFDs     = 8
	manyFDs    = 512 // for Drain, which does not come back later, and for what is queued
	maxClosing = 256

	// patience is how long closing takes before it is called stuck.
	patience = time.Second
)

var closing = make(chan struct{}, maxClosing)

type closer struct {
	unclosed atomic.Int32
	freed    chan struct{} // has room for one: something was closed
}

func (c *closer) pending() int { return int(c.unclosed.Load()) }

// close closes all of fds, soon. It does not block.
func (c *closer) close(fds []int) {
	for _, fd := range fds {
		if harmless(fd) {
			unix.Close(fd)
			continue
		}
		c.unclosed.Add(1)
		go c.closeOne(fd)
	}
}

func (c *closer) closeOne(fd int) {
	closing <- struct{}{}
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) // ENOTSOCK is fine
	unix.Close(fd)
	<-closing
	c.unclosed.Add(-1)
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// harmless are pipes and eventfds, known by a link that the kernel writes
// without asking any file system. Barriers are made of them, so a barrier is
// answered also when everything else is stuck.
func harmless(fd int) bool {
	var b [64]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), b[:])
	if err != nil {
		return false
	}
	link := string(b[:n])
	return strings.HasPrefix(link, "pipe:[") || link == "anon_inode:[eventfd]"
}

// room waits until few descriptors are unclosed, and says whether the socket is
// still there. If that takes long, it says so once.
func (s *Socket) room() bool {
	if s.closer.pending() < s.most {
		return true
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for s.closer.pending() >= s.most {
		select {
		case <-s.closer.freed:
		case <-late.C:
			s.refuse(cannotClose, sender{})
			s.takeNoMore()
		case <-s.gone:
			return false
		}
	}
	return true
}

// takeNoMore lets nobody send descriptors any more to a socket that everybody
// can write to. If it has to do so again, what is queued brings too many, and is not
// read. It is for the reader.
func (s *Socket) takeNoMore() {
	switch {
	case !s.o.Open || s.fresh:
	case !s.deaf.Load():
		s.deaf.Store(true)
		if s.refuseRights() != nil {
			s.shut.Store(true)
			s.rebind()
		}
		s.most = manyFDs
	default:
		s.fresh = true
		s.rebind()
		s.forget()
		s.most = s.closer.pending() + fewFDs
	}
}

// refuseRights has the kernel refuse descriptors (Linux 6.16).
func (s *Socket) refuseRights() (err error) {
	for _, p := range s.ports() {
		p.raw.Control(func(fd uintptr) { err = passRights(int(fd), false) })
	}
	return err
}

// passRights is SO_PASSRIGHTS, which tests take away.
var passRights = func(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, value)
}
