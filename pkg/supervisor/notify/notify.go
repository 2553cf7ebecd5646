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
// What changes the state of a service must not be lost with the manager that heard
// it. So READY, STOPPING, RELOADING, ERRNO, MAINPID, FDSTORE and EXTEND_TIMEOUT_USEC
// are looked at, stored by the owner, and only then taken out of the socket: whoever
// is killed in between leaves the datagram to its successor, which has the same
// socket ([Resume]). The owner may hear such a message twice, and must not mind. All
// others are taken at once.
//
// The sender is a program that may be hostile. It can fill its own socket and
// then waits, as nobody reads faster than [budget] allows; it can send file
// descriptors that block whoever closes them, so those are closed by goroutines
// of their own (see closer). Nothing that it sends delays another socket.
//
// The socket's path is found anew for each message, as sd_notify(3) does that. Where
// somebody has removed it, [Socket.Renew] makes it again.
//
// No goroutine that waits for a datagram holds a thread or a buffer.
package notify

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

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
	// call any method of the socket but Drain, which would wait for it. stored says
	// that what the message changes is stored; before that nothing else is received
	// if the message changes anything. It may be called at any time, from anywhere
	// and more than once, and does not wait.
	Receive func(m Message, stored func())

	// Keep has a descriptor of the socket kept for the next manager, before anybody
	// can send to it; forget is called when that is over. The descriptor stays ours,
	// and forget comes before we close it: so whoever keeps it never closes the last
	// copy, which can block. Keep may wait for a moment. Nil: nobody keeps it.
	Keep func(fd int) (forget func(), err error)

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

	gone chan struct{} // closed by Close
	over chan struct{} // closed when the reader has ended, or never will begin

	closer closer

	// turn is held by who reads a message and delivers it. It is a channel, so
	// that nobody has to wait for it.
	turn   chan struct{}
	budget budget // of the reader, as what follows
	most   int    // with how many unclosed descriptors it reads on
	fresh  bool   // what was queued was forgotten, see takeNoMore

	main   atomic.Int64
	member Member // set by Start, before the reader begins

	deaf     atomic.Bool // no more descriptors are taken, see takeNoMore
	shut     atomic.Bool // only root and the main process's user can write to it
	renewing sync.Mutex  // held while the path is looked at, and bound

	mu       sync.Mutex // held for moments
	now      *port      // where the path leads, as far as we know
	former   []*port    // bound before; what is queued there comes first
	started  bool
	closed   bool
	dropped  map[string]uint64
	refusals int
	last     string
}

// Listen makes the socket name in dir, which must be closed to the writing of
// others. Nothing is read before Start. dir is used until Close and not closed.
func Listen(dir *safepath.Dir, name string, o Options) (*Socket, error) {
	s := newSocket(dir, name, o)
	if len(s.Path()) > maxPath {
		return nil, fmt.Errorf("cannot listen on %s: the path has more than %d bytes; a shorter runtime_directory would do", s.Path(), maxPath)
	}
	var err error
	if s.now, err = s.bind(); err != nil {
		return nil, err
	}
	return s, nil
}

func newSocket(dir *safepath.Dir, name string, o Options) *Socket {
	s := &Socket{
		dir: dir, name: name, o: o, gone: make(chan struct{}), over: make(chan struct{}),
		turn: make(chan struct{}, 1), most: fewFDs, dropped: make(map[string]uint64),
	}
	s.closer.freed = make(chan struct{}, 1)
	return s
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
	for _, p := range s.ports() {
		p.close()
	}
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
