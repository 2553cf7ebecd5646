// Hello is a web server that can be replaced while it serves. It takes its
// listening sockets from the supervisor, reports when it is ready, and shuts down
// without closing a connection while a request is on it.
//
// Started by hand (go run ./examples/hello), it binds 127.0.0.1:8080 itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// version is part of each response. Set it with go build -ldflags "-X main.version=2".
var version = "1"

func main() {
	log.SetFlags(0)
	if version == "" {
		log.Fatal("cannot start: built without a version")
	}
	listeners, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)

	s := serve(listeners, http.HandlerFunc(hello))
	daemon.SdNotify(false, daemon.SdNotifyReady)
	log.Printf("version %s is ready, pid %d", version, os.Getpid())

	<-terminate
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	if err := s.leave(5 * time.Second); err != nil {
		log.Fatal(err)
	}
	log.Printf("version %s has stopped, pid %d", version, os.Getpid())
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello from version %s, pid %d\n", version, os.Getpid())
}

// listen returns the sockets that the supervisor passed, or a socket of our own if
// there are none.
func listen() ([]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) > 0 {
		return listeners, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	return []net.Listener{l}, err
}

// A server is an http.Server that counts its open connections.
type server struct {
	http.Server
	listeners []net.Listener
	accepting sync.WaitGroup
	open      atomic.Int64
	leaving   atomic.Bool
}

func serve(listeners []net.Listener, h http.Handler) *server {
	s := &server{listeners: listeners}
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		}
	}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
	for _, l := range listeners {
		s.accepting.Go(func() {
			if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
				log.Fatal(err)
			}
		})
	}
	return s
}

// leave stops accepting, so that new connections go to the next process, and tells
// each client in its next response that the connection is closing. Shutdown comes
// last, because it closes idle connections at once, even if a request is already on
// the wire.
func (s *server) leave(patience time.Duration) error {
	s.leaving.Store(true)
	for _, l := range s.listeners {
		l.Close()
	}
	s.accepting.Wait() // from here on, open counts every connection
	for end := time.Now().Add(patience); s.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Shutdown(ctx)
}
