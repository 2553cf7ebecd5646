package notify

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A frame has room for the longest datagram that counts and one byte more, and
// for all the descriptors that the kernel lets a sender pass at once. Frames
// are shared: a socket has one only while it reads.
type frame struct {
	payload [MaxMessage + 1]byte
	control []byte
}

// maxFDs is the kernel's SCM_MAX_FD.
const maxFDs = 253

var frames = sync.Pool{New: func() any {
	return &frame{control: make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxFDs))}
}}

const (
	window    = 10 * time.Millisecond
	perWindow = 64

	// drainMax bounds Drain, as others may go on sending. The queue itself is
	// shorter: net.unix.max_dgram_qlen is 10, or 512 under systemd.
	drainMax = 4096
)

// A budget lets perWindow messages through in each window. What comes above
// that stays in the socket, and soon its sender waits.
type budget struct {
	since time.Time
	taken int
}

// take asks for one message more; if there is none now, after which time.
func (b *budget) take(now time.Time) (wait time.Duration) {
	if now.Sub(b.since) >= window {
		b.since, b.taken = now, 0
	}
	if b.taken == perWindow {
		return window - now.Sub(b.since)
	}
	b.taken++
	return 0
}

// read is the socket's goroutine. It sleeps in Go's poller until there is a
// datagram, and after a flood until its window is over.
func (s *Socket) read() {
	defer close(s.over)
	for s.room() {
		var wait time.Duration
		err := s.raw.Read(func(fd uintptr) bool {
			var idle bool
			wait, idle = s.some(int(fd))
			return !idle
		})
		if err != nil || !s.pause(wait) {
			return
		}
	}
}

// some reads as much as the budget has, and says whether the socket is empty or
// else how long to leave it alone.
func (s *Socket) some(fd int) (wait time.Duration, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.closer.pending() < fewFDs {
		if wait := s.budget.take(time.Now()); wait > 0 {
			return wait, false
		}
		switch err := s.receive(fd); err {
		case nil:
		case unix.EAGAIN:
			return 0, true
		default: // ENOMEM, ENOBUFS: what is queued stays, and is tried again
			return window, false
		}
	}
	return 0, false
}

// pause sleeps, and says whether the socket is still there.
func (s *Socket) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.gone:
		return false
	}
}

// Drain delivers what is queued before it returns. It is for the moment at which
// a process has exited: what that had said counts, and comes before its end.
func (s *Socket) Drain() {
	s.raw.Control(func(fd uintptr) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for range drainMax {
			if s.closer.pending() >= manyFDs || s.receive(int(fd)) != nil {
				return
			}
		}
	})
}

// receive takes one datagram and deals with it. The error is recvmsg's.
func (s *Socket) receive(fd int) error {
	f := frames.Get().(*frame)
	defer frames.Put(f)
	n, cn, flags, err := recvmsg(fd, f)
	if err != nil {
		return err
	}
	from, fds := unpack(f.control[:cn])
	m, err := s.judge(f.payload[:n], flags, from, fds)
	s.closer.close(fds)
	switch {
	case err != nil:
		s.refuse(err, from)
	case !m.Barrier:
		s.deliver(m)
	}
	return nil
}

func (s *Socket) deliver(m Message) {
	for _, key := range m.Later {
		s.dropped[key]++
	}
	if m.Fields > 0 && s.o.Receive != nil {
		s.o.Receive(m)
	}
}

// judge says what a datagram is, or why it is dropped as a whole.
func (s *Socket) judge(payload []byte, flags int, from *unix.Ucred, fds []int) (Message, error) {
	if flags&unix.MSG_CTRUNC != 0 {
		return Message{}, cutControl
	}
	if err := s.may(from); err != nil {
		return Message{}, err
	}
	m, err := Parse(payload) // one byte too many tells that it was truncated
	switch {
	case err != nil:
		return Message{}, err
	case m.Barrier && len(fds) != 1:
		return Message{}, wantsOneFD
	}
	m.PID, m.UID = int(from.Pid), from.Uid
	return m, nil
}

func recvmsg(fd int, f *frame) (n, cn, flags int, err error) {
	for {
		n, cn, flags, _, err = unix.Recvmsg(fd, f.payload[:], f.control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			return n, cn, flags, err
		}
	}
}

// unpack finds the sender's credentials and descriptors. The kernel writes
// whole control messages, the credentials first; nothing here is the sender's.
func unpack(control []byte) (from *unix.Ucred, fds []int) {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			from, _ = unix.ParseUnixCredentials(&m)
		case unix.SCM_RIGHTS:
			got, _ := unix.ParseUnixRights(&m)
			fds = append(fds, got...)
		}
	}
	return from, fds
}
