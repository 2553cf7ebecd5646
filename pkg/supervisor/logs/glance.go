package logs

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// A private is a pipe of our own, whose ends do not block.
type private struct{ r, w int }

func newPrivate() (p private, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return private{-1, -1}, err
	}
	return private{fds[0], fds[1]}, nil
}

func (p private) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// spares are empty private pipes: a stream has one only while it looks.
var spares = make(chan private, 4)

func borrow() (private, error) {
	select {
	case p := <-spares:
		return p, nil
	default:
		return newPrivate()
	}
}

func (p private) giveBack() {
	select {
	case spares <- p:
	default:
		p.close()
	}
}

// errBlind says that a pipe can be read, and not looked into.
var errBlind = errors.New("a pipe cannot be looked into")

// glance copies what a pipe begins with and leaves it there (tee(2)). The error is
// EAGAIN when there is nothing; 0 bytes: nor will there be.
func glance(fd int, b []byte) (n int, err error) {
	p, err := borrow()
	if err != nil {
		return 0, errBlind
	}
	n, err = tee(fd, p.w, len(b))
	if err != nil || n == 0 {
		p.giveBack()
		return n, err
	}
	if got := readAll(p.r, b[:n]); got < n {
		p.close()
		return 0, errBlind
	}
	p.giveBack()
	return n, nil
}

func tee(from, to, size int) (int, error) {
	for {
		n, err := unix.Tee(from, to, size, unix.SPLICE_F_NONBLOCK)
		switch err {
		case nil, unix.EAGAIN:
			return int(n), err
		case unix.EINTR:
		default: // this kernel cannot, or has no memory
			return 0, errBlind
		}
	}
}

// readAll reads what is there, as much as b has room for.
func readAll(fd int, b []byte) (n int) {
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if m <= 0 || err != nil {
			break
		}
		n += m
	}
	return n
}

// A view is what a pipe began with, read or looked at, after the beginning of a line
// that was read before.
type view struct {
	buffer *[64 << 10]byte
	n      int
	peeked bool // it is still in the pipe
	more   bool // there is no end of a line in it, and more cannot be seen
}

func (v view) text() []byte { return v.buffer[:v.n] }

// cut is how much of it is passed on now: whole lines, and what is too long to wait for
// its end.
func (v view) cut() int {
	cut := wholeLines(v.text())
	switch {
	case v.peeked && cut > 0: // the rest is seen again, with more of it
	case v.n-cut >= MaxLine || v.more:
		return v.n
	}
	return cut
}

// look takes what the pipe holds, or only looks where the files are to get it from the
// pipe itself. EAGAIN: there is nothing new; no bytes: nor will there be.
func (st *Stream) look(fd int) (v view, err error) {
	if st.partial == nil && st.sink.splices.Load() {
		if v, err = st.peek(fd); err != errBlind {
			return v, err
		}
	}
	v, err = st.read(fd)
	if err == nil {
		st.seen = 0
	}
	return v, err
}

func (st *Stream) peek(fd int) (v view, err error) {
	if st.seen > 0 && holds(fd) <= st.seen {
		if readable, gone := polled(fd); !readable || !gone {
			return v, unix.EAGAIN
		}
		return v, nil // nobody will write the rest of the line
	}
	v = view{buffer: buffers.Get().(*[64 << 10]byte), peeked: true}
	if v.n, err = glance(fd, v.buffer[:]); err != nil || v.n == 0 {
		buffers.Put(v.buffer)
		return view{}, err
	}
	if bytes.IndexByte(v.text(), '\n') < 0 {
		v.more = holds(fd) > v.n || st.full(fd, v.n)
	}
	return v, nil
}

// full says whether a pipe that has n bytes takes no more. A small one, which the kernel
// gives to users who have many, is full before a line has its end.
func (st *Stream) full(fd, n int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.end >= 0 {
		poll := []unix.PollFd{{Fd: int32(st.end), Events: unix.POLLOUT}}
		unix.Poll(poll, 0)
		return poll[0].Revents&unix.POLLOUT == 0
	}
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return err == nil && n >= size/2 // as its pages are filled, that is the least
}

// holds is how many bytes a pipe has (FIONREAD in pipe(7)).
func holds(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// polled says whether something can be read from a pipe, and whether nobody is left
// who could write to it.
func polled(fd int) (readable, gone bool) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	unix.Poll(poll, 0)
	return poll[0].Revents&unix.POLLIN != 0, poll[0].Revents&unix.POLLHUP != 0
}
