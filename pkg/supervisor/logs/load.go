package logs

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A load is the bytes of a chunk that are still in the pipe of its stream, at the front
// of it: a stream looks at no more before they are gone. The keeper moves them. If it
// does not get to that, since the disk hangs, the stream takes them out itself, and the
// chunk's text is all there is; it is lost if supervisord is killed before it is
// written.
//
// A worker can hold up whoever touches its pipe, so nobody does that under a lock.
type load struct {
	raw   syscall.RawConn
	moved chan struct{} // closed when none of it is in the pipe, or nobody gets it from there

	mu    sync.Mutex // held for moments
	left  int        // bytes in the pipe
	busy  bool       // the keeper moves them
	aside bool       // the keeper waits for the end of another stream's line
	taken bool       // by the stream
}

func newLoad(raw syscall.RawConn, n int) *load {
	return &load{raw: raw, left: n, moved: make(chan struct{})}
}

// errTaken says that the bytes of a load are not in the pipe.
var errTaken = errors.New("they were taken out of the pipe")

// move has f take at most n bytes, and returns what it did. It is for the keeper, which
// lets another service's have its place among the writers meanwhile.
func (l *load) move(n int, f func(fd, n int) (int, error)) (m int, err error) {
	if !l.begin() {
		return 0, errTaken
	}
	<-writers
	defer func() { writers <- struct{}{} }()
	e := l.raw.Control(func(fd uintptr) { m, err = f(int(fd), n) })
	l.end(max(m, 0))
	if e != nil {
		err = errTaken
	}
	return max(m, 0), err
}

func (l *load) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy, l.aside = !l.taken && l.left > 0, false
	return l.busy
}

func (l *load) end(moved int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	if l.left -= moved; l.left <= 0 {
		close(l.moved)
	}
}

// drop takes n bytes out of the pipe, for nobody.
func (l *load) drop(n int) {
	for n > 0 {
		m, err := l.move(n, discard)
		if m == 0 || err != nil {
			l.give(n)
			return
		}
		n -= m
	}
}

// give ends the load as if n bytes had been moved: they are not there, as somebody else
// reads the pipe, or they cannot be had.
func (l *load) give(n int) {
	if l.begin() {
		l.end(n)
	}
}

// putAside: the keeper has it, and is well.
func (l *load) putAside() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside = true
}

func (l *load) isAside() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aside
}

// take has the stream take the bytes, as the keeper does not. It is told how many.
func (l *load) take() (n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.aside || l.left <= 0 {
		return 0, false
	}
	l.taken = true
	return l.left, true
}

// discard reads at most n bytes from a pipe.
func discard(fd, n int) (int, error) {
	b := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(b)
	for {
		m, err := unix.Read(fd, b[:min(n, len(b))])
		if err != unix.EINTR {
			return m, err
		}
	}
}
