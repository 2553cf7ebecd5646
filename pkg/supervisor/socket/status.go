package socket

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Status is what a socket is like at this moment.
type Status struct {
	Address   string // with the real port
	Listening bool
	Queues    bool   // no service is up, and yet clients that come now are not refused: they wait for the next start
	Given     bool   // by systemd, which holds it too
	Steered   bool   // one socket for each process, and a room: the figures are their sums, the limit is of one; see Table.Processes
	Queue     int    // connections that wait for accept(2); -1: not known
	Limit     int    // how many may; -1: not known
	Drops     uint64 // packets dropped since it was made: handshakes that found no room, and what belongs to no connection; unix: always 0, clients wait or get EAGAIN
	Note      string // what a reader would not expect, as long as it is so; may be empty
	Err       error  // why it is not what it should be

	Last *Finding // what a process last did to it since the last start of one (Table.Listen); nil: nothing
}

// Status describes the sockets of a unit, in the order of its addresses. It changes
// nothing and waits for nobody: what a Bind in progress is about to open is listed too.
func (t *Table) Status(name string) (all []Status) {
	g := t.find(name)
	if g == nil {
		return nil
	}
	g.mu.Lock()
	unsaved, up, opening := g.unsaved, g.up, g.opening
	g.mu.Unlock()
	steered := len(g.rings()) > 0
	for _, e := range g.snapshot() {
		s := e.status()
		s.Queues = s.Listening && !up
		if s.Given && s.Queues {
			s.note("systemd owns it: clients wait until the next start")
		}
		if steered && !s.Steered && s.Note == "" {
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

func (l *listener) status() Status {
	at := l.where().String()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Address: at, Given: l.given, Queue: -1, Limit: -1, Err: one(errors.Join(l.err, l.warning)), Last: l.last}
	for _, text := range l.notes() {
		s.note(text)
	}
	if l.fd < 0 {
		return s
	}
	s.Drops = drops(l.fd)
	s.Listening = l.reachable()
	switch {
	case !s.Listening:
		s.Queue = 0
	case l.addr.Network == "unix":
		s.Queue, s.Limit = unixQueue(l.fd)
	default:
		s.Queue, s.Limit = tcpQueue(l.fd)
	}
	return s
}

// reachable says what the kernel does with a client, whatever we asked for. It needs
// mu.
func (l *listener) reachable() bool {
	if l.addr.Network == "unix" {
		return l.listening && accepts(l.fd) && !hungUp(l.fd)
	}
	return accepts(l.fd)
}

// notes needs mu.
func (l *listener) notes() (all []string) {
	if l.doing != "" {
		all = append(all, "supervisord is "+l.doing)
	}
	if l.gone != 0 {
		all = append(all, "it was bound anew, and refuses until the processes that have the old one are replaced")
	}
	for _, f := range l.faults() {
		if !f.quiet {
			all = append(all, f.note())
		}
	}
	if l.fd < 0 {
		return all
	}
	if want := l.spec.NonBlocking; l.base.nonblocking(want) != want {
		all = append(all, until([]string{fmt.Sprintf("non_blocking = %v", want)}, whenIdle))
	}
	if keys := l.made.waits(l.spec, l.addr); len(keys) > 0 && !l.given {
		all = append(all, until(keys, whenClosed))
	}
	if err := l.watch.unwatched(l.fd); err != nil {
		all = append(all, "nobody notices at once if its path is removed: "+err.Error())
	}
	if err := l.watch.unheard(l.fd); err != nil {
		all = append(all, "nobody notices at once if a process shuts it down: "+err.Error())
	}
	if l.spec.Steer && l.addr.Network != "unix" && !l.given {
		all = append(all, "shared until no process has it and nobody waits there; then it is steered")
	}
	return all
}

// note adds to what a reader would not expect.
func (s *Status) note(text string) {
	if s.Note != "" {
		s.Note += "; "
	}
	s.Note += text
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
