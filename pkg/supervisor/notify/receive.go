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
// What has to be stored stays in the socket until it is.
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
	p, d, err := s.look()
	if err != nil {
		return 0, err
	}
	if d.lasts {
		return s.store(p, d)
	}
	if d, err = s.take(p); err == nil {
		s.deal(d)
	}
	return d.fds, err
}

// store delivers a datagram that is still in the socket, and takes it out when it is
// stored.
func (s *Socket) store(p *port, d datagram) (fds int, err error) {
	if stored := s.deal(d); !s.await(stored) {
		return d.fds, unix.EBADF
	}
	taken, err := s.take(p)
	return d.fds + taken.fds, err
}

// A datagram is one that was looked at, or received.
type datagram struct {
	m       Message
	from    sender
	dropped error // why it does not count
	fds     int   // how many descriptors came with it
	lasts   bool  // see [Message.lasts]
}

// look peeks at the next datagram, and says which port has it. A peek makes
// descriptors of its own of those that were sent, so it has no room for any, except
// where only a pidfd tells who the sender is.
func (s *Socket) look() (p *port, d datagram, err error) {
	f := frames.Get().(*frame)
	defer frames.Put(f)
	var n, cn int
	if p, n, cn, err = s.peek(f, aboutSender); err != nil {
		return p, d, err
	}
	d.m, d.dropped = Parse(f.payload[:n])
	d.from, _ = unpack(f.control[:cn])
	if d.dropped != nil || !d.m.lasts() {
		return p, d, nil
	}
	if s.o.Open && !s.knows(d.from) {
		if p, n, cn, err = s.peek(f, len(f.control)); err != nil {
			return p, d, err
		}
	}
	d = s.datagram(f, n, cn, 0)
	d.lasts = true
	return p, d, nil
}

// aboutSender is as much control data as SCM_CREDENTIALS take.
var aboutSender = unix.CmsgSpace(unix.SizeofUcred)

// take receives the datagram at which we have looked. That a port was closed meanwhile
// is no error: what it had is gone.
func (s *Socket) take(p *port) (d datagram, err error) {
	f := frames.Get().(*frame)
	defer frames.Put(f)
	n, cn, flags, err := p.receive(f, len(f.control), 0)
	if err == unix.EBADF && s.receives() {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	return s.datagram(f, n, cn, flags), nil
}

// datagram makes one of what was received, and closes what came with it. It calls
// nobody.
func (s *Socket) datagram(f *frame, n, cn, flags int) (d datagram) {
	from, fds := unpack(f.control[:cn])
	d.from, d.fds = from, len(fds)
	d.m, d.dropped = s.judge(f.payload[:n], flags, from, fds)
	if from.pidfd >= 0 {
		unix.Close(from.pidfd)
	}
	s.closer.close(fds)
	return d
}

// peek looks into the port that has been there longest, and lets go of a former one
// that is empty.
func (s *Socket) peek(f *frame, control int) (p *port, n, cn int, err error) {
	for {
		p, last := s.port()
		n, cn, _, err = p.receive(f, control, unix.MSG_PEEK)
		if last || err != unix.EAGAIN {
			return p, n, cn, err
		}
		s.retire(p)
	}
}

// receive is recvmsg(2) with so much room for control data. While it has the
// descriptor, Close cannot get rid of the socket.
func (p *port) receive(f *frame, control, flags int) (n, cn, got int, err error) {
	if e := p.raw.Control(func(fd uintptr) { n, cn, got, err = recvmsg(int(fd), f.payload[:], f.control[:control], flags) }); e != nil {
		err = unix.EBADF
	}
	return n, cn, got, err
}

// deal delivers a datagram or refuses it, and returns what is closed when it may be
// taken; nil: now.
func (s *Socket) deal(d datagram) (stored <-chan struct{}) {
	switch {
	case d.dropped != nil:
		s.refuse(d.dropped, d.from)
	case !d.m.Barrier:
		return s.deliver(d.m)
	}
	return nil
}

func (s *Socket) deliver(m Message) (stored <-chan struct{}) {
	s.mu.Lock()
	for _, key := range m.Later {
		s.dropped[key]++
	}
	s.mu.Unlock()
	if m.Fields == 0 || s.o.Receive == nil {
		return nil
	}
	if !m.lasts() {
		s.o.Receive(m, func() {})
		return nil
	}
	done := make(chan struct{})
	s.o.Receive(m, sync.OnceFunc(func() { close(done) }))
	return done
}

// await says whether what was delivered is stored; false: the socket is closed, so it
// stays where it is.
func (s *Socket) await(stored <-chan struct{}) bool {
	if stored == nil {
		return true
	}
	select {
	case <-stored:
		return true
	case <-s.gone:
		return false
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

func recvmsg(fd int, payload, control []byte, flags int) (n, cn, got int, err error) {
	for {
		n, cn, got, _, err = unix.Recvmsg(fd, payload, control, flags|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			return n, cn, got, err
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
