package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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

	mu       sync.Mutex
	leave    context.Context // nil: nobody has asked for it
	leaving  context.CancelCauseFunc
	told     bool               // to leave
	gone     bool               // its descriptor is closed, or about to be
	end      context.CancelFunc // of its lifetime, nil: nobody has asked for it
	httpSays http.ConnState
	rest     rest
}

func newConn(d *door, c net.Conn) *conn {
	return &conn{Conn: c, door: d, rest: rest{idle: true, fresh: true, since: time.Now()}}
}

// connOf finds the conn below whatever net/http or its user made of it, nil if there
// is none.
func connOf(c net.Conn) *conn {
	for {
		switch t := c.(type) {
		case interface{ known() *conn }:
			return t.known()
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

func (c *conn) known() *conn { return c }

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
	c.over()
	defer c.door.group.conns.forget(c)
	return c.Conn.Close()
}

// over ends the contexts of the connection.
func (c *conn) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.leaving != nil {
		c.leaving(net.ErrClosed)
	}
	if c.end != nil {
		c.end()
	}
}

// cut closes the connection, and reports whether that takes something from its client.
func (c *conn) cut() bool {
	busy := c.busy()
	return c.Close() == nil && busy
}

// isServers reports whether net/http ends the connection well when it is shut down:
// after the request that is under way, or at once if there is none.
func (c *conn) isServers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.httpSays == http.StateActive || c.httpSays == http.StateIdle && !c.isBusy()
}

// busy reports whether the connection is in use. Of HTTP/1.x without TLS it is known
// from the first byte of a request on.
func (c *conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isBusy()
}

func (c *conn) isBusy() bool {
	switch {
	case c.door.service.takes() == withState:
		return true
	case c.httpSays == http.StateActive || c.httpSays == http.StateHijacked:
		return true
	}
	return c.door.takes() == idleHTTP1 && !c.rest.idle && (c.rest.http1 || c.httpSays == http.StateNew)
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
		c.leave, c.leaving = context.WithCancelCause(context.Background())
	}
	switch {
	case c.gone:
		c.leaving(net.ErrClosed)
	case c.told || c.door.group.leaving.Load():
		c.leaving(ErrLeaving) // who asks now has begun after the others were told
	}
	return c.leave
}

// lifetime returns a context that ends with the connection, and that Leaving knows.
func (c *conn) lifetime() context.Context {
	ctx, end := context.WithCancel(context.WithValue(context.Background(), connKey{}, c))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	if c.gone {
		end()
	}
	return ctx
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
		c.leaving(ErrLeaving)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
