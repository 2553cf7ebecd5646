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
	"time"
)

// Limits on what a client can make last. Streams have none, but each write does:
// a reader that stops is gone after writeTimeout.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	writeTimeout  = 15 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10
)

// heartbeat is how often a stream says that it is alive.
const heartbeat = 15 * time.Second

// A Server answers on the control socket.
type Server struct {
	supervisor Supervisor
	http       *http.Server
	judge      judge
	heartbeat  time.Duration
	ending     context.Context
	end        context.CancelFunc
}

// NewServer makes a server of s. Errors that no client can be told go to faults.
func NewServer(s Supervisor, faults io.Writer) *Server {
	srv := &Server{supervisor: s, judge: newJudge(), heartbeat: heartbeat}
	srv.ending, srv.end = context.WithCancel(context.Background())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	srv.http = &http.Server{
		Handler:           http.HandlerFunc(srv.handle),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// OPTIONS * would be answered without asking who wants to know.
		DisableGeneralOptionsHandler: true,
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return withCaller(ctx, c.(*conn).caller) },
		ErrorLog:                     log.New(faults, "", 0),
	}
	return srv
}

// Serve answers until Shutdown, and closes l. Its error is never nil; after
// Shutdown it is [http.ErrServerClosed].
func (s *Server) Serve(l *net.UnixListener) error {
	return s.http.Serve(newDoor(l, s.judge))
}

// Shutdown closes the listener, cuts streams off, and waits until all other
// requests are answered or ctx is done. After it nothing of the server is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// handle is what every request goes through: is it plain HTTP/1.1, is there such
// a thing, may this caller have it, can it be read.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if err := s.serve(w, r); err != nil {
		refuse(w, err)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if err := plainHTTP(r); err != nil {
		return err
	}
	caller, ok := callerOf(r.Context())
	role := s.judge.role(caller)
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
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	q := &request{caller: caller, query: query, id: id, body: body}
	if route.stream != nil {
		return s.stream(w, r, func(ctx context.Context) (items, error) { return route.stream(ctx, s.supervisor, q) })
	}
	v, err := route.answer(s.supervisor, q)
	if err != nil {
		return err
	}
	return send(w, status(route), v)
}

// status of the answer: a job is only accepted.
func status(r *Route) int {
	if r.Method == "POST" && r.Path == "/v1/jobs" {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// readBody takes at most maxBody bytes, within bodyTimeout.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.Method == "GET" {
		return nil, usage("a GET has no body")
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &refusal{http.StatusRequestEntityTooLarge, usage("cannot read the request: it is longer than %d bytes, or did not come in time", maxBody)}
	}
	rc.SetReadDeadline(time.Time{})
	return body, nil
}

// send writes a whole answer.
func send(w http.ResponseWriter, status int, v any) error {
	text, err := Encode(v)
	if err != nil {
		return err
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
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
func refuse(w http.ResponseWriter, err error) {
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
	send(w, status, e)
}

// answerError is the error in an answer's body.
func answerError(status string, body []byte) *Error {
	var e Error
	if json.Unmarshal(bytes.TrimSpace(body), &e) != nil || e.Message == "" {
		return &Error{Code: Internal, Message: "supervisord answers " + status}
	}
	return &e
}
