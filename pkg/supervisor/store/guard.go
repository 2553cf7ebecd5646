package store

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A guard is what keeps others out between the moment when somebody removes the
// runtime directory, with the lock in it, and the moment when it is made again. It
// is an abstract unix socket (unix(7)), so there is nothing that could be removed.
//
// Anybody can take its name, but only somebody who could do us harm anyway is
// believed: root and our own user. It holds within a network namespace; the lock is
// what holds everywhere.
type guard struct{ fd int }

// newGuard takes the name that stands for an entry of a directory: paths can be
// the same in two containers, inodes are not. Without the name there is no guard,
// but if it belongs to another supervisord the error is a [*LockedError].
func newGuard(path string) (*guard, error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &st); err != nil {
		return nil, nil
	}
	name := fmt.Sprintf("@supervisord/%x/%x/%.60s", st.Dev, st.Ino, filepath.Base(path))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		err = unix.Listen(fd, maxAskers)
	}
	if err == nil {
		return &guard{fd}, nil
	}
	unix.Close(fd)
	if pid, ok := guardian(name); ok {
		return nil, &LockedError{Path: path, PID: pid}
	}
	return nil, nil
}

// maxAskers is how many may have asked who we are since we last hung up on them.
const maxAskers = 4096

// hangUp makes room for more to ask.
func (g *guard) hangUp() {
	if g == nil {
		return
	}
	for {
		fd, _, err := unix.Accept4(g.fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		unix.Close(fd)
	}
}

func (g *guard) close() {
	if g != nil {
		unix.Close(g.fd)
	}
}

// guardian is the process that has a guard's name, if that is to be believed.
func guardian(name string) (pid int, ok bool) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return 0, false
	}
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || u.Uid != 0 && int(u.Uid) != os.Geteuid() {
		return 0, false
	}
	return int(u.Pid), true
}
