package worker

import "errors"

var (
	// ErrCut is in the error of [Serve] and [Group.Serve] when the drain time was
	// over and connections that were in use were closed: with a request under way,
	// hijacked, or of [Group.Conns]. Connections that rest do not count.
	ErrCut = errors.New("connections were cut")

	// ErrLeaving is the cause, see [context.Cause], of a context of [Leaving] that
	// is done because the process leaves. Otherwise it is net.ErrClosed: the
	// connection has ended.
	ErrLeaving = errors.New("the process leaves")

	// ErrNotLeaving is returned by [Conn.Move] while the process does not leave.
	ErrNotLeaving = errors.New("the process does not leave")

	// ErrNotMovable is returned by [Conn.Move] for a connection that no other
	// process could serve: of TLS, whose keys are here, or of a listener that is
	// not one of [Inherited] as it was.
	ErrNotMovable = errors.New("the connection cannot be served by another process")

	// ErrNoTaker is returned by [Conn.Move] if no process takes connections: there
	// is none that is ready and does not leave, or the supervisor has not passed
	// the means.
	ErrNoTaker = errors.New("no process takes connections")

	// ErrRefused is returned by [Conn.Move] if a process takes connections, but not
	// this one: its build does not serve the socket, or not in this way.
	ErrRefused = errors.New("the next process refused the connection")

	// ErrStateTooLarge is returned by [Conn.Move] for more than [MaxState] bytes.
	ErrStateTooLarge = errors.New("the connection's state is too large")
)
