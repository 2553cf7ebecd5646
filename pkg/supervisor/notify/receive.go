package notify

import (
	"context"
	"encoding/binary"
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
	return &frame{control: make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4)+unix.CmsgSpace(4*maxFDs))}
}}

const (
	window    = 10 * time.Millisecond
	perWindow = 64
	maxFull   = 5 // so a flood gets 200 messages a second

	fdsPerMessage = 8 // to close so many takes as long as to deal with a message

	// drainMax bounds Drain, as others may go on sending. The queue itself is
	// shorter: net.unix.max_dgram_qlen is 10, or 512 under systemd.
	drainMax = 4096
)

// A budget lets perWindow messages through in each window. What comes above
// that stays in the socket, and soon its sender waits. With each window in a row that
// is used up the next is twice as long: a program may say much at once, but who says
// more all the time shall not have a processor for that.
type budget struct {
	since time.Time
	taken int
	full  int // windows in a row that were used up, as far as they count
}

// take asks for one message more; if there is none now, after which time.
func (b *budget) take(now time.Time) (wait time.Duration) {
	if spent := now.Sub(b.since); spent >= b.window() {
		b.next(spent >= 2*b.window())
		b.since, b.taken = now, 0
	}
	if b.taken >= perWindow {
		return b.window() - now.Sub(b.since)
	}
	b.taken++
	return 0
}

func (b *budget) window() time.Duration { return window << b.full }

// next is the end of a window. After one that passed by the flood is over.
func (b *budget) next(passed bool) {
	if passed || b.taken < perWindow {
		b.full = 0
		return
	}
	b.full = min(b.full+1, maxFull)
}

// fds charges what a message has brought besides.
func (b *budget) fds(n int) { b.taken += n / fdsPerMessage }

// read is the socket's goroutine. It sleeps in Go's poller until there is a
// datagram, and after a flood until its window is over.
func (s *Socket) read() {
	defer close(s.over)
	for s.room() && s.wait() && s.pause(s.some()) {
	}
}

// wait parks until there may be a datagram, and says whether the socket is still
// there.
func (s *Socket) wait() bool {
	p, last := s.port()
	return !last || p.raw.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil || s.receives()
}

// some reads as much as the budget has, and says how long to leave the socket
// alone then.
func (s *Socket) some() (wait time.Duration) {
	for s.closer.pending() < s.most {
		if wait := s.budget.take(time.Now()); wait > 0 {
			return wait
		}
		fds, err := s.next()
		s.budget.fds(fds)
		switch err {
		case nil:
		case unix.EAGAIN:
			return 0
		default: // ENOMEM, ENOBUFS: what is queued stays, and is tried again
			return window
		}
	}
	return 0
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

// Drain delivers what is queued before it returns nil. It is for the moment at
// which a process has exited: what that had said counts, and comes before its
// end. It waits for a Receive that has begun, but no longer than ctx lasts, and
// not when the socket is closed; what it has not delivered then may still come.
// Before Start nothing is delivered.
func (s *Socket) Drain(ctx context.Context) error {
	if !s.receives() {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; n < drainMax && s.closer.pending() < manyFDs; n++ {
			if _, err := s.next(); err != nil {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-s.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// next takes one datagram and deals with it, when it is our turn, and says how many
// descriptors came with it. The error is recvmsg's, or that of a socket that is closed.
func (s *Socket) next() (fds int, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.gone:
		return 0, unix.EBADF
	}
	if !s.receives() {
		return 0, unix.EBADF
	}
	m, from, fds, dropped, err := s.receive()
	switch {
	case err != nil:
		return 0, err
	case dropped != nil:
		s.refuse(dropped, from)
	case !m.Barrier:
		s.deliver(m)
	}
	return fds, nil
}

// receive takes one datagram. It calls nobody: while it has the descriptor,
// Close cannot get rid of the socket.
func (s *Socket) receive() (m Message, from sender, n int, dropped, err error) {
	f := frames.Get().(*frame)
	defer frames.Put(f)
	var cn, flags int
	n, cn, flags, err = s.dequeue(f)
	if err != nil {
		return m, from, 0, nil, err
	}
	from, fds := unpack(f.control[:cn])
	m, dropped = s.judge(f.payload[:n], flags, from, fds)
	if from.pidfd >= 0 {
		unix.Close(from.pidfd)
	}
	s.closer.close(fds)
	return m, from, len(fds), dropped, nil
}

// dequeue receives from the port that has been there longest, and lets go of a former
// one that is empty.
func (s *Socket) dequeue(f *frame) (n, cn, flags int, err error) {
	for {
		p, last := s.port()
		if e := p.raw.Control(func(fd uintptr) { n, cn, flags, err = recvmsg(int(fd), f) }); e != nil {
			err = unix.EBADF
		}
		if last || err != unix.EAGAIN {
			return n, cn, flags, err
		}
		s.retire(p)
	}
}

func (s *Socket) deliver(m Message) {
	s.mu.Lock()
	for _, key := range m.Later {
		s.dropped[key]++
	}
	s.mu.Unlock()
	if m.Fields > 0 && s.o.Receive != nil {
		s.o.Receive(m)
	}
}

// judge says what a datagram is, or why it is dropped as a whole.
func (s *Socket) judge(payload []byte, flags int, from sender, fds []int) (Message, error) {
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

// unpack finds the sender and its descriptors. The kernel writes whole control
// messages, those about the sender first; nothing here is the sender's.
func unpack(control []byte) (from sender, fds []int) {
	from.pidfd = -1
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if c, err := unix.ParseUnixCredentials(&m); err == nil {
				from.Ucred = *c
			}
		case unix.SCM_PIDFD: // as an int; negative: there is none
			if len(m.Data) >= 4 {
				from.pidfd = int(int32(binary.NativeEndian.Uint32(m.Data)))
			}
		case unix.SCM_RIGHTS:
			got, _ := unix.ParseUnixRights(&m)
			fds = append(fds, got...)
		}
	}
	return from, fds
}
