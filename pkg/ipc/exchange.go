package ipc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
	"time"
)

// An exchange is one request and its answer. It ends by itself when nothing has
// happened for too long, at whatever it was: to connect, to be heard, to be
// answered. A supervisord that takes its time says so (see [Server.answer]), so
// silence means that it is stopped, hangs, or is starved.
type exchange struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	dog    *time.Timer
	path   string
	sends  bool         // something that changes something
	limit  atomic.Int64 // a [time.Duration]
	pid    atomic.Int64 // of who listens; 0: not connected yet
}

func (c *Client) exchange(ctx context.Context, method string) *exchange {
	x := &exchange{path: c.path, sends: method != "GET"}
	x.limit.Store(int64(c.answer))
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.dog = time.AfterFunc(c.answer, func() { x.cancel(x.late()) })
	x.ctx = httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { x.connected(i.Conn) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { x.alive() },
		Got100Continue:       x.alive,
		Got1xxResponse:       func(int, textproto.MIMEHeader) error { x.alive(); return nil },
		GotFirstResponseByte: x.alive,
	})
	return x
}

func (x *exchange) connected(c net.Conn) {
	if a, ok := c.(*known); ok {
		x.pid.Store(int64(a.pid))
	}
	x.alive()
}

// alive: something has happened.
func (x *exchange) alive() { x.dog.Reset(time.Duration(x.limit.Load())) }

// become changes how long nothing may happen.
func (x *exchange) become(limit time.Duration) {
	x.limit.Store(int64(limit))
	x.alive()
}

func (x *exchange) end() {
	x.dog.Stop()
	x.cancel(nil)
}

// cutOff says whether err is that the connection has ended, and not that nobody says
// anything on it, or that there never was one.
func (x *exchange) cutOff(err error) bool {
	return isLost(err) && x.pid.Load() != 0 && x.ctx.Err() == nil
}

// late is what it means that nothing happens.
func (x *exchange) late() *Error {
	pid, limit := x.pid.Load(), time.Duration(x.limit.Load())
	if pid == 0 {
		return &Error{Code: Unreachable, Message: fmt.Sprintf("cannot connect to %s: nothing has happened for %s", x.path, limit)}
	}
	e := &Error{
		Code:    Unreachable,
		Message: fmt.Sprintf("supervisord does not answer: connected to %s, but nothing has come from pid %d for %s", x.path, pid, limit),
		Hints: []string{
			fmt.Sprintf("to see whether it is stopped (T) or waits for a disk (D): ps -o stat,wchan:30,args -p %d", pid),
			fmt.Sprintf("if it is stopped: kill -CONT %d", pid),
		},
	}
	if x.sends {
		e.Notes = []string{"it may still do what it was asked to"}
	}
	return e
}

// A lively reader tells the exchange that something comes.
type lively struct {
	io.Reader
	x *exchange
}

func (l lively) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.x.alive()
	}
	return n, err
}

// A known is a connection of which we know who listens.
type known struct {
	net.Conn
	pid int
}
