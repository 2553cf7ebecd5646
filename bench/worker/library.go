package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"

	"github.com/supervisord-go/supervisord/bench/message"
	supervised "github.com/supervisord-go/supervisord/pkg/worker"
)

// library is what a service is that leaves all of it to pkg/worker.
func (w *worker) library() {
	a := &app{moving: func(r *http.Request) context.Context { return supervised.Leaving(r.Context()) }}
	g := &supervised.Group{Drain: patience}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	sockets, err := supervised.Inherited()
	if err != nil {
		log.Fatal(err)
	}
	var raw sync.WaitGroup
	for _, name := range sockets.Names() {
		listeners, err := sockets.Listeners(name)
		if err != nil {
			log.Fatal(err)
		}
		switch name {
		case "tls":
			server := a.server()
			if server.TLSConfig, err = secure(w.certificate); err != nil {
				log.Fatal(err)
			}
			g.HTTP(server, listeners...)
		case "tcp":
			a.serveRaw(ctx, &raw, listeners)
		default:
			g.HTTP(a.server(), listeners...)
		}
	}
	if len(sockets.Names()) == 0 {
		server := a.server()
		server.Addr = w.listen
		g.HTTP(server)
	}
	err = g.Serve(ctx)
	raw.Wait()
	w.left(a, err)
}

func (a *app) server() *http.Server { return &http.Server{Handler: a, Protocols: protocols()} }

func (a *app) serveRaw(ctx context.Context, raw *sync.WaitGroup, listeners []net.Listener) {
	for _, l := range listeners {
		context.AfterFunc(ctx, func() { l.Close() })
		raw.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				raw.Go(func() {
					defer conn.Close()
					a.messages(ctx, message.Framed(conn))
				})
			}
		})
	}
}
