package ipc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// Limits on what a client can make last. Streams have none, but each write does:
// a reader that stops is gone after limits.write.
type limits struct {
	header    time.Duration // until a request's header is there
	body      time.Duration // and its body
	write     time.Duration // for each write
	idle      time.Duration // between two requests
	heartbeat time.Duration // how often a stream says that it is alive
	progress  time.Duration // how often a client is told that its answer takes longer
	farewell  time.Duration // for a stream to come to its own end, when the server ends
}

// heartbeat is what clients go by: three of them missing, and nobody is there.
const heartbeat = 15 * time.Second

var usual = limits{
	header:    5 * time.Second,
	body:      10 * time.Second,
	write:     15 * time.Second,
	idle:      time.Minute,
	heartbeat: heartbeat,
	progress:  answerTime / 3,
	farewell:  time.Second,
}

const maxHeader = 16 << 10

// A Server answers requests on the control socket.
type Server struct {
	supervisor Supervisor
	http       *http.Server
	role       func(Caller) Role
	limits     limits
	begin      sync.Once
	ending     context.Context // done when streams are cut off
	end        context.CancelFunc
	closing    context.Context // done before that, when the end has begun
	close      context.CancelFunc
}

// NewServer returns a server for s. Errors that cannot be sent to a client are written
// to faults.
func NewServer(s Supervisor, faults io.Writer) *Server {
	srv := &Server{supervisor: s, role: newJudge().role, limits: usual}
	srv.ending, srv.end = context.WithCancel(context.Background())
	srv.closing, srv.close = context.WithCancel(srv.ending)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	srv.http = &http.Server{
		Handler:        http.HandlerFunc(srv.handle),
		Protocols:      protocols,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       log.New(faults, "", 0),
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return withCaller(ctx, c.(*conn).caller) },
		// OPTIONS * would be answered without asking who wants to know.
		DisableGeneralOptionsHandler: true,
	}
	return srv
}

// Serve serves l until Shutdown, or until l is closed, and closes l. It may be called
// for several listeners. Its error is never nil; after Shutdown it is
// [http.ErrServerClosed].
func (s *Server) Serve(l *net.UnixListener) error {
	s.begin.Do(func() { s.http.ReadHeaderTimeout, s.http.IdleTimeout = s.limits.header, s.limits.idle })
	return s.http.Serve(newDoor(l, s.role))
}

// Shutdown closes the listener, cuts streams off, and waits until all other
// requests are answered or ctx is done. Streams of events have a moment to say what
// they have yet to say, and that this is their end. After it nothing of the server is
// left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	defer time.AfterFunc(s.limits.farewell, s.end).Stop()
	defer s.end()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// handle is what every request goes through: is it plain HTTP/1.1, is there such
// a thing, may this caller have it, can it be read.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	defer s.survive(w)
	if err := s.serve(w, r); err != nil {
		s.refuse(w, err)
	}
}

// survive ends a request that panics, and nothing else.
func (s *Server) survive(w http.ResponseWriter) {
	switch r := recover(); r {
	case nil:
	case http.ErrAbortHandler:
		panic(r) // net/http's way to break an answer off
	default:
		s.fault(r)
		s.refuse(w, &Error{Code: Internal, Message: "supervisord failed to answer this; its log has more"})
	}
}

// fault notes a panic.
func (s *Server) fault(r any) { s.http.ErrorLog.Printf("cannot answer: %v\n%s", r, debug.Stack()) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if err := plainHTTP(r); err != nil {
		return err
	}
	caller, ok := callerOf(r.Context())
	role := s.role(caller)
	if !ok || role == Nobody {
		return &Error{Code: Denied, Message: "only root and supervisord's own user may use its control socket"}
	}
	route, id, err := find(r.Method, r.URL.Path)
	if err != nil {
		return err
	}
	if role < route.Role {
		return &Error{Code: Denied, Message: "you may not do this: it takes the role " + route.Role.String()}
	}
	body, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	if err := checkRequest(r.Header.Values(requestHeader)); err != nil {
		return err
	}
	q := &request{caller: caller, query: query, id: id, again: r.Header.Get(requestHeader), body: body}
	if route.stream != nil {
		return s.stream(w, r, route, func(ctx context.Context) (items, error) { return route.stream(ctx, s.supervisor, q) })
	}
	v, err := s.answer(w, func() (any, error) { return route.answer(s.supervisor, q) })
	if err != nil {
		return err
	}
	return s.send(w, status(route), v)
}

// answer waits for an answer. A client goes away when it hears nothing, so it is
// told by a status of 100, as often as needed, that it has been heard. (Of the
// interim statuses it is the one that every client passes over.)
func (s *Server) answer(w http.ResponseWriter, ask func() (any, error)) (any, error) {
	answered, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		s.reassure(w, answered)
	}()
	defer func() { close(answered); <-over }() // w is for one at a time
	return ask()
}

func (s *Server) reassure(w http.ResponseWriter, answered <-chan struct{}) {
	ticker := time.NewTicker(s.limits.progress)
	defer ticker.Stop()
	for {
		select {
		case <-answered:
			return
		case <-ticker.C:
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write))
			w.WriteHeader(http.StatusContinue)
		}
	}
}

// status of the answer: a job is only accepted.
func status(r *Route) int {
	if r.Method == "POST" && r.Path == "/v1/jobs" {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// readBody takes at most maxBody bytes, within limits.body.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.Method == "GET" {
		return nil, usage("a GET has no body")
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(s.limits.body))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &refusal{http.StatusRequestEntityTooLarge, usage("cannot read the request: it is longer than %d bytes, or did not come in time", maxBody)}
	}
	rc.SetReadDeadline(time.Time{})
	return body, nil
}

// send writes a whole answer.
func (s *Server) send(w http.ResponseWriter, status int, v any) error {
	text, err := Encode(v)
	if err != nil {
		return err
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text) // a client that is gone is told nothing
	return nil
}

// A refusal is an error with a status of its own.
type refusal struct {
	status int
	err    *Error
}

func (r *refusal) Error() string { return r.err.Message }
func (r *refusal) Unwrap() error { return r.err }

// refuse answers with an error, and takes nothing more from this connection:
// what follows on it may not be what it seems.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	e := &Error{Code: Internal, Message: err.Error()}
	errors.As(err, &e)
	status := e.Code.Meaning().HTTP
	var r *refusal
	if errors.As(err, &r) {
		status = r.status
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Connection", "close")
	s.send(w, status, e)
}

// answerError is the error in an answer's body.
func answerError(status string, body []byte) *Error {
	var e Error
	if json.Unmarshal(bytes.TrimSpace(body), &e) != nil || e.Message == "" {
		return &Error{Code: Internal, Message: "supervisord answers " + status}
	}
	return &e
}
