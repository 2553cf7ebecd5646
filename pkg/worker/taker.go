package worker

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxGivers is how many leaving processes one process listens to at a time.
const maxGivers = 64

// A taker takes over the connections of processes that leave. It trusts them with
// nothing: who sends anything but an open connection of one of our sockets is
// refused, and everything is bounded.
type taker struct {
	group *Group
	in    *net.UnixConn
	work  sync.WaitGroup

	mu       sync.Mutex
	stopped  bool
	sessions map[*net.UnixConn]int32 // with the giver's pid
}

func newTaker(g *Group, in *net.UnixConn) *taker {
	return &taker{group: g, in: in, sessions: make(map[*net.UnixConn]int32)}
}

// start takes offers until stop.
func (t *taker) start() {
	t.work.Go(func() {
		buffer := make([]byte, headerSize+1)
		for {
			p, err := receive(t.in, buffer)
			if err != nil {
				return
			}
			if err := t.accept(p); err != nil {
				closeAll(p.fds)
				t.group.logf("cannot take an offer of connections: %v", err)
			}
		}
	})
}

// stop returns when no connection can come any more. What was sent and not yet
// taken stays with its giver.
func (t *taker) stop() {
	t.mu.Lock()
	t.stopped = true
	t.in.SetReadDeadline(time.Unix(1, 0))
	for c := range t.sessions {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	t.mu.Unlock()
	t.work.Wait()
}

// accept begins a session. If it fails, the descriptors are still the caller's.
func (t *taker) accept(p packet) error {
	if p.err != nil {
		return p.err
	}
	if p.version != version || p.kind != offer {
		return fmt.Errorf("kind %d of version %d is not known", p.kind, p.version)
	}
	if len(p.fds) != 1 || !isSocket(p.fds[0], unix.AF_UNIX, unix.SOCK_SEQPACKET) {
		return errors.New("it has no socket to talk by")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || len(t.sessions) >= maxGivers {
		closeAll(p.fds) // tells the giver to ask another
		return nil
	}
	giver := peer(p.fds[0])
	c, err := unixConn(p.fds[0])
	if err != nil {
		return nil // which has closed it
	}
	if t.talksTo(giver) {
		transmit(c, message{kind: refused}, answerTime)
		return c.Close()
	}
	t.sessions[c] = giver
	t.work.Go(func() {
		t.listen(c)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.sessions, c)
		c.Close()
	})
	return nil
}

func (t *taker) talksTo(giver int32) bool {
	for _, pid := range t.sessions {
		if pid == giver && pid != 0 {
			return true
		}
	}
	return false
}

// peer returns the pid of who made a socket pair, 0 if that has none here.
func peer(fd int) int32 {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return cred.Pid
}

// listen takes what one giver sends, until that ends.
func (t *taker) listen(c *net.UnixConn) {
	if transmit(c, message{kind: hello}, answerTime) != nil {
		return
	}
	buffer := make([]byte, maxMessage)
	var refusals int
	var cause error
	for {
		p, err := receive(c, buffer)
		if err != nil {
			break
		}
		front, err := t.examine(&p)
		if err != nil {
			refusals, cause = refusals+1, err
			closeAll(p.fds)
			err = transmit(c, message{kind: refused, id: p.id}, answerTime)
		} else if err = transmit(c, message{kind: taken, id: p.id}, answerTime); err != nil {
			connOf(front).drop()
		} else {
			connOf(front).arrive(front)
		}
		if err != nil {
			break
		}
	}
	if refusals > 0 {
		t.group.logf("refused %d connections of a leaving process, the last because of %v", refusals, cause)
	}
}

// examine makes a connection of a packet, and reads nothing from it yet. What it
// leaves in p.fds is still the caller's.
func (t *taker) examine(p *packet) (net.Conn, error) {
	if p.err != nil {
		return nil, p.err
	}
	if p.version != version || p.kind != idleHTTP1 && p.kind != withState {
		return nil, fmt.Errorf("kind %d of version %d, which is not known", p.kind, p.version)
	}
	if len(p.fds) != 1 {
		return nil, fmt.Errorf("%d descriptors instead of one", len(p.fds))
	}
	fd := p.fds[0]
	if !isConnection(fd) {
		return nil, errors.New("a descriptor that is no connection")
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	d := t.door(p.name, p.kind, local)
	if d == nil {
		return nil, fmt.Errorf("a connection of socket %q, which is not served here", p.name)
	}
	p.fds = nil
	c, err := fileConn(fd)
	if err != nil {
		return nil, err
	}
	front := d.enter(c)
	connOf(front).state = append([]byte(nil), p.state...)
	return front, nil
}

// isConnection reports whether fd is a connected stream socket of TCP or unix.
// Lingering, which makes close wait, is turned off.
func isConnection(fd int) bool {
	if _, err := unix.Getpeername(fd); err != nil {
		return false
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return false
	}
	tcp := protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP
	switch {
	case tcp && (isSocket(fd, unix.AF_INET, unix.SOCK_STREAM) || isSocket(fd, unix.AF_INET6, unix.SOCK_STREAM)):
	case isSocket(fd, unix.AF_UNIX, unix.SOCK_STREAM):
	default:
		return false
	}
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) == nil
}

// door finds the socket that a connection was accepted from, nil if there is none.
func (t *taker) door(name string, k kind, local unix.Sockaddr) *door {
	for _, d := range t.group.doors {
		if d.name == name && d.takes() == k && isAt(d.Addr(), local) {
			return d
		}
	}
	return nil
}

// isAt reports whether a connection with this local address was accepted from a
// socket that listens on listener.
func isAt(listener net.Addr, local unix.Sockaddr) bool {
	switch l := listener.(type) {
	case *net.TCPAddr:
		ip, port := address(local)
		if port != l.Port {
			return false
		}
		if l.IP.IsUnspecified() {
			return l.IP.To4() == nil || ip.To4() != nil
		}
		return l.IP.Equal(ip)
	case *net.UnixAddr:
		u, ok := local.(*unix.SockaddrUnix)
		return ok && u.Name == l.Name
	}
	return false
}

func address(a unix.Sockaddr) (net.IP, int) {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return net.IP(a.Addr[:]), a.Port
	case *unix.SockaddrInet6:
		return net.IP(a.Addr[:]), a.Port
	}
	return nil, -1
}
