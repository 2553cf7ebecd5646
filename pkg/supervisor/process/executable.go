package process

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// An Executable is a handle on a program's file: it stays that file when the path
// gets another. It is no copy: who may write to the file changes what it holds,
// see Moved.
type Executable struct {
	path string
	was  unix.Stat_t // when it was opened

	mu sync.Mutex
	fd int // O_PATH; -1: closed
}

// openFile opens the file at path without touching what it holds: it may be a
// FIFO or a device.
func openFile(path string) (*Executable, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	e := &Executable{path: path, fd: fd}
	if err := unix.Fstat(fd, &e.was); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Path is where the file was found.
func (e *Executable) Path() string { return e.path }

// Moved says whether the file itself has changed since it was opened: its size,
// its modification or its change time. That it was renamed or unlinked changes
// the latter as well.
func (e *Executable) Moved() bool {
	var now unix.Stat_t
	if e.with(func(fd int) error { return unix.Fstat(fd, &now) }) != nil {
		return true
	}
	return now.Size != e.was.Size || now.Mtim != e.was.Mtim || now.Ctim != e.was.Ctim
}

// Differs says whether the file at path is another one, or none.
func (e *Executable) Differs(path string) bool {
	var now unix.Stat_t
	_, err := retry(func() (int, error) { return 0, unix.Stat(path, &now) })
	return err != nil || now.Dev != e.was.Dev || now.Ino != e.was.Ino
}

// Close releases the handle. What runs goes on.
func (e *Executable) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return nil
	}
	fd := e.fd
	e.fd = -1
	return unix.Close(fd)
}

// duplicate returns a second handle, or nil if that cannot be.
func (e *Executable) duplicate() *Executable {
	d := &Executable{path: e.path, was: e.was, fd: -1}
	err := e.with(func(fd int) (err error) {
		d.fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstHigh)
		return err
	})
	if err != nil {
		return nil
	}
	return d
}

// with lends the fd to a call that does not wait.
func (e *Executable) with(use func(fd int) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return fmt.Errorf("cannot use %s: %w", e.path, unix.EBADF)
	}
	return use(e.fd)
}

func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}
