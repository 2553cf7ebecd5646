// Package message carries whole messages over a connection, each behind its
// length, or as a WebSocket does. The bench's clients and its worker speak by it.
package message

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Most is how many bytes a message may have.
const Most = 1 << 20

// A Conn is a connection that carries messages. One goroutine at a time may
// receive; any number may send. Deadlines are set on the connection below.
type Conn interface {
	Send([]byte) error

	// Receive returns the next message. The error is io.EOF if the other side
	// has ended between two of them, and io.ErrUnexpectedEOF if within one.
	Receive() ([]byte, error)

	// Close closes the connection below, without a word to the other side.
	Close() error
}

// ErrMalformed is for bytes that are no message.
var ErrMalformed = errors.New("malformed message")

// Framed carries each message behind its length in four bytes.
type Framed struct {
	conn net.Conn
	r    *bufio.Reader

	sending sync.Mutex
}

// NewFramed returns a Framed over a connection.
func NewFramed(c net.Conn) *Framed { return &Framed{conn: c, r: bufio.NewReader(c)} }

// Wait returns when a message begins, without taking any of it. If it returns an
// error, nothing of one has been read.
func (f *Framed) Wait() error {
	_, err := f.r.Peek(1)
	return err
}

// Send is that of Conn.
func (f *Framed) Send(m []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(m)), uint32(len(m)))
	f.sending.Lock()
	defer f.sending.Unlock()
	_, err := f.conn.Write(append(b, m...))
	return err
}

// Close is that of Conn.
func (f *Framed) Close() error { return f.conn.Close() }

// Receive is that of Conn.
func (f *Framed) Receive() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > Most {
		return nil, fmt.Errorf("%w: of %d bytes", ErrMalformed, n)
	}
	return readBody(f.r, uint64(n))
}

// readBody reads what must follow.
func readBody(r io.Reader, n uint64) ([]byte, error) {
	m := make([]byte, n)
	_, err := io.ReadFull(r, m)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}
