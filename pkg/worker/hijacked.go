package worker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// The methods of this file are for those who hijack a connection. What they get has
// another type than the connection that was accepted, and its methods, as far as
// package net has some that matter there.

// NetConn returns the connection that was accepted.
func (c *conn) NetConn() net.Conn { return c.Conn }

// SyscallConn is the accepted connection's.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// File is the accepted connection's.
func (c *conn) File() (*os.File, error) {
	if f, ok := c.Conn.(interface{ File() (*os.File, error) }); ok {
		return f.File()
	}
	return nil, errors.ErrUnsupported
}

// WriteTo lets a TCP connection use splice.
func (c *conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, c.Conn) }

// CloseRead is the accepted connection's.
func (c *conn) CloseRead() error {
	if r, ok := c.Conn.(interface{ CloseRead() error }); ok && !c.moved.Load() {
		return r.CloseRead()
	}
	return errors.ErrUnsupported
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

// SetReadBuffer is the accepted connection's.
func (c *conn) SetReadBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetReadBuffer(int) error }); ok {
		return b.SetReadBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// SetWriteBuffer is the accepted connection's.
func (c *conn) SetWriteBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return b.SetWriteBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// A tcpConn has what only TCP has.
type tcpConn struct {
	*conn
	tcp *net.TCPConn
}

func (c tcpConn) SetNoDelay(noDelay bool) error            { return c.tcp.SetNoDelay(noDelay) }
func (c tcpConn) SetKeepAlive(keep bool) error             { return c.tcp.SetKeepAlive(keep) }
func (c tcpConn) SetKeepAlivePeriod(d time.Duration) error { return c.tcp.SetKeepAlivePeriod(d) }
func (c tcpConn) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	return c.tcp.SetKeepAliveConfig(k)
}
func (c tcpConn) SetLinger(sec int) error     { return c.tcp.SetLinger(sec) }
func (c tcpConn) MultipathTCP() (bool, error) { return c.tcp.MultipathTCP() }

// A stater is a connection by which net/http fills Request.TLS.
type stater interface{ ConnectionState() tls.ConnectionState }

// An encryptedConn is encrypted by something that is not crypto/tls.
type encryptedConn struct {
	*conn
	stater
}
