package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/message"
)

// largest is how much of a request's body is answered.
const largest = 1 << 20

// An app is what the worker does for its clients, however it is served. It
// answers with who it is and with what it was asked, so that a client can tell its
// own answer from any other.
type app struct {
	answered atomic.Int64
	leaving  atomic.Bool // answers end their HTTP connections

	// moving returns a context that is done when a WebSocket is to move.
	moving func(*http.Request) context.Context
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		a.webSocket(w, r)
		return
	}
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "%d %s %s\n", os.Getpid(), r.Method, r.URL.RequestURI())
	if _, err := io.Copy(&answer, http.MaxBytesReader(w, r.Body, largest)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pause(r, r.URL.Query().Get("take"))
	if a.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	if long, err := time.ParseDuration(r.URL.Query().Get("stream")); err == nil {
		a.stream(w, r, answer.Bytes(), long)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Len()))
	w.Write(answer.Bytes())
	a.answered.Add(1)
}

// pause is for as long as a request asks for, if it does.
func pause(r *http.Request, wish string) {
	if long, err := time.ParseDuration(wish); err == nil {
		select {
		case <-time.After(long):
		case <-r.Context().Done():
		}
	}
}

// stream answers with a part at each beat.
func (a *app) stream(w http.ResponseWriter, r *http.Request, head []byte, long time.Duration) {
	beat := time.NewTicker(load.Beat)
	defer beat.Stop()
	flush := http.NewResponseController(w)
	w.Write(head)
	for range long / load.Beat {
		select {
		case <-beat.C:
		case <-r.Context().Done():
			return
		}
		io.WriteString(w, load.Part)
		flush.Flush()
	}
	a.answered.Add(1)
}

func (a *app) webSocket(w http.ResponseWriter, r *http.Request) {
	m, err := message.Accept(w, r)
	if err != nil {
		return // the client has its answer
	}
	defer m.Close()
	a.messages(a.moving(r), m)
}

// messages answers each message until the client ends the connection. When moving
// is done, it asks for that.
func (a *app) messages(moving context.Context, m message.Conn) {
	stop := context.AfterFunc(moving, func() { m.Send(nil) })
	defer stop()
	for a.answer(m) == nil {
	}
}

// answer answers one message.
func (a *app) answer(m message.Conn) error {
	q, err := m.Receive()
	if err != nil {
		return err
	}
	if err := m.Send(fmt.Appendf(nil, "%d %s", os.Getpid(), q)); err != nil {
		return err
	}
	a.answered.Add(1)
	return nil
}
