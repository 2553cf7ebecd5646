package worker

import (
	"context"
	"errors"
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
// process. It is for a handler whose context is done, and that is between two
// reads: bytes which were read and are not answered must be in state, those in the
// kernel move along. When Move returns nil, the connection is that process's, and
// the handler returns. Otherwise nobody took it and it is as it was, except for
// deadlines, which are the caller's as always.
func (c *Conn) Move(state []byte) error {
	if len(state) > MaxState {
		return errors.New("cannot move the connection: its state is too large")
	}
	in := c.conn
	if in.door.group.giver == nil || in.door.name == "" || !in.door.group.leaving.Load() {
		return errNobody
	}
	in.mu.Lock()
	tried, refused := in.rest.tried, in.rest.refused
	in.mu.Unlock()
	if refused {
		return errRefused
	}
	s, err := in.door.group.giver.await(tried)
	if err != nil {
		return err
	}
	return in.move(s, withState, state)
}

// Conns adds a service of the user's own protocol. handler is called for each
// connection in a goroutine of its own; the connection is closed when it returns.
// Its context is done when the client should be asked to go, which is told to one
// client after the other, or the connection should be moved by [Conn.Move]. A
// handler that waits in a read can have it ended:
//
//	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })
//	defer stop()
//
// Without listeners the service gets all inherited stream sockets that no other
// service of the group was given. [Listen] gives those of a name.
func (g *Group) Conns(handler func(ctx context.Context, c *Conn), listeners ...net.Listener) {
	g.services = append(g.services, &service{protocol: connProtocol{handler}, listeners: listeners})
}

type connProtocol struct {
	handler func(context.Context, *Conn)
}

func (p connProtocol) takes() kind             { return withState }
func (p connProtocol) patience() time.Duration { return 0 }
func (p connProtocol) leave()                  {}

func (p connProtocol) shutdown(context.Context) error { return nil }

// serve accepts until l is closed. A failure that may pass, such as of too many
// open files, is waited for.
func (p connProtocol) serve(l net.Listener) error {
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
		in := connOf(c)
		go func() {
			defer in.Close()
			p.handler(in.whenLeaving(), &Conn{Conn: in, conn: in})
		}()
	}
}

const (
	minDelay = 5 * time.Millisecond
	maxDelay = time.Second
)

func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}
