package keeper

import (
	"golang.org/x/sys/unix"
)

// A line is a pair of SOCK_SEQPACKET sockets, of which nobody waits in the kernel.
func newLine() (ours, theirs int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return p[0], p[1], err
}

// send sends a message whole, or returns EAGAIN; ETOOMANYREFS: too many files of our
// user are on their way (unix(7)), so it may be sent later.
func send(fd int, m *message) error {
	b := m.encode()
	if len(b) > maxMessage {
		return unix.EMSGSIZE
	}
	var rights []byte
	if len(m.files) > 0 {
		rights = unix.UnixRights(m.files...)
	}
	return again(func() error { return unix.Sendmsg(fd, b, rights, nil, unix.MSG_NOSIGNAL) })
}

// A receiver has the room for messages.
type receiver struct {
	data   []byte
	rights []byte
	refuse func(fds ...int) // closes what comes with no message
}

// receive returns the next message, whose files are the caller's and close-on-exec.
// EAGAIN: there is none; EPIPE: there will be none; EMFILE: with the message, of
// whose files some could not be received, and the others are closed.
func (r *receiver) receive(fd int) (m message, err error) {
	const kernelMost = 253
	if r.data == nil {
		r.data, r.rights = make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*kernelMost))
	}
	var n, nr, flags int
	err = again(func() (err error) {
		n, nr, flags, _, err = unix.Recvmsg(fd, r.data, r.rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return message{}, ending(err)
	}
	files := filesIn(r.rights[:nr])
	switch {
	case n == 0:
		err = unix.EPIPE
	case flags&unix.MSG_TRUNC != 0:
		err = errBroken
	default:
		m, err = decode(r.data[:n])
	}
	if err == nil && len(files) > verbs[m.verb].files {
		err = errBroken
	}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = unix.EMFILE
	}
	if err != nil {
		r.refuse(files...)
		return m, err
	}
	m.files = files
	return m, nil
}

// ending is EPIPE for each error that says so.
func ending(err error) error {
	if err == unix.ECONNRESET {
		return unix.EPIPE
	}
	return err
}

func filesIn(rights []byte) (files []int) {
	parts, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	for i := range parts {
		if got, err := unix.ParseUnixRights(&parts[i]); err == nil {
			files = append(files, got...)
		}
	}
	return files
}

func closeAll(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
