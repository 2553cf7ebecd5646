package socket

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Marks are what inotify(7) watches for unix paths: the inode of each socket, which
// hears when its name is removed, replaced or changed, and its directory, which hears
// only that it is moved itself. So what else goes on in a busy directory wakes nobody.
// Inodes are named by descriptors that we have: no path is looked up again.
//
// To add a mark may wait for a file system, so it is done under no lock; to remove
// one does not.
type marks struct {
	file    *os.File // the instance; nil: not begun
	fd      int
	of      map[int]*marked        // by descriptor of the socket
	by      map[int32]map[int]bool // sockets by watch descriptor; several lie in one directory
	err     error                  // why there is no instance
	removed int                    // counts removals: what is added meanwhile may be gone
}

// marked is a path that is watched, or will be when there is an instance.
type marked struct {
	name  string // the unit
	begun bool
	err   error // why the socket's inode and its directory are not watched
}

func newMarks() marks {
	return marks{fd: -1, of: map[int]*marked{}, by: map[int32]map[int]bool{}}
}

const (
	socketMark    = unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
	directoryMark = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR | unix.IN_MASK_ADD
	// Where a socket's mode forbids us to read it, it cannot be marked itself.
	entriesMark = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | directoryMark
)

// startMarks begins, once. What was bound before is marked by an audit, under the op
// lock of its unit. Without an instance events alone tell.
func (w *watch) startMarks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.marks.file != nil || w.ended {
		return
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		w.marks.err = fmt.Errorf("cannot use inotify: %w", err)
		return
	}
	file := os.NewFile(uintptr(fd), "inotify")
	if err := pollable(file); err != nil {
		file.Close()
		w.marks.err = fmt.Errorf("cannot use inotify: %w", err)
		return
	}
	w.marks.fd, w.marks.file, w.marks.err = fd, file, nil
	w.work.Go(func() { w.listenToMarks(file) })
	for _, m := range w.marks.of {
		w.soon(m.name, pause)
	}
}

// mark watches the path of a socket until drop. It needs op, and does nothing for one
// that is watched. What became of the path before is not told, so it is looked at once.
func (w *watch) mark(name string, fd int, p *place) {
	w.mu.Lock()
	m, there := w.marks.of[fd]
	if !there {
		m = &marked{name: name}
		w.marks.of[fd] = m
	}
	begun := w.marks.file != nil && !m.begun
	m.begun = m.begun || begun
	w.mu.Unlock()
	if !begun {
		return
	}
	err := w.point(fd, m, p.node, socketMark)
	if err != nil {
		err = w.point(fd, m, p.dir.FD(), entriesMark)
	}
	w.point(fd, m, p.dir.FD(), directoryMark)
	lost := p.leads() != here
	w.mu.Lock()
	defer w.mu.Unlock()
	m.err = err
	if lost {
		w.soon(name, pause)
	}
}

// unwatched says why the path of a socket is not watched; nil: it is, or has none.
func (w *watch) unwatched(fd int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.marks.of[fd]
	if m == nil {
		return nil
	}
	return cmp.Or(m.err, w.marks.err)
}

// point has one inode watched. Where somebody removed a mark
// meanwhile it may have been this one, of a directory that both have, so it is added
// again.
func (w *watch) point(fd int, m *marked, inode int, events uint32) error {
	for {
		w.mu.Lock()
		file, before := w.marks.file, w.marks.removed
		w.mu.Unlock()
		if file == nil {
			return os.ErrClosed
		}
		wd, err := addMark(file, inode, events)
		w.mu.Lock()
		done := err != nil || w.marks.removed == before
		if err == nil && done && w.marks.of[fd] == m {
			w.marks.add(int32(wd), fd)
		}
		w.mu.Unlock()
		if done {
			if err != nil {
				return fmt.Errorf("cannot use inotify: %w", err)
			}
			return nil
		}
	}
}

// addMark keeps the instance open meanwhile.
func addMark(file *os.File, inode int, events uint32) (wd int, err error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), procFD(inode), events) })
	if failed != nil {
		return -1, failed
	}
	return wd, err
}

func (m *marks) add(wd int32, fd int) {
	if m.by[wd] == nil {
		m.by[wd] = map[int]bool{}
	}
	m.by[wd][fd] = true
}

// drop must come before what is marked is closed.
func (m *marks) drop(fd int) {
	if _, ok := m.of[fd]; !ok {
		return
	}
	delete(m.of, fd)
	m.removed++
	for wd, fds := range m.by {
		delete(fds, fd)
		if len(fds) == 0 {
			delete(m.by, wd)
			unix.InotifyRmWatch(m.fd, uint32(wd))
		}
	}
}

func (m *marks) close() {
	if m.file != nil {
		m.file.Close()
		m.file, m.fd = nil, -1
	}
}

// listenToMarks ends when the instance is closed.
func (w *watch) listenToMarks(from *os.File) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		w.heed(b[:n])
	}
}

// heed has the units audited that events are about; all if some were lost. Not at
// once: whoever removes a whole directory should find it empty in the end.
func (w *watch) heed(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd, events := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		if events&unix.IN_Q_OVERFLOW != 0 {
			for _, m := range w.marks.of {
				w.soon(m.name, pause)
			}
		}
		for fd := range w.marks.by[wd] {
			w.soon(w.marks.of[fd].name, pause)
		}
		if events&unix.IN_IGNORED != 0 {
			delete(w.marks.by, wd)
		}
		b = b[min(len(b), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:]))):]
	}
}
