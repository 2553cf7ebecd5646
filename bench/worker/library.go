package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/supervisord-go/supervisord/bench/message"
	supervised "github.com/supervisord-go/supervisord/pkg/worker"
)

// library is what a service is that leaves all of it to pkg/worker.
func (w *worker) library() {
	a := &app{moving: func(r *http.Request) context.Context { return supervised.Leaving(r.Context()) }}
	g := &supervised.Group{Drain: patience}
	sockets, err := supervised.Inherited()
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range sockets.Names() {
		listeners, err := sockets.Listeners(name)
		if err != nil {
			log.Fatal(err)
		}
		w.gates(listeners)
		switch name {
		case "tls":
			server := a.server()
			if server.TLSConfig, err = secure(w.certificate); err != nil {
				log.Fatal(err)
			}
			g.HTTP(server, listeners...)
		case "tcp":
			g.Conns(a.tcp, listeners...)
		default:
			g.HTTP(a.server(), listeners...)
		}
	}
	if len(sockets.Names()) == 0 {
		server := a.server()
		server.Addr = w.listen
		g.HTTP(server)
	}
	err = g.Serve(context.Background())
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "accept" {
		w.acceptFailed(err)
	}
	w.left(a, err)
}

func (a *app) server() *http.Server { return &http.Server{Handler: a, Protocols: protocols()} }

// tcp answers messages until it is to leave. Then it moves the connection to the
// next process, between two messages, of which a client sends one at a time; or
// asks the client to go, if nobody takes it.
func (a *app) tcp(ctx context.Context, c *supervised.Conn) {
	m := message.NewFramed(c)
	leaving := supervised.Leaving(ctx)
	for leaving.Err() == nil {
		if begun(leaving, c, m) && a.answer(m) != nil {
			return
		}
	}
	if c.Move(ctx, nil) == nil {
		return
	}
	if m.Send(nil) == nil {
		a.messages(context.Background(), m)
	}
}

// begun waits until a message begins, or the client has left, which comes out when
// the message is read. It is false if it is time to leave before that.
func begun(leaving context.Context, c *supervised.Conn, m *message.Framed) bool {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(leaving, func() {
		c.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	err := m.Wait()
	if !stop() {
		<-interrupted
		c.SetReadDeadline(time.Time{})
	}
	return err == nil || !errors.Is(err, os.ErrDeadlineExceeded)
}
