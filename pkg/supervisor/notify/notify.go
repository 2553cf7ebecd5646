// Package notify is the manager's side of sd_notify(3): a datagram socket for
// each invocation, on which its processes say that they are ready, alive, about
// to stop.
//
// Who a message is from is told by where it arrives, so it counts also when its
// sender is gone, and generations that run side by side are not mixed up. What
// the kernel says of the sender (SCM_CREDENTIALS, SCM_PIDFD) only decides whether
// it may speak at all.
//
// [Listen] makes the socket and reads nothing: whatever arrives before the
// invocation has a main process is a stranger's, and waits in the kernel. The
// owner calls [Socket.Start] when it has stored who the main process is.
//
// Messages are delivered by one goroutine at a time, in their order, and never
// under a lock: a Receive that hangs holds up its own socket's messages and
// nothing else. No method waits for it, but [Socket.Drain], and that only for as
// long as its context lasts.
//
// The sender is a program that may be hostile. It can fill its own socket and
// then waits, as nobody reads faster than [budget] allows; it can send file
// descriptors that block whoever closes them, so those are closed by goroutines
// of their own (see closer). Nothing that it sends delays another socket.
//
// No goroutine that waits for a datagram holds a thread or a buffer.
package notify

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// maxPath is how long a path in a sockaddr_un can be (unix(7)), less its NUL.
const maxPath = 107

// Options say who may send, and who is told.
type Options struct {
	GID    int               // group that may write to the socket; -1: none, its mode is 0600
	UIDs   []uint32          // users that may send, besides root and our own
	Access unit.NotifyAccess // [unit.NotifyMain] compares the sender's pid with the main process's

	// Open lets every user write to the socket: its mode is 0666, whatever GID
	// says. It is for a program that runs as root and may become another user by
	// itself. What a user that is not among UIDs says counts only if the sender
	// is a [Member].
	Open bool

	// Receive gets each message that counts, in order, never two at once. It may
	// call any method of the socket but Drain, which would wait for it.
	Receive func(Message)

	// Refused is told of the first message that is dropped for each reason;
	// those that follow are only counted. The same rules as for Receive hold.
	// It may be nil.
	Refused func(reason string, pid int, uid uint32)
}

// A Member says whether the process that pidfd names, whose number is pid as
// long as it lives, belongs to the invocation. It must not wait. The pidfd stays
// the caller's.
type Member func(pidfd, pid int) bool

// A Socket receives the messages of one invocation. All methods are safe for
// use by several goroutines.
type Socket struct {
	dir  *safepath.Dir
	name string
	o    Options

	file *os.File
	raw  syscall.RawConn
	gone chan struct{} // closed by Close
	over chan struct{} // closed when the reader has ended, or never will begin

	closer closer

	// turn is held by who reads a message and delivers it. It is a channel, so
	// that nobody has to wait for it.
	turn   chan struct{}
	budget budget // of the reader, as is most
	most   int    // with how many unclosed descriptors it reads on

	main   atomic.Int64
	member Member // set by Start, before the reader begins

	mu       sync.Mutex // held for moments
	started  bool
	closed   bool
	dropped  map[string]uint64
	refusals int
	last     string
}

// Listen makes the socket name in dir, which must be closed to the writing of
// others. Nothing is read before Start. dir is used until Close and not closed.
func Listen(dir *safepath.Dir, name string, o Options) (*Socket, error) {
	s := &Socket{
		dir: dir, name: name, o: o, gone: make(chan struct{}), over: make(chan struct{}),
		turn: make(chan struct{}, 1), most: fewFDs, dropped: make(map[string]uint64),
	}
	s.closer.freed = make(chan struct{}, 1)
	if len(s.Path()) > maxPath {
		return nil, fmt.Errorf("cannot listen on %s: the path has more than %d bytes; a shorter runtime_directory would do", s.Path(), maxPath)
	}
	fd, err := s.bind()
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", s.Path(), err)
	}
	s.file = os.NewFile(uintptr(fd), s.Path())
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		dir.Remove(name)
		return nil, fmt.Errorf("cannot listen on %s: %w", s.Path(), err)
	}
	return s, nil
}

// Start names the main process and begins to receive. It is for the moment at
// which that process's identity is stored, and it has yet to run its program.
// member is asked about senders that are known by nothing else; nil: there are
// none. A second Start does nothing but name the main process; after Close it
// does nothing.
func (s *Socket) Start(main int, member Member) {
	s.SetMain(main)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return
	}
	s.started, s.member = true, member
	go s.read()
}

// bind makes the socket. Its inode is born with mode 0 and gets group and mode
// by a descriptor, so nobody can connect before it is as it should be.
func (s *Socket) bind() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if s.o.Open {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSPIDFD, 1) // fails before Linux 6.5: see belongs
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Fchmod(fd, 0))
	if err == nil {
		err = s.bindName(fd)
	}
	if err == nil {
		if err = s.open(); err != nil {
			s.dir.Remove(s.name)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindName takes the name, also from a supervisord that was killed: the
// directory is locked, so no living one has it.
func (s *Socket) bindName(fd int) error {
	at := &unix.SockaddrUnix{Name: s.dir.ProcName(s.name)}
	err := unix.Bind(fd, at)
	if err != unix.EADDRINUSE {
		return err
	}
	if err := s.dir.Remove(s.name); err != nil {
		return err
	}
	return unix.Bind(fd, at)
}

// open lets in whom the options name.
func (s *Socket) open() error {
	fd, err := unix.Openat(s.dir.FD(), s.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if s.o.Open {
		return safepath.Chmod(fd, 0o666)
	}
	if s.o.GID < 0 {
		return safepath.Chmod(fd, 0o600)
	}
	if err := safepath.Chown(fd, -1, s.o.GID); err != nil {
		return err
	}
	return safepath.Chmod(fd, 0o660)
}

// Path is what $NOTIFY_SOCKET must be.
func (s *Socket) Path() string { return s.dir.Path() + "/" + s.name }

// SetMain names the main process. With [unit.NotifyMain] nobody else is heard.
func (s *Socket) SetMain(pid int) { s.main.Store(int64(pid)) }

// Dropped counts what was not acted on: messages by the reason for which they
// were dropped, and fields by the name of those that this version does not act on.
func (s *Socket) Dropped() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.dropped)
}

// Refusals says how many messages were dropped, and why the last of them was and
// who had sent it: "its sender is another user (pid 12, uid 33)".
func (s *Socket) Refusals() (n int, last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusals, s.last
}

// Close removes the socket and ends its goroutine. What is in it is lost: call
// Drain first. It does not wait; a Receive that has begun may still go on, and a
// message that has been read may still come.
func (s *Socket) Close() error {
	if !s.end() {
		return nil
	}
	err := s.dir.Remove(s.name)
	// What is still queued may hold descriptors whose close blocks.
	go s.file.Close()
	return err
}

// end says whether it was the first.
func (s *Socket) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	close(s.gone)
	if !s.started {
		close(s.over)
	}
	return true
}

// receives says whether the socket is read.
func (s *Socket) receives() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started && !s.closed
}
