package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A connection may move to another process when it is at rest: its server waits
// for a request of which this process has not read one byte. That is known
// exactly, from what the server asks of the connection:
//
//   - It has read nothing yet, or its requests are HTTP/1.x and it has said
//     http.StateIdle, and since then it has neither read a byte nor called a handler,
//     which it does without a read if the client has sent a whole head ahead.
//   - The read that it is in is into its whole buffer. One into a part of it comes
//     after bytes of the next request.
//
// The next request may come at that moment. The kernel decides: a read that is
// interrupted has either got bytes, and the connection is not at rest, or none,
// and then the bytes stay in the kernel and move along.

// maxRestless is how often a client that never lets its connection rest may send
// requests while it could move, before it is told that the connection ends. Requests
// that came together count once, since none of them could know.
const maxRestless = 32

// A rest is what is known of a connection's rest, under its mutex.
type rest struct {
	read     bool      // something was read, ever
	idle     bool      // nothing was read or asked since the server was idle
	fresh    bool      // nothing was asked ever
	since    time.Time // when the rest began
	due      time.Time // by when the first head must have come, if another process accepted it
	http1    bool      // a request was HTTP/1.x
	waiting  bool      // in a read, at rest
	woken    bool      // and the deadline is in the past to end that read
	deadline time.Time // what the server wants the deadline to be
	tried    *session  // which did not take it
	refused  bool      // and would not take it another time
	sent     bool      // something was read since the last request
	restless int       // times that requests were sent while there was who could take it
}

// serverBuffer is the size of the buffer that an http.Server reads requests into, as
// it shows in the first read of a server without HTTP/2.
var serverBuffer = sync.OnceValue(func() int {
	c, other := net.Pipe()
	defer other.Close()
	size := make(chan int, 1)
	srv := &http.Server{Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	srv.Protocols.SetHTTP1(true)
	srv.Serve(&onceListener{conn: sizeConn{c, size}})
	return <-size
})

// A sizeConn says how large the buffer of the first read is, and ends.
type sizeConn struct {
	net.Conn
	size chan<- int
}

func (c sizeConn) Read(p []byte) (int, error) {
	select {
	case c.size <- len(p):
	default:
	}
	return 0, io.EOF
}

// A onceListener accepts one connection.
type onceListener struct {
	noListener
	conn net.Conn
}

func (l *onceListener) Accept() (c net.Conn, err error) {
	c, l.conn = l.conn, nil
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Read reads. A connection at rest may move instead, which looks like its end.
func (c *conn) Read(p []byte) (int, error) {
	for {
		switch {
		case c.closed.Load():
			return 0, net.ErrClosed
		case c.moved.Load():
			return 0, io.EOF
		}
		if s := c.lieDown(len(p)); s != nil {
			if c.move(context.Background(), s, idleHTTP1, c.rested()) == nil {
				return 0, io.EOF
			}
			continue
		}
		n, err := c.Conn.Read(p)
		if c.getUp(n > 0, err) {
			continue
		}
		return n, err
	}
}

// lieDown notes that a read into a buffer of n bytes begins. If the connection is
// at rest and somebody takes it, it returns who.
func (c *conn) lieDown(n int) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.rest
	if r.http1 && n < serverBuffer() {
		r.idle = false
	}
	r.waiting = c.movable() && r.idle && (!r.read || r.http1 && n == serverBuffer())
	if !r.waiting || r.refused || !c.door.group.leaving.Load() {
		return nil
	}
	s, _ := c.door.group.giver.current()
	if s == nil || s == r.tried {
		return nil
	}
	r.waiting = false
	return s
}

// getUp notes how a read has ended, and reports whether only to move.
func (c *conn) getUp(read bool, err error) (again bool) {
	if err != nil && !isTimeout(err) {
		c.ended.Store(true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.rest
	if read {
		r.read, r.sent, r.idle = true, true, false
	}
	again = r.woken && !read && errors.Is(err, os.ErrDeadlineExceeded)
	if r.woken {
		c.Conn.SetReadDeadline(r.deadline)
	}
	r.waiting, r.woken = false, false
	return again
}

// wake ends a read at rest.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rest.waiting && !c.rest.woken {
		c.rest.woken = true
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// move gives the connection to s. If that fails, it is as it was.
func (c *conn) move(ctx context.Context, s *session, k kind, state []byte) error {
	err := s.give(ctx, k, c.door.name, state, c)
	if err == nil {
		c.moved.Store(true)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil {
		c.rest.tried = s
	}
	c.rest.refused = errors.Is(err, ErrRefused)
	return err
}

// movable reports whether the connection is of a kind that can move.
func (c *conn) movable() bool {
	return c.door.group.giver != nil && c.door.name != "" && c.door.takes() == idleHTTP1
}

// stays reports whether the client should be told that the answer to this request
// is the last.
func (c *conn) stays() bool {
	if !c.door.group.leaving.Load() {
		return false
	}
	if !c.movable() {
		return true
	}
	s, hope := c.door.group.giver.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil && c.rest.sent {
		c.rest.restless++
	}
	c.rest.sent = false
	return !hope || c.rest.refused || !c.rest.http1 || c.rest.restless > maxRestless
}

// asked notes that a request came. Whatever is read from now on is its body, or
// comes after it.
func (c *conn) asked(protoMajor int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest.idle, c.rest.fresh = false, false
	c.rest.http1 = protoMajor == 1
}

func (c *conn) speaksHTTP1() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rest.http1
}

// says notes what the server says of the connection. When it is idle it waits for the
// next request.
func (c *conn) says(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.httpSays = state
	if state == http.StateIdle {
		c.rest.idle, c.rest.since = true, time.Now()
	}
}

// SetReadDeadline is the server's. It waits until a read that wake has ended is
// over.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if due := c.rest.due; !due.IsZero() { // the server counts from when it got the connection
		t, c.rest.due = earlier(t, due), time.Time{}
	}
	c.rest.deadline = t
	if c.rest.woken {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is the server's.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// earlier returns the earlier of two deadlines, of which none is the zero time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// restSize is the size of what a process says of a connection that rests when it
// hands it over: 1 if nothing was asked ever, and the nanoseconds since the rest
// began, big endian. Whoever says nothing, as older releases, has one that was
// asked something and rests since now.
const restSize = 9

func (c *conn) rested() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := make([]byte, 1, restSize)
	if c.rest.fresh {
		b[0] = 1
	}
	return binary.BigEndian.AppendUint64(b, uint64(max(0, time.Since(c.rest.since))))
}

// resume goes on with a rest that began in another process.
func (r *rest) resume(said []byte) {
	r.fresh = false
	if len(said) != restSize {
		return
	}
	r.fresh = said[0] == 1
	if d := time.Duration(binary.BigEndian.Uint64(said[1:])); d > 0 {
		r.since = r.since.Add(-d)
	}
}

// arrive puts a connection that came from another process where it belongs.
func (c *conn) arrive(front net.Conn) {
	if c.door.takes() == idleHTTP1 {
		c.rest.resume(c.state)
		go c.park(front)
		return
	}
	go c.door.inbox.put(front)
}

// park waits for the first byte before a server gets the connection. The server
// would take it for a new one and its client for a slow one: the time that a
// request may take would begin now.
func (c *conn) park(front net.Conn) {
	var due time.Time
	if patience := c.door.service.patience(c.rest.fresh); patience > 0 {
		due = c.rest.since.Add(patience)
		c.SetReadDeadline(due)
	}
	for {
		s := c.lieDown(0)
		if s != nil && c.move(context.Background(), s, idleHTTP1, c.rested()) == nil {
			break
		}
		if s != nil {
			continue
		}
		n, err := c.peek()
		if c.getUp(false, err) {
			continue
		}
		if n == 0 {
			break
		}
		c.SetReadDeadline(time.Time{})
		c.expect(due)
		c.door.inbox.put(front)
		return
	}
	c.Close()
}

// grace is what a head has that begins to arrive while its connection moves, late as
// it may be.
const grace = time.Second

// expect has the first head of a connection come by when it is due.
func (c *conn) expect(due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if least := time.Now().Add(grace); c.rest.fresh && !due.IsZero() {
		c.rest.due = later(due, least)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// peek waits until there is something to read, and returns 0 if that is no byte.
// What has come counts, however long ago that was too late.
func (c *conn) peek() (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var one [1]byte
	var inner error
	try := func(fd uintptr) bool {
		for {
			n, _, inner = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if inner != unix.EINTR {
				return inner != unix.EAGAIN
			}
		}
	}
	arrived := false
	if err := raw.Control(func(fd uintptr) { arrived = try(fd) }); err != nil {
		return 0, err
	}
	if !arrived {
		err = raw.Read(try)
	}
	if err != nil {
		return 0, err
	}
	return max(n, 0), inner
}
