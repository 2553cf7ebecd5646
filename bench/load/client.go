package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A client asks one request after the other.
type client struct {
	Options
	index  int
	body   []byte
	conn   net.Conn // nil: to be made
	read   *bufio.Reader
	met    bool // it has had a connection before
	result Result
}

func newClient(o Options, index int) *client {
	c := &client{Options: o, index: index, result: *newResult(o.Mode.Name)}
	if o.Mode.Method == "POST" {
		c.body = bytes.Repeat([]byte{'a' + byte(index%26)}, o.Body)
	}
	return c
}

func (c *client) run(ctx context.Context) {
	defer c.hangUp()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := int64(0); c.Requests == 0 || n < c.Requests; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		c.request(n)
		pause.Reset(c.Pause)
	}
}

// request makes one attempt and records how it ended.
func (c *client) request(n int64) {
	start := time.Now()
	path := fmt.Sprintf("/%s/%d/%d", c.Mode.Name, c.index, n)
	answer, err := c.exchange(path, start.Add(c.Timeout))
	if err == nil {
		var pid string
		if pid, err = c.check(answer, path); err == nil {
			c.result.ok(pid, time.Since(start))
			return
		}
	}
	c.hangUp()
	var lost *lostError
	if !errors.As(err, &lost) {
		lost = lose(Malformed, err)
	}
	c.result.fail(lost.how, lost.why)
}

func (c *client) exchange(path string, by time.Time) ([]byte, error) {
	if err := c.connect(by); err != nil {
		return nil, err
	}
	if err := c.send(path, by); err != nil {
		return nil, err
	}
	a, err := readAnswer(c.read)
	if err != nil {
		return nil, err
	}
	if a.close || !c.Mode.Keep {
		c.hangUp()
	}
	if a.status != 200 {
		return nil, lose(Status, fmt.Errorf("status %d", a.status))
	}
	return a.body, nil
}

// connect makes a connection, unless there is one that the server has not
// closed meanwhile.
func (c *client) connect(by time.Time) error {
	if c.conn != nil && ended(c.conn) {
		c.hangUp()
	}
	if c.conn != nil {
		return nil
	}
	conn, err := (&net.Dialer{Deadline: by}).Dial(c.Network, c.Address)
	if err != nil {
		return lose(connectFailure(err), err)
	}
	if c.met && c.Mode.Keep {
		c.result.Reconnects++
	}
	c.conn, c.read, c.met = conn, bufio.NewReader(conn), true
	return nil
}

func (c *client) send(path string, by time.Time) error {
	c.conn.SetDeadline(by)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench\r\n", c.Mode.Method, path)
	if !c.Mode.Keep {
		b.WriteString("Connection: close\r\n")
	}
	if c.Mode.Method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(c.body))
	}
	b.WriteString("\r\n")
	b.Write(c.body)
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		return lose(early(err), err)
	}
	return nil
}

// check compares an answer with what a worker of the bench says: its pid, the
// request, and the body.
func (c *client) check(answer []byte, path string) (pid string, err error) {
	head, rest, _ := bytes.Cut(answer, []byte("\n"))
	id, asked, _ := bytes.Cut(head, []byte(" "))
	if _, err := strconv.Atoi(string(id)); err != nil || string(asked) != c.Mode.Method+" "+path || !bytes.Equal(rest, c.body) {
		return "", lose(Body, fmt.Errorf("asked %s %s, got %.80q", c.Mode.Method, path, answer))
	}
	return string(id), nil
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ended says whether the server has closed a connection that nothing is asked
// on. It looks and takes nothing.
func ended(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var look error
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, look = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err != nil || look == nil && n == 0 || look != nil && look != syscall.EAGAIN && look != syscall.EINTR
}

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
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
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
	case errors.Is(err, io.EOF):
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
	return errors.As(err, &t) && t.Timeout()
}
