package ipc

import (
	"errors"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// How many connections others than root and our own user may have.
const (
	maxOfUID    = 64
	maxOfOthers = 512
)

// A door accepts connections, asks the kernel whose they are, and lets in only
// so many of each user. Root and our own user are never shut out by the others.
type door struct {
	*net.UnixListener
	role  func(Caller) Role
	spare spare

	mu     sync.Mutex
	inside map[uint32]int
	others int
}

func newDoor(l *net.UnixListener, role func(Caller) Role) *door {
	d := &door{UnixListener: l, role: role, inside: map[uint32]int{}}
	d.spare.fill()
	return d
}

// Close closes the listener.
func (d *door) Close() error {
	d.spare.close()
	return d.UnixListener.Close()
}

// Accept returns a [*conn]. Who cannot be identified or is one too many is
// hung up on.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.AcceptUnix()
		if (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) && d.spare.free() {
			continue
		}
		if err != nil {
			return nil, err
		}
		who, err := peer(c)
		if err == nil && d.enter(who) {
			return &conn{UnixConn: c, caller: who, door: d}, nil
		}
		c.Close()
		d.spare.fill()
	}
}

func (d *door) enter(who Caller) bool {
	if d.role(who) == Admin {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside[who.UID] >= maxOfUID || d.others >= maxOfOthers {
		return false
	}
	d.inside[who.UID]++
	d.others++
	return true
}

func (d *door) leave(who Caller) {
	if d.role(who) == Admin {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others--
	if d.inside[who.UID]--; d.inside[who.UID] == 0 {
		delete(d.inside, who.UID)
	}
}

// A conn is a connection whose other end is known.
type conn struct {
	*net.UnixConn
	caller Caller
	door   *door
	once   sync.Once
}

// Close counts the connection as gone only when it is.
func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(func() {
		c.door.leave(c.caller)
		c.door.spare.fill()
	})
	return err
}

// A spare is descriptors that are open only to be closed. With all others in use a
// connection can still be accepted, and its requests have a few.
type spare struct {
	mu     sync.Mutex
	fds    []int
	closed bool
}

// spared is how many.
const spared = 4

// fill opens those that are missing, as far as there are any.
func (s *spare) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.fds) < spared && !s.closed {
		fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		s.fds = append(s.fds, fd)
	}
}

// free closes them, and says whether there were any.
func (s *spare) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	had := len(s.fds) > 0
	s.fds = s.fds[:0]
	return had
}

// close is free for good.
func (s *spare) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.free()
}
