package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
)

// largest is how much of a request's body is answered.
const largest = 1 << 20

// A server is an http.Server that counts. It leaves as examples/hello does.
type server struct {
	http.Server
	listeners []net.Listener
	accepting sync.WaitGroup
	leaving   atomic.Bool

	accepted, answered, open atomic.Int64
}

func serve(listeners []net.Listener) *server {
	s := &server{listeners: listeners}
	s.Handler = http.HandlerFunc(s.echo)
	s.ConnState = s.track
	for _, l := range listeners {
		s.accepting.Go(func() {
			err := s.Serve(l)
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				log.Fatal(err)
			}
		})
	}
	return s
}

func (s *server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.accepted.Add(1)
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// echo answers with who it is and with what it was asked, so that a client can
// tell its own answer from any other.
func (s *server) echo(w http.ResponseWriter, r *http.Request) {
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "%d %s %s\n", os.Getpid(), r.Method, r.URL.Path)
	if _, err := io.Copy(&answer, http.MaxBytesReader(w, r.Body, largest)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Len()))
	w.Write(answer.Bytes())
	s.answered.Add(1)
}

// close stops accepting. When it returns, each connection that was accepted is
// counted.
func (s *server) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.accepting.Wait()
}

func (s *server) leave(patience time.Duration) error {
	s.leaving.Store(true)
	s.close()
	for end := time.Now().Add(patience); s.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return s.shutdown()
}

// shutdown waits for longer than the 5 s for which net/http takes a connection
// without a request for one that is at work.
func (s *server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}

func (s *server) count() ledger.Entry {
	return ledger.Entry{
		Accepted: s.accepted.Load(),
		Answered: s.answered.Load(),
		Open:     s.open.Load(),
	}
}
