package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Conn is a connection of a protocol of the user's own, see [Group.Conns].
type Conn struct {
	net.Conn
	conn *conn
}

// State returns what the handler of another process has said of this connection,
// nil if it is new. It comes from another release of the same service, which may
// be older, newer or broken: check it as if a client had sent it.
func (c *Conn) State() []byte { return c.conn.state }

// Move hands the connection and up to [MaxState] bytes of state to the next
// process. It is for a handler that has been told to leave, see [Group.Conns], and
// that is between two reads: bytes which were read and are not answered must be in
// state, those in the kernel move along. When Move returns nil, the connection is
// that process's, and the handler returns. Otherwise it is as it was, except for
// deadlines, which are the caller's as always, and the handler serves on or asks
// the client to go. The errors are [ErrNotLeaving], [ErrNotMovable], [ErrNoTaker],
// [ErrRefused], [ErrStateTooLarge], and ctx's.
//
// Move waits for a process that takes connections until it is certain that there is
// none, or ctx is done. Once it has sent the connection it waits for the answer
// whatever ctx says, 3 s at most, since two processes could have the connection
// otherwise.
func (c *Conn) Move(ctx context.Context, state []byte) error {
	if err := c.conn.give(ctx, state); err != nil {
		return fmt.Errorf("cannot move the connection: %w", err)
	}
	return nil
}

func (c *conn) give(ctx context.Context, state []byte) error {
	g := c.door.group
	switch {
	case len(state) > MaxState:
		return ErrStateTooLarge
	case !g.leaving.Load():
		return ErrNotLeaving
	case g.giver == nil:
		return ErrNoTaker
	case c.door.name == "" || c.door.takes() != withState:
		return ErrNotMovable
	}
	c.mu.Lock()
	tried, refused := c.rest.tried, c.rest.refused
	c.mu.Unlock()
	if refused {
		return ErrRefused
	}
	s, err := g.giver.await(ctx, tried)
	if err != nil {
		return err
	}
	return c.move(ctx, s, withState, state)
}

// Conns adds a service of the user's own protocol. handler is called for each
// connection in a goroutine of its own; the connection is closed when it returns.
// Its context is done when the connection is closed, by the handler or because the
// drain time is over. The context of [Leaving] is done when the client should be
// asked to go, or the connection should be moved by [Conn.Move]. A handler that waits
// in a read can have it ended:
//
//	leaving := worker.Leaving(ctx)
//	stop := context.AfterFunc(leaving, func() { c.SetReadDeadline(time.Now()) })
//	defer stop()
//
// Without listeners the service gets all inherited stream sockets that no other
// service of the group was given. [Listen] gives those of a name. Conns must not be
// called once [Group.Serve] is, and panics then.
func (g *Group) Conns(handler func(ctx context.Context, c *Conn), listeners ...net.Listener) {
	g.add("Conns", &service{protocol: connProtocol{handler}, listeners: listeners})
}

type connProtocol struct {
	handler func(context.Context, *Conn)
}

func (p connProtocol) takes() kind                 { return withState }
func (p connProtocol) patience(bool) time.Duration { return 0 }
func (p connProtocol) address() string             { return "" }
func (p connProtocol) open() error                 { return nil }
func (p connProtocol) secure() bool                { return false }
func (p connProtocol) leave()                      {}
func (p connProtocol) shutdown(context.Context)    {}

// serve accepts until l is closed. A failure that may pass, such as of too many
// open files, is waited for.
func (p connProtocol) serve(l net.Listener, _ bool) error {
	for delay := minDelay; ; {
		c, err := l.Accept()
		if isTemporary(err) {
			time.Sleep(delay)
			delay = min(2*delay, maxDelay)
			continue
		}
		if err != nil {
			return err
		}
		delay = minDelay
		go p.handle(c, connOf(c))
	}
}

func (p connProtocol) handle(c net.Conn, in *conn) {
	defer c.Close()
	p.handler(in.lifetime(), &Conn{Conn: c, conn: in})
}

const (
	minDelay = 5 * time.Millisecond
	maxDelay = time.Second
)

func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}
