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

	mu    sync.Mutex
	end   int  // the write end; -1: closed
	ended bool // by Finish

	// Of its goroutine:
	partial []byte // the beginning of a line
	late    bool   // partial is passed on when the read deadline has come
	held    []byte // the same as it is to be shown, where only lines are

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
	st := &Stream{sink: s, meta: m, end: w, done: make(chan struct{})}
	st.Began(m.PID)
	err = st.take(os.NewFile(uintptr(r), "output of "+s.service))
	if err == nil {
		st.inode, err = inode(w)
	}
	if err == nil {
		err = s.begin(st)
	}
	if err != nil {
		st.file.Close()
		st.CloseWriteEnd()
		return nil, err
	}
	go st.copy()
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

// CloseWriteEnd closes our copy of the write end.
func (st *Stream) CloseWriteEnd() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.end >= 0 {
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
		var got *[64 << 10]byte
		var n int
		var err error
		gone := st.raw.Read(func(fd uintptr) bool {
			got, n, err = st.read(int(fd))
			return err != unix.EAGAIN
		})
		if errors.Is(gone, os.ErrDeadlineExceeded) && !st.wake(time.Time{}) {
			st.flush(false)
			continue
		}
		if gone != nil || err != nil || n == 0 {
			break
		}
		st.feed(got, n)
	}
	if !st.leave.Load() {
		st.drain()
	}
	st.flush(true)
	st.file.Close()
	st.sink.end(st)
}

// read takes what the pipe holds. The buffer begins with the partial line and
// has n more bytes.
func (st *Stream) read(fd int) (b *[64 << 10]byte, n int, err error) {
	b = buffers.Get().(*[64 << 10]byte)
	copy(b[:], st.partial)
	for {
		n, err = unix.Read(fd, b[len(st.partial):])
		if err != unix.EINTR {
			break
		}
	}
	if err != nil || n == 0 {
		buffers.Put(b)
	}
	return b, n, err
}

// maxWait is how long a line is held back that has no end yet: it may be a prompt, or
// the last words of a program that hangs.
const maxWait = time.Second

// feed passes whole lines on, and a partial one when it is too long to wait for
// its end.
func (st *Stream) feed(b *[64 << 10]byte, n int) {
	text := b[:len(st.partial)+n]
	cut := wholeLines(text)
	if len(text)-cut >= MaxLine {
		cut = len(text)
	}
	st.partial = append(st.partial[:0], text[cut:]...)
	if len(st.partial) == 0 {
		st.partial = nil
	}
	st.hurry(cut > 0)
	st.pass(bytes.Clone(text[:cut]), false)
	buffers.Put(b)
}

// hurry sees to it that a partial line does not wait for ever; anew says that it is
// another than before.
func (st *Stream) hurry(anew bool) {
	switch {
	case st.partial == nil && st.late:
		st.late = false
		st.wake(time.Time{})
	case st.partial != nil && (anew || !st.late):
		st.late = true
		st.wake(time.Now().Add(st.sink.hold))
	}
}

func (st *Stream) pass(text []byte, last bool) {
	if len(text) > 0 || last {
		st.sink.accept(chunk{from: st, time: time.Now(), text: text, lines: countLines(text), last: last})
	}
}

// drain reads what the pipe holds, and no more: if somebody has escaped with
// the write end, he can fill it for ever.
func (st *Stream) drain() {
	st.raw.Control(func(fd uintptr) {
		left, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		for err == nil && left > 0 {
			var b *[64 << 10]byte
			var n int
			if b, n, err = st.read(int(fd)); n <= 0 || err != nil {
				return
			}
			left -= n
			st.feed(b, n)
		}
	})
}

// flush passes a line on that has no end yet; last: nor will it have one.
func (st *Stream) flush(last bool) {
	st.pass(st.partial, last)
	st.partial, st.late = nil, false
}
