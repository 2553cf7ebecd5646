package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/message"
)

// A wire is a client's end of one protocol: one connection at most, with one
// request at a time. What it returns as an error is a *lostError, or
// errUnprocessed.
type wire interface {
	// connected says whether there is a connection for the next request: the server
	// has neither closed it nor asked to leave it, as far as has arrived here.
	connected() bool
	connect(o *Options, by time.Time) error
	exchange(q question, by time.Time) (answer, error)
	hangUp()
}

// A question is one request.
type question struct {
	method, target string
	body           []byte
	want           []byte // behind the first line of the answer
	keep, chunked  bool
}

// An answer is what came back. The worker's are the same in each protocol: its
// pid, the request, and its body.
type answer struct {
	body    []byte
	silence time.Duration // the longest between two parts of it; 0 if it was one
}

// errUnprocessed is for a request of which the server says that it has not begun
// with it, as HTTP/2 can. It may go to another connection.
var errUnprocessed = errors.New("not processed")

func newWire(p Protocol) wire {
	switch p {
	case HTTP2:
		return &http2Wire{}
	case WebSocket:
		return &messageWire{open: func(c net.Conn) (message.Conn, error) { return message.Dial(c, "/websocket") }}
	case Framed:
		return &messageWire{open: func(c net.Conn) (message.Conn, error) { return message.NewFramed(c), nil }}
	}
	return &http1Wire{}
}

// A link is a connection that may end while nothing is asked.
type link struct {
	net.Conn          // nil: none
	below    net.Conn // the same without TLS
}

// dial makes a connection, with TLS if the mode has it. Its deadline is set.
func (l *link) dial(o *Options, by time.Time) error {
	conn, err := (&net.Dialer{Deadline: by}).Dial(o.Network, o.Address)
	if err != nil {
		return lose(connectFailure(err), err)
	}
	conn.SetDeadline(by)
	l.Conn, l.below = conn, conn
	if o.Mode.Socket != TLS {
		return nil
	}
	secure := tls.Client(conn, o.TLS)
	if err := secure.Handshake(); err != nil {
		l.hangUp()
		return lose(early(err), err)
	}
	l.Conn = secure
	return nil
}

// quiet says whether the connection is there and nothing has come that nobody has
// asked for: its end, TLS's notice of that, or a message. It looks and takes
// nothing.
func (l *link) quiet() bool {
	if l.Conn == nil {
		return false
	}
	raw, err := l.below.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	var look error
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, look = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && (look == syscall.EAGAIN || look == syscall.EINTR)
}

func (l *link) hangUp() {
	if l.Conn != nil {
		l.Close()
		l.Conn = nil
	}
}

// check compares an answer with what a worker of the bench says.
func (a answer) check(q question) (pid string, err error) {
	head, rest, _ := bytes.Cut(a.body, []byte("\n"))
	id, asked, _ := bytes.Cut(head, []byte(" "))
	if !isNumber(id) || string(asked) != q.method+" "+q.target || !bytes.Equal(rest, q.want) {
		return "", lose(Body, errors.New("asked "+q.method+" "+q.target+", got "+short(a.body)))
	}
	return string(id), nil
}

func isNumber(b []byte) bool { return len(b) > 0 && len(bytes.Trim(b, "0123456789")) == 0 }

// A lostError is an error with the way in which it lost the request.
type lostError struct {
	how Failure
	why error
}

func lose(how Failure, why error) *lostError { return &lostError{how, why} }
func (e *lostError) Error() string           { return e.why.Error() }
func (e *lostError) Unwrap() error           { return e.why }

func connectFailure(err error) Failure {
	for _, e := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return Local
		}
	}
	switch {
	case isTimeout(err):
		return TimedOut
	case errors.Is(err, syscall.ECONNRESET):
		return Reset
	}
	return Refused // ECONNREFUSED; of a unix socket also ENOENT, EAGAIN
}

// early is the failure of a request of which no byte of an answer was read.
func early(err error) Failure {
	switch {
	case isTimeout(err):
		return TimedOut
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Closed
	}
	return Reset
}

// late is the failure of a request whose answer had begun.
func late(err error) Failure {
	if isTimeout(err) {
		return TimedOut
	}
	return CutShort
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
