package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of what is read from a connection that is closed for writing.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 256 << 10
)

// A conn is a connection that its group knows. Its Close waits, in the
// background, for the client to have read what was sent, if the group leaves.
type conn struct {
	net.Conn
	door   *door
	state  []byte // what came with it from another process
	closed atomic.Bool
	ended  atomic.Bool // the client sends no more
	moved  atomic.Bool // it is another process's now

	mu      sync.Mutex
	leave   context.Context // nil: nobody has asked for it
	leaving context.CancelFunc
	told    bool
	rest    rest
}

func newConn(d *door, c net.Conn) *conn { return &conn{Conn: c, door: d, rest: rest{idle: true}} }

// connOf finds the conn below whatever net/http made of it, nil if there is none.
func connOf(c net.Conn) *conn {
	for {
		switch t := c.(type) {
		case *conn:
			return t
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

// NetConn returns the connection that was accepted.
func (c *conn) NetConn() net.Conn { return c.Conn }

// SyscallConn is the accepted connection's.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Write writes. What has moved is another process's to write to, whoever still
// has something to say here.
func (c *conn) Write(p []byte) (int, error) {
	if c.moved.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// ReadFrom lets a TCP connection use sendfile and splice.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.moved.Load() {
		return 0, net.ErrClosed
	}
	return io.Copy(c.Conn, r)
}

// CloseWrite sends the client an end of file.
func (c *conn) CloseWrite() error {
	if c.moved.Load() {
		return net.ErrClosed
	}
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection. While the group leaves it lingers: a socket that
// is closed with bytes unread is reset, and the reset destroys what the client
// has not read yet of the last answer. What has moved is closed here only.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.door.group.leaving.Load() && !c.ended.Load() && !c.moved.Load() && c.CloseWrite() == nil {
		go c.linger()
		return nil
	}
	return c.drop()
}

// linger reads until the client has closed as well, within bounds.
func (c *conn) linger() {
	defer c.drop()
	if err := c.Conn.SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	io.CopyN(io.Discard, c.Conn, lingerBytes)
}

func (c *conn) drop() error {
	defer c.door.group.conns.forget(c)
	return c.Conn.Close()
}

// kill closes the connection whatever it does.
func (c *conn) kill() {
	c.closed.Store(true)
	c.drop()
}

// whenLeaving returns a context that is done when the client should be asked to
// go elsewhere.
func (c *conn) whenLeaving() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leave == nil {
		c.leave, c.leaving = context.WithCancel(context.Background())
	}
	if c.told || c.door.group.leaving.Load() {
		c.leaving() // who asks now has begun after the others were told
	}
	return c.leave
}

func (c *conn) wantsToKnow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leave != nil
}

func (c *conn) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
	if c.leaving != nil {
		c.leaving()
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
