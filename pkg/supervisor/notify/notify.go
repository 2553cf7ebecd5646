// Package notify is the manager's side of sd_notify(3): a datagram socket for
// each invocation, on which its processes say that they are ready, alive, about
// to stop.
//
// Who a message is from is told by where it arrives, so it counts also when its
// sender is gone, and generations that run side by side are not mixed up. What
// the kernel says of the sender (SCM_CREDENTIALS) only decides whether it may
// speak at all.
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
	"slices"
	"sync"
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
	Access unit.NotifyAccess // [unit.NotifyMain] compares the sender's pid with [Socket.SetMain]

	// Receive gets each message that counts, in order, never two at once. It
	// may be called by [Socket.Drain], so it must not wait for whoever calls
	// that. It must not call methods of the socket, save Path and Close.
	Receive func(Message)

	// Refused is told of the first message that is dropped for each reason;
	// those that follow are only counted. The same rules as for Receive hold.
	// It may be nil.
	Refused func(reason string, pid int, uid uint32)
}

// A Socket receives the messages of one invocation. All methods are safe for
// use by several goroutines.
type Socket struct {
	dir  *safepath.Dir
	name string
	o    Options

	file *os.File
	raw  syscall.RawConn
	gone chan struct{} // closed by Close
	once sync.Once
	over chan struct{} // closed when the reader has ended

	closer closer

	mu      sync.Mutex // held from reading a message until it is delivered
	main    int
	budget  budget
	dropped map[string]uint64
}

// Listen makes the socket name in dir, which must be closed to the writing of
// others, and begins to receive. dir is used until Close and not closed.
func Listen(dir *safepath.Dir, name string, o Options) (*Socket, error) {
	s := &Socket{
		dir: dir, name: name, o: o, gone: make(chan struct{}), over: make(chan struct{}),
		dropped: make(map[string]uint64),
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
	go s.read()
	return s, nil
}

// bind makes the socket. Its inode is born with mode 0 and gets group and mode
// by a descriptor, so nobody can connect before it is as it should be.
func (s *Socket) bind() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
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

// SetMain names the main process. With [unit.NotifyMain] nobody else is heard,
// so it must come before that process runs its program.
func (s *Socket) SetMain(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.main = pid
}

// Dropped counts what was not acted on: messages by the reason for which they
// were dropped, and fields by the name of those that this version does not act on.
func (s *Socket) Dropped() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.dropped)
}

// Close removes the socket and ends its goroutine. What is in it is lost: call
// Drain first. It does not wait; a Receive that has begun may still go on.
func (s *Socket) Close() error {
	var err error
	s.once.Do(func() {
		err = s.dir.Remove(s.name)
		close(s.gone)
		// What is still queued may hold descriptors whose close blocks.
		go s.file.Close()
	})
	return err
}

// may says whether a sender may speak.
func (s *Socket) may(from *unix.Ucred) error {
	switch {
	case from == nil || from.Pid <= 0:
		return anonymous
	case s.o.Access == unit.NotifyNone:
		return nobodyMay
	case from.Uid != 0 && from.Uid != uint32(os.Geteuid()) && !slices.Contains(s.o.UIDs, from.Uid):
		return foreignUser
	case s.o.Access == unit.NotifyMain && int(from.Pid) != s.main:
		return notMain
	}
	return nil
}

// refuse counts a dropped message, and reports the first of its kind.
func (s *Socket) refuse(why error, from *unix.Ucred) {
	s.dropped[why.Error()]++
	if s.dropped[why.Error()] > 1 || s.o.Refused == nil {
		return
	}
	if from == nil {
		from = &unix.Ucred{}
	}
	s.o.Refused(why.Error(), int(from.Pid), from.Uid)
}
