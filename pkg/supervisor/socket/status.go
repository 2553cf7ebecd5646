package socket

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Status is what a socket is like at this moment.
type Status struct {
	Address   string // with the real port
	Listening bool
	Given     bool   // by systemd, which holds it too
	Steered   bool   // one socket for each seat: the figures are their sums, the limit's of those that get new connections; see Table.Seats
	Queue     int    // connections that wait for accept(2); -1: not known
	Limit     int    // how many may; -1: not known
	Drops     uint64 // packets dropped since it was made: handshakes that found no room, and what belongs to no connection; unix: always 0, clients wait or get EAGAIN
	Retried   uint64 // steered: clients that found no seat and had to try again, which the kernel does after 1 s
	Lost      uint64 // steered: clients that found no seat and were reset, where the kernel lets us filter nothing
	Note      string // what a reader would not expect; may be empty
	Err       error  // why it is not what it should be

	Last *Finding // what a process last did to it; nil: nothing
}

func (l *listener) status() Status {
	at := l.where().String()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Address: at, Listening: l.listening, Given: l.given, Queue: -1, Limit: -1, Err: one(errors.Join(l.err, l.warning)), Last: l.last}
	if l.given {
		s.Note = "systemd holds it: while the service is down clients wait"
	} else if l.spec.Steer && l.addr.Network != "unix" {
		s.Note = "shared by all processes until supervisord binds it anew; only then is it steered"
	}
	if l.fd < 0 {
		return s
	}
	switch {
	case !l.listening:
		s.Queue = 0
	case !accepts(l.fd):
		s.Listening, s.Queue = false, 0
		s.Note = "a process that has it shut it down; the next start mends it"
	case l.addr.Network == "unix":
		s.Queue, s.Limit = unixQueue(l.fd)
	default:
		s.Queue, s.Limit = tcpQueue(l.fd)
	}
	s.Drops = drops(l.fd)
	return s
}

// tcpQueue reads what a listener reports in fields that are named for
// connections: tcpi_unacked is the length of the queue, tcpi_sacked its limit.
func tcpQueue(fd int) (queue, limit int) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != tcpListen {
		return -1, -1
	}
	return int(info.Unacked), int(info.Sacked)
}

const tcpListen = 10 // TCP_LISTEN

// drops is SK_MEMINFO_DROPS, the last of the nine counters of SO_MEMINFO.
func drops(fd int) uint64 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return uint64(info[8])
}

// filterLen is the number of instructions of a socket's own filter.
func filterLen(fd int) (int, error) {
	var size uint32
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(size), nil
}
