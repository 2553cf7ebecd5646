package socket

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Dial connects to one process of a steered unit through an address of its own, whatever
// its share: a process that has no clients yet can be asked whether it answers. An empty
// address means the first where it has a shard that listens. What it returns does not block, is closed on exec, and
// is the caller's.
func (t *Table) Dial(name, address string, holder unit.Invocation) (fd int, err error) {
	g, end := t.begin(name)
	defer end()
	m := g.members[holder]
	if m == nil {
		return -1, fmt.Errorf("cannot call a process through socket %s: it has none of its own there", name)
	}
	for _, r := range g.rings() {
		if r.listens(m.key) && (address == "" || r.where().String() == address) {
			return r.dial(m.key)
		}
	}
	return -1, fmt.Errorf("cannot call a process through socket %s: it has none of its own there that accepts connections", strings.TrimSpace(name+" "+address))
}

// listens says that a call to a process would not go elsewhere.
func (r *ring) listens(key uint16) bool {
	s := r.shards[key]
	return s != nil && accepts(s.fd)
}

// dial needs op. On one machine the handshake is over when connect(2) returns, so the
// program is told of us for no longer than that.
func (r *ring) dial(key uint16) (int, error) {
	from, to := callers(r.to)
	fd, err := unix.Socket(family(to), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, from); err == nil { // the kernel chooses the port now
		from, err = unix.Getsockname(fd)
	}
	if err == nil {
		err = r.deal.call(uint16(portOf(from)), key)
		defer r.deal.call(0, roomKey)
	}
	if err == nil {
		err = establish(fd, to)
	}
	if err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("cannot call a process at %s: %w", r.where(), err)
	}
	return fd, nil
}

// establish is for a listener on this machine.
func establish(fd int, to unix.Sockaddr) error {
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		return err
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return err
	}
	if info.State != tcpEstablished {
		return fmt.Errorf("its queue is full, or local traffic to this address is dropped: %w", unix.EAGAIN)
	}
	return nil
}

const tcpEstablished = 1 // TCP_ESTABLISHED

// callers are where a socket of this machine calls from and to: the address itself, or
// the loopback for one that stands for all.
func callers(sa unix.Sockaddr) (from, to unix.Sockaddr) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a := *sa
		if a.Addr == [4]byte{} {
			a.Addr = [4]byte{127, 0, 0, 1}
		}
		return &unix.SockaddrInet4{Addr: a.Addr}, &a
	case *unix.SockaddrInet6:
		a := *sa
		if a.Addr == [16]byte{} {
			a.Addr = [16]byte{15: 1}
		}
		return &unix.SockaddrInet6{Addr: a.Addr, ZoneId: a.ZoneId}, &a
	}
	return nil, sa
}

func family(sa unix.Sockaddr) int {
	if _, v4 := sa.(*unix.SockaddrInet4); v4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func portOf(sa unix.Sockaddr) int { return address(sa).Port }

// wake rings at each shard where somebody waits, on kernels that need it: before "tcp:
// call sk_data_ready() after listener migration" (2026) a connection that is moved wakes
// nobody, so a process that sleeps in epoll_wait(2) sleeps on until somebody else comes.
// The bell is a connection that ends at once.
func (r *ring) wake() {
	if wakes() {
		return
	}
	for key, s := range r.shards {
		if !waits(s.fd) {
			continue
		}
		if fd, err := r.dial(key); err == nil {
			closeFD(fd)
		}
	}
}

// wakes tries, once, whether the kernel tells of connections that it moves.
var wakes func() bool

func init() { wakes = sync.OnceValue(tryWaking) } // it is a cycle for the compiler

func tryWaking() bool {
	table := NewTable(nil)
	defer table.Close()
	loopback := unit.Address{Network: "tcp", Host: "127.0.0.1"}
	g := table.group("wakes")
	g.spec = &unit.Socket{Name: "wakes", Steer: true}
	r := table.newRing(g, g.spec, loopback)
	defer r.close()
	defer g.deal.close()
	if r.open() != nil || r.admit(1, 1) != nil {
		return false
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	defer closeFD(epoll)
	return r.wokenBy(epoll)
}

// wokenBy moves a connection from the room to the only shard.
func (r *ring) wokenBy(epoll int) bool {
	shard := r.shards[1].fd
	if unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, shard, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(shard)}) != nil {
		return false
	}
	c, err := r.dial(roomKey)
	if err != nil {
		return false
	}
	defer closeFD(c)
	if _, err := r.deal.set(alone(1)); err != nil {
		return false
	}
	old := r.room
	if r.newRoom(listenBeside) != nil || r.shut(old) != nil {
		return false
	}
	r.discard(old)
	const patience = 10 // milliseconds; it is told before shutdown(2) returns
	n, _ := unix.EpollWait(epoll, make([]unix.EpollEvent, 1), patience)
	return n > 0
}
