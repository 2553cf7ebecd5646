package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// grace is how long whoever removes things is left to it before they are made
// again, so that rm -r comes to its end.
const grace = 200 * time.Millisecond

// A watch learns by inotify(7) that something was removed. It wakes up for nothing
// else, but for what others do in the directory above.
type watch struct {
	s    *Store
	file *os.File
	fd   int
	over chan struct{}

	mu sync.Mutex
	at map[int]place // by watch descriptor
}

// A place is a directory that is watched.
type place int

const (
	above  place = iota // the nearest one above that is there
	itself              // the runtime directory
	states              // of the values
	others              // what else is in it
)

const (
	gone = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR
	come = unix.IN_CREATE | unix.IN_MOVED_TO
	self = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF // where the one above cannot be read
)

// Watch calls lost, from a goroutine of its own, soon after something was removed
// from the runtime directory, or after a call of the store had to make it again. It
// must not wait. What it should do is [Store.Mend], and the same for what others
// have put there. They may have removed it themselves: that is not told apart. stop
// ends it. An error means that only the store's own calls notice all that is missing;
// stop is to be called all the same.
func (s *Store) Watch(lost func()) (stop func(), err error) {
	s.lost.Store(&lost)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return func() {}, fmt.Errorf("cannot watch %s: %w", s.runtime.Path(), err)
	}
	w := &watch{s: s, file: os.NewFile(uintptr(fd), "inotify"), fd: fd, over: make(chan struct{}), at: map[int]place{}}
	s.watch.Store(w)
	if err = cmp.Or(pollable(w.file), w.arm()); err != nil {
		err = fmt.Errorf("cannot watch %s: %w", s.runtime.Path(), err)
	}
	go w.read(lost)
	return w.stop, err
}

// pollable says why nobody would learn of what can be read.
func pollable(f *os.File) error {
	if f.SetReadDeadline(time.Time{}) != nil {
		return errors.New("the kernel watches no more files for us (fs.epoll.max_user_watches)")
	}
	return nil
}

func (w *watch) stop() {
	w.s.watch.Store(nil)
	w.mu.Lock() // nobody arms it
	w.file.Close()
	w.fd = -1
	w.mu.Unlock()
	<-w.over
}

// arm is for a directory that may be another one now.
func (s *Store) arm() {
	if w := s.watch.Load(); w != nil {
		w.arm()
	}
}

// arm watches the directories that are there now, and no others. The error is what
// it could not watch.
func (w *watch) arm() (failed error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return nil
	}
	at := map[int]place{}
	add := func(path string, p place, mask uint32) error {
		wd, err := unix.InotifyAddWatch(w.fd, path, mask)
		if err == nil {
			at[wd] = p
		}
		return err
	}
	failed = w.armAbove(add)
	for _, x := range w.s.inIt() {
		// In that of the values a rename is how they get there.
		p, mask := states, uint32(unix.IN_DELETE|unix.IN_ONLYDIR)
		if x.dir != w.s.state {
			p, mask = others, gone
		}
		failed = errors.Join(failed, add(inode(x.dir.FD()), p, mask))
	}
	failed = errors.Join(failed, add(inode(w.s.runtime.FD()), itself, gone|self))
	for wd := range w.at {
		if _, still := at[wd]; !still {
			unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
	w.at = at
	return failed
}

// armAbove watches the nearest directory above that is there. One that cannot be read
// cannot be watched; then the one above that is better than nothing.
func (w *watch) armAbove(add func(string, place, uint32) error) (err error) {
	for dir := filepath.Dir(w.s.runtime.Path()); ; dir = filepath.Dir(dir) {
		if err = add(dir, above, gone|come); err == nil || err == unix.ENOSPC || dir == "/" {
			return err
		}
	}
}

func inode(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// read tells lost of what was removed, when the time of grace is over.
func (w *watch) read(lost func()) {
	defer close(w.over)
	var events [4096]byte
	waiting := false
	for {
		n, err := w.file.Read(events[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && waiting:
			waiting = false
			w.file.SetReadDeadline(time.Time{})
			w.arm()
			lost()
		case err != nil:
			return
		case !waiting && w.concern(events[:n]):
			waiting = true
			w.file.SetReadDeadline(time.Now().Add(grace))
		}
	}
}

// concern says whether events tell of something that is missing now.
func (w *watch) concern(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:end]), "\x00")
		if w.concerns(int(e.Wd), e.Mask, name) {
			return true
		}
		events = events[end:]
	}
	return false
}

func (w *watch) concerns(wd int, mask uint32, name string) bool {
	w.mu.Lock()
	at, known := w.at[wd]
	w.mu.Unlock()
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		return true
	case !known || mask&unix.IN_IGNORED != 0:
		return false
	case at == above:
		return !w.s.isWhole()
	case at == states:
		key, ok := strings.CutSuffix(name, suffix)
		_, put := w.s.remembered(key)
		return ok && put
	}
	return true
}
