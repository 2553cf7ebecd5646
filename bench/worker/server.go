package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/message"
)

// A server serves an app by net/http, and leaves as examples/hello does.
type server struct {
	app
	http      http.Server
	moved     context.Context // is done when those who send messages are to move
	move      context.CancelFunc
	sockets   []*socket
	gauges    *ledger.Gauges
	accepting sync.WaitGroup
	shut      atomic.Bool // accept fails because the sockets were shut down here
	failed    func(error) // an accept has, though the server has not begun to leave
}

func newServer(certificate string, gauges *ledger.Gauges) (*server, error) {
	s := &server{gauges: gauges}
	s.moved, s.move = context.WithCancel(context.Background())
	s.moving = func(*http.Request) context.Context { return s.moved }
	s.http.Handler, s.http.Protocols = &s.app, protocols()
	if certificate != "" {
		var err error
		if s.http.TLSConfig, err = secure(certificate); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// serve begins to serve all listeners; what each, is in its name.
func (s *server) serve(listeners map[string][]net.Listener) {
	for name, all := range listeners {
		for _, l := range all {
			s.accept(&socket{Listener: l, name: name, open: s.gauges.Of(class(l, name))})
		}
	}
}

func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

func secure(certificate string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certificate, certificate)
	return &tls.Config{Certificates: []tls.Certificate{pair}}, err
}

func (s *server) accept(l *socket) {
	s.sockets = append(s.sockets, l)
	s.accepting.Go(func() {
		var err error
		switch l.name {
		case "tls":
			err = s.http.ServeTLS(l, "", "")
		case "tcp":
			err = s.serveMessages(l)
		default:
			err = s.http.Serve(l)
		}
		if !s.shut.Load() && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			s.failed(err)
		}
	})
}

func (s *server) serveMessages(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			s.messages(s.moved, message.NewFramed(conn))
		}()
	}
}

// close stops accepting. When it returns, each connection that was accepted is
// counted.
func (s *server) close() {
	for _, l := range s.sockets {
		l.Close()
	}
	s.accepting.Wait()
}

// shutSockets stops accepting by shutdown(2), as close does by close(2). Accept fails then, also
// in other processes that have the same socket.
func (s *server) shutSockets() {
	s.shut.Store(true)
	for _, l := range s.sockets {
		shut(l.Listener)
	}
	s.accepting.Wait()
}

func (s *server) leave(patience time.Duration) error { return s.drain(s.close, patience) }

func (s *server) end(patience time.Duration) error { return s.drain(s.shutSockets, patience) }

// drain stops accepting, and answers what was accepted.
func (s *server) drain(stop func(), patience time.Duration) error {
	s.leaving.Store(true)
	s.move()
	stop()
	for end := time.Now().Add(patience); s.busy() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return s.shutdown()
}

// shutdown waits for longer than the 5 s for which net/http takes a connection
// without a request for one that is at work.
func (s *server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.http.Shutdown(ctx)
}

// open counts the connections of each socket.
func (s *server) open() map[string]int64 {
	open := map[string]int64{}
	for _, l := range s.sockets {
		open[class(l.Listener, l.name)] = l.open.Load() // all of a class have one gauge
	}
	return open
}

func (s *server) busy() bool {
	for _, n := range s.open() {
		if n > 0 {
			return true
		}
	}
	return false
}

// A socket is a listener that counts the connections it has open.
type socket struct {
	net.Listener
	name string
	open *atomic.Int64
}

// class is what clients call it: a unix socket may have HTTP's name.
func class(l net.Listener, name string) string {
	if l.Addr().Network() == "unix" {
		return "unix"
	}
	return name
}

func (l *socket) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &conn{Conn: c, socket: l}, nil
}

type conn struct {
	net.Conn
	socket *socket
	closed sync.Once
}

func (c *conn) Close() error {
	c.closed.Do(func() { c.socket.open.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite is for net/http, which lets a client read before it closes.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
