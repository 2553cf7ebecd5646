package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Stream is the output of one invocation, on its way from the pipe to the
// sink. All methods are safe for use by several goroutines.
type Stream struct {
	sink  *Sink
	meta  Meta // without the pid, see by
	pid   atomic.Int64
	inode uint64
	file  *os.File // the read end
	raw   syscall.RawConn
	done  chan struct{} // closed when nothing more will come
	stop  sync.Once
	leave atomic.Bool // what is in the pipe stays there

	mu     sync.Mutex
	end    int    // the write end; -1: closed
	ended  bool   // by Finish
	forget func() // the pipe is kept; nil: it is not

	// Of its goroutine:
	partial []byte        // the beginning of a line, out of the pipe
	seen    int           // the length of one that is in the pipe
	late    bool          // either is passed on when due has come
	due     time.Time     // see late
	nap     time.Duration // see lookAgain
	held    []byte        // the same as it is to be shown, where only lines are

	tail tail // guarded by sink.mu
}

// Stream makes the pipe of an invocation and begins to read it. The pipe
// belongs to uid and gid, or the worker could not open /dev/stdout; -1 leaves it
// ours. The caller must call [Stream.CloseWriteEnd] when the worker has its
// copy, and [Stream.Finish] when the invocation is over or never came to be.
func (s *Sink) Stream(m Meta, uid, gid int) (*Stream, error) {
	r, w, err := pipe(uid, gid)
	if err != nil {
		return nil, fmt.Errorf("cannot make the output pipe of %s: %w", s.service, err)
	}
	st, err := s.stream(m, r, w)
	if err == nil {
		go st.copy()
	}
	return st, err
}

// stream is one on a pipe, which it closes with an error.
func (s *Sink) stream(m Meta, r, w int) (*Stream, error) {
	st := &Stream{sink: s, meta: m, end: w, done: make(chan struct{})}
	st.Began(m.PID)
	err := st.take(os.NewFile(uintptr(r), "output of "+s.service))
	if err == nil {
		st.inode, err = inode(r)
	}
	if err == nil {
		err = s.begin(st)
	}
	if err != nil {
		st.file.Close()
		st.CloseWriteEnd()
		return nil, err
	}
	return st, nil
}

// take makes a file the read end.
func (st *Stream) take(file *os.File) (err error) {
	st.file = file
	if st.raw, err = file.SyscallConn(); err == nil && file.SetReadDeadline(time.Time{}) != nil {
		err = errUnwatched // nobody would learn that there is something to read
	}
	if err != nil {
		return fmt.Errorf("cannot read the output pipe of %s: %w", st.sink.service, err)
	}
	return nil
}

var errUnwatched = errors.New("the kernel watches no more files for us (fs.epoll.max_user_watches)")

// Began names the main process, before it runs its program and writes anything.
func (st *Stream) Began(pid int) { st.pid.Store(int64(pid)) }

// by is who writes to the stream.
func (st *Stream) by() Meta {
	m := st.meta
	m.PID = int(st.pid.Load())
	return m
}

// WriteEnd is a descriptor for the worker's stdout and stderr. It stays ours.
func (st *Stream) WriteEnd() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.end
}

// CloseWriteEnd closes our copy of the write end, unless the pipe is kept: then that is
// closed with all the rest.
func (st *Stream) CloseWriteEnd() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.end >= 0 && st.forget == nil {
		unix.Close(st.end)
		st.end = -1
	}
}

// Inode is the number of the pipe, by which its holders can be found in /proc.
func (st *Stream) Inode() uint64 { return st.inode }

// Tail is the end of what was written, at most [TailSize] bytes, from the
// beginning of a line if one begins there. It stays when the stream is over.
func (st *Stream) Tail() []byte {
	st.sink.mu.Lock()
	defer st.sink.mu.Unlock()
	return st.tail.bytes()
}

// Finish ends the stream: it reads what is in the pipe now and closes it. It is
// for the moment at which no process of the invocation is left, since whoever
// has the write end does not get a SIGPIPE but will wait for ever once the pipe
// is full.
func (st *Stream) Finish() {
	st.CloseWriteEnd()
	st.stop.Do(func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.ended = true
		st.file.SetReadDeadline(time.Unix(1, 0))
	})
	<-st.done
}

// wake has the goroutine look up at a time; zero: not before there is something to
// read. It says whether the stream is over, which the goroutine finds out anyway.
func (st *Stream) wake(t time.Time) (ended bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.ended {
		st.file.SetReadDeadline(t)
	}
	return st.ended
}

// abandon ends the stream and leaves in the pipe what is there.
func (st *Stream) abandon() {
	st.leave.Store(true)
	st.Finish()
}

// buffers are shared: a stream has one only while it reads.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// copy is the stream's goroutine. It sleeps in Go's poller until the pipe holds
// something. It ends with Finish, or when nobody has the write end any more.
func (st *Stream) copy() {
	defer close(st.done)
	for {
		var v view
		var err error
		gone := st.raw.Read(func(fd uintptr) bool {
			v, err = st.look(int(fd))
			return err != unix.EAGAIN
		})
		if errors.Is(gone, os.ErrDeadlineExceeded) && !st.wake(time.Time{}) {
			if !st.lookAgain() {
				st.flush(false)
			}
			continue
		}
		if gone != nil || err != nil || v.n == 0 {
			break
		}
		st.feed(v)
	}
	if !st.leave.Load() {
		st.drain()
	}
	st.flush(true)
	st.let()
	st.sink.end(st)
}

// read takes what the pipe holds, behind the partial line.
func (st *Stream) read(fd int) (v view, err error) {
	b := buffers.Get().(*[64 << 10]byte)
	copy(b[:], st.partial)
	n := 0
	for {
		n, err = unix.Read(fd, b[len(st.partial):])
		if err != unix.EINTR {
			break
		}
	}
	if err != nil || n == 0 {
		buffers.Put(b)
		return v, err
	}
	return view{buffer: b, n: len(st.partial) + n}, nil
}

// maxWait is how long a line is held back that has no end yet: it may be a prompt, or
// the last words of a program that hangs.
const maxWait = time.Second

// feed passes on what should not wait, and returns how much that was.
func (st *Stream) feed(v view) (cut int) {
	text := v.text()
	cut = v.cut()
	st.partial, st.seen = st.partial[:0], 0
	if v.peeked {
		st.seen = len(text) - cut
	} else {
		st.partial = append(st.partial, text[cut:]...)
	}
	if len(st.partial) == 0 {
		st.partial = nil
	}
	st.hurry(cut > 0)
	c := st.chunk(text[:cut], v.peeked)
	buffers.Put(v.buffer)
	st.pass(c)
	return cut
}

// hurry sees to it that the beginning of a line does not wait for ever; anew says that
// it is another than before.
func (st *Stream) hurry(anew bool) {
	begun := st.partial != nil || st.seen > 0
	switch {
	case !begun && st.late:
		st.late = false
		st.wake(time.Time{})
	case begun && (anew || !st.late):
		st.late = true
		st.due, st.nap = time.Now().Add(st.sink.hold), 0
		st.lookAgain()
	}
}

// maxNap is the longest time between two looks at a line without an end.
const maxNap = 64 * time.Millisecond

// lookAgain has the goroutine look up when due has come; false: it has. If there is a
// line in the pipe it looks before that, now and then: the kernel wakes nobody when a
// write finds the pipe neither empty nor with room for all of it, and waits.
func (st *Stream) lookAgain() bool {
	left := time.Until(st.due)
	if left <= 0 {
		return false
	}
	if st.seen > 0 {
		st.nap = min(max(2*st.nap, time.Millisecond), maxNap)
		left = min(left, st.nap)
	}
	st.wake(time.Now().Add(left))
	return true
}

func (st *Stream) chunk(text []byte, peeked bool) chunk {
	c := chunk{from: st, time: time.Now(), text: bytes.Clone(text), lines: countLines(text)}
	if peeked && len(text) > 0 {
		c.load = newLoad(st.raw, len(text))
	}
	return c
}

// pass hands a chunk on, and waits until its bytes are out of the pipe.
func (st *Stream) pass(c chunk) {
	if len(c.text) == 0 && !c.last {
		return
	}
	queued := st.sink.accept(c)
	switch {
	case c.load == nil:
	case queued:
		st.await(c.load)
	default:
		st.unload(c.load)
	}
}

// await waits until the keeper has moved a load. If the disk does not get on, it takes
// the load out of the pipe, as the worker shall not wait for longer.
func (st *Stream) await(l *load) {
	for st.sink.well(l) {
		select {
		case <-l.moved:
			return
		default:
		}
	}
	if !st.unload(l) {
		<-l.moved // the keeper has just come for it
	}
}

// unload takes a load out of the pipe, unless the keeper has it in hand.
func (st *Stream) unload(l *load) bool {
	n, ok := l.take()
	for ok && n > 0 {
		var m int
		st.raw.Control(func(fd uintptr) { m, _ = discard(int(fd), n) })
		if m <= 0 {
			break
		}
		n -= m
	}
	return ok
}

// drain reads what the pipe holds, and no more: if somebody has escaped with
// the write end, he can fill it for ever.
func (st *Stream) drain() {
	st.raw.Control(func(fd uintptr) {
		left, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		for err == nil && left > 0 {
			var v view
			if v, err = st.look(int(fd)); err != nil || v.n == 0 {
				return
			}
			left -= max(1, st.feed(v))
		}
	})
}

// flush passes a line on that has no end yet; last: nor will it have one.
func (st *Stream) flush(last bool) {
	c := st.chunk(st.partial, false)
	if st.seen > 0 && !(last && st.leave.Load()) {
		c = st.rest()
	}
	c.last = last
	st.partial, st.seen, st.late = nil, 0, false
	st.pass(c)
}

// rest is all that the pipe begins with, with or without an end.
func (st *Stream) rest() (c chunk) {
	c = st.chunk(nil, false)
	st.raw.Control(func(fd uintptr) {
		st.seen = 0
		if v, err := st.look(int(fd)); err == nil && v.n > 0 {
			c = st.chunk(v.text(), v.peeked)
			buffers.Put(v.buffer)
		}
	})
	return c
}
