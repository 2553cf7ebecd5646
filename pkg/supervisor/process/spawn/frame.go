package spawn

import (
	"syscall"
	"unsafe"
)

// A Frame is what a child answers.
type Frame struct {
	Kind  Kind
	Index uint32 // of the op, see Program.Label
	Value uint64
	Errno uint32
	Round uint32 // of the program, from 1 on; Born has none
}

// A Kind says what a frame tells.
type Kind uint32

// The kinds of frames.
const (
	Born   Kind = 1 + iota // the child is there, in a session of its own
	Exec                   // all is done but execve: if nothing follows, the program runs
	Failed                 // the op failed with Errno, and the child ends
	Warned                 // something is not as it should be, because of Errno; Value is how it is
	Read                   // a file was read; Value is its size
)

// Hear takes the next frame, or syscall.EAGAIN where there is none yet. ok is false
// at the end: the child has become its program, or is dead.
func Hear(control int) (f Frame, ok bool, err error) { return next(control, 0) }

// Look is Hear that leaves the frame where it is. After [Rewind] it is seen again, by
// us or by another process that has the socket: so a socket of which nobody hears tells
// all that its child ever said.
func Look(control int) (f Frame, ok bool, err error) { return next(control, syscall.MSG_PEEK) }

// Rewind has Look begin with the first frame that nobody has heard. It must come before
// the first Look.
func Rewind(control int) error {
	const peekOffset = 42 // SO_PEEK_OFF, socket(7)
	return syscall.SetsockoptInt(control, syscall.SOL_SOCKET, peekOffset, 0)
}

func next(control, flags int) (f Frame, ok bool, err error) {
	var message [frameSize + 1]byte // one that is longer shows
	n, err := receive(control, message[:], flags)
	if err == syscall.ECONNRESET { // told once, before what a child has said that left a program unread
		n, err = receive(control, message[:], flags)
	}
	switch {
	case err != nil:
		return Frame{}, false, err
	case n == 0:
		return Frame{}, false, nil
	case n != int(frameSize):
		return Frame{}, false, syscall.EBADMSG
	}
	copy(bytesOf(&f), message[:])
	return f, true, nil
}

func receive(socket int, into []byte, flags int) (n int, err error) {
	err = retry(func() (err error) {
		n, _, err = syscall.Recvfrom(socket, into, flags)
		return err
	})
	return n, err
}

// Tell sends a child a program. It does not wait; syscall.EPIPE says that the child
// is dead.
func Tell(control int, p *Program) error {
	const atOnce = 32 << 10 // a message of any size that a socket takes is copied once more
	if len(p.message) <= atOnce {
		err := retry(func() error { return syscall.Sendmsg(control, p.message, nil, nil, syscall.MSG_NOSIGNAL) })
		if err != syscall.EMSGSIZE { // it is larger than the socket's buffer
			return err
		}
	}
	fd, err := Sealed(p.message)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	head := p.message[:headerSize]
	return retry(func() error {
		return syscall.Sendmsg(control, head, syscall.UnixRights(fd), nil, syscall.MSG_NOSIGNAL)
	})
}

// Memory returns a file without a name (memfd_create(2)) of size bytes, which stay
// as many. A child can have it for what it reads.
func Memory(size int) (fd int, err error) {
	if fd, err = memfd(); err != nil {
		return -1, err
	}
	if err = retry(func() error { return syscall.Ftruncate(fd, int64(size)) }); err == nil {
		err = seal(fd, sealShrink|sealGrow|sealSeal)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Sealed puts text into a file without a name that nobody can change any more. The
// caller closes it.
func Sealed(text []byte) (fd int, err error) {
	if fd, err = memfd(); err != nil {
		return -1, err
	}
	for done := 0; done < len(text) && err == nil; {
		var n int
		err = retry(func() (err error) {
			n, err = syscall.Pwrite(fd, text[done:], int64(done))
			return err
		})
		done += n
	}
	if err == nil {
		err = seal(fd, sealWrite|sealShrink|sealGrow|sealSeal)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// See fcntl(2), File Sealing.
const (
	addSeals   = 1033
	sealSeal   = 1
	sealShrink = 2
	sealGrow   = 4
	sealWrite  = 8
)

func seal(fd, seals int) error {
	_, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), addSeals, uintptr(seals))
	return errorOf(e)
}

func memfd() (fd int, err error) {
	const closeOnExec, allowSealing, noExec = 1, 2, 8
	name := [...]byte{'s', 't', 'a', 'r', 't', 0}
	create := func(flags uintptr) (uintptr, error) {
		n, _, e := syscall.Syscall(sysMemfdCreate, uintptr(unsafe.Pointer(&name)), flags, 0)
		return n, errorOf(e)
	}
	n, err := create(closeOnExec | allowSealing | noExec) // a machine may insist on noExec
	if err == syscall.EINVAL {                            // before Linux 6.3
		n, err = create(closeOnExec | allowSealing)
	}
	if err != nil {
		return -1, err
	}
	return int(n), nil
}

func errorOf(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}
