package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Populated says whether a process is in the cgroup or below it. One that has
// ended does not count, also before it is reaped. A cgroup that is gone has none.
func (g *Group) Populated() (bool, error) {
	e, err := g.Events()
	if err != nil {
		return false, err
	}
	defer e.Close()
	return e.populated()
}

// Frozen says whether no process in the cgroup would run: it, or one above it, is
// frozen. A cgroup that is gone is not.
func (g *Group) Frozen() (bool, error) {
	e, err := g.Events()
	if err != nil {
		return false, err
	}
	defer e.Close()
	text, err := e.text()
	return bytes.Contains(text, []byte("frozen 1\n")), err
}

// Events is the open cgroup.events of a cgroup.
type Events struct {
	path string
	file *os.File // in Go's poller; nil: the cgroup is gone
}

// Events opens what tells when the cgroup becomes empty; the caller closes it.
func (g *Group) Events() (*Events, error) {
	fd, err := unix.Open(filepath.Join(g.dir(), "cgroup.events"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENODEV {
		return &Events{path: g.path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch cgroup %s: %w", g.path, err)
	}
	return &Events{path: g.path, file: os.NewFile(uintptr(fd), "cgroup.events")}, nil
}

// WaitEmpty returns when the cgroup is empty. It parks a goroutine, and no
// thread: the kernel wakes Go's poller when the file changes.
func (e *Events) WaitEmpty() error {
	if e.file == nil {
		return nil
	}
	conn, err := e.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		populated, err := e.populated()
		failed = err
		return err != nil || !populated
	})
	return errors.Join(failed, err)
}

// Close releases the file. It ends no WaitEmpty with success.
func (e *Events) Close() error {
	if e.file == nil {
		return nil
	}
	return e.file.Close()
}

func (e *Events) populated() (bool, error) {
	text, err := e.text()
	return text != nil && !bytes.Contains(text, []byte("populated 0\n")), err
}

// text is what the file says now; nil: the cgroup is gone.
func (e *Events) text() ([]byte, error) {
	if e.file == nil {
		return nil, nil
	}
	buf := make([]byte, 256)
	n, err := readAt(e.file, buf)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the events of cgroup %s: %w", e.path, cause(err))
	}
	return buf[:n], nil
}

// readAt reads from the beginning, with no regard to what Go's poller thinks of
// the file: it may be called from within conn.Read.
func readAt(f *os.File, buf []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := conn.Control(func(fd uintptr) {
		for {
			if n, err = unix.Pread(int(fd), buf, 0); err != unix.EINTR {
				return
			}
		}
	})
	return n, errors.Join(err, controlErr)
}
