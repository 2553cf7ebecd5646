package worker

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// connKey is the key under which a request's context has its *conn.
type connKey struct{}

// Leaving returns a context that is done when a connection should be left: a
// WebSocket's client asked to connect again, a stream of events ended. ctx is that of
// an HTTP request or of a handler of [Group.Conns], or one derived from it.
//
// When a process leaves, those who have called Leaving are told one after the
// other, over at most four fifths of the drain time; the context's cause is
// [ErrLeaving] then. Serve waits until the drain time is over for whoever does not
// go. The context is done as well when the connection ends, with net.ErrClosed as its
// cause, and not before: it outlives the request, so that it is good after
// [http.Hijacker.Hijack]. Outside of a server of this package it is never done.
func Leaving(ctx context.Context) context.Context {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.whenLeaving()
	}
	return context.Background()
}

// httpProtocol serves HTTP by an http.Server.
type httpProtocol struct {
	group     *Group
	srv       *http.Server
	handler   http.Handler
	connState func(net.Conn, http.ConnState)
	options   bool // OPTIONS * is not the handler's

	// goAway serves the HTTP/2 connections of srv. Shutdown is the only way to send
	// them GOAWAY, and srv's would end its HTTP/1.1 connections as well, so it is
	// this server that is shut down. Nil: srv has an HTTP/2 of its own, or none.
	goAway *http.Server
}

// open puts the group between srv and what its user has set.
func (h *httpProtocol) open() error {
	if h.srv.TLSNextProto == nil {
		if err := h.splitHTTP2(); err != nil {
			return err
		}
	}
	h.handler, h.connState, h.options = h.srv.Handler, h.srv.ConnState, !h.srv.DisableGeneralOptionsHandler
	if h.handler == nil {
		h.handler = http.DefaultServeMux
	}
	h.srv.Handler, h.srv.ConnState, h.srv.DisableGeneralOptionsHandler = h, h.state, true
	if base := h.srv.BaseContext; base != nil {
		h.srv.BaseContext = func(l net.Listener) context.Context { return base(plainListener(l)) }
	}
	h.srv.ConnContext = h.connContext(h.srv.ConnContext)
	return nil
}

// connContext has each request know its connection.
func (h *httpProtocol) connContext(users func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if in := h.group.conns.find(c); in != nil {
			ctx = context.WithValue(ctx, connKey{}, in)
		}
		if users == nil {
			return ctx
		}
		return users(ctx, plainConn(c))
	}
}

// splitHTTP2 makes goAway. An http.Server gets its HTTP/2 when it first serves,
// for which a socket that fails at once will do.
func (h *httpProtocol) splitHTTP2() error {
	goAway := &http.Server{
		Protocols:   h.srv.Protocols,
		HTTP2:       h.srv.HTTP2,
		TLSConfig:   h.srv.TLSConfig.Clone(),
		IdleTimeout: h.srv.IdleTimeout,
		ReadTimeout: h.srv.ReadTimeout,
		ErrorLog:    h.srv.ErrorLog,
	}
	serve := goAway.Serve
	if h.secure() {
		serve = func(l net.Listener) error { return goAway.ServeTLS(l, "", "") }
	}
	if err := serve(noListener{}); !errors.Is(err, net.ErrClosed) {
		return err // such as of cipher suites that HTTP/2 does not allow
	}
	if len(goAway.TLSNextProto) > 0 {
		h.goAway = goAway
		h.srv.TLSNextProto = goAway.TLSNextProto
	}
	return nil
}

func (h *httpProtocol) secure() bool {
	c := h.srv.TLSConfig
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

// address is what ListenAndServe and ListenAndServeTLS listen on.
func (h *httpProtocol) address() string {
	switch {
	case h.srv.Addr != "":
		return h.srv.Addr
	case h.secure():
		return ":https"
	}
	return ":http"
}

// takes is what may be handed over: without TLS, whose keys are here.
func (h *httpProtocol) takes() kind {
	if h.secure() {
		return 0
	}
	return idleHTTP1
}

// patience is net/http's: the first head has to come in time, then the first byte of
// the next one.
func (h *httpProtocol) patience(fresh bool) time.Duration {
	if fresh {
		return max(0, cmp.Or(h.srv.ReadHeaderTimeout, h.srv.ReadTimeout))
	}
	return max(0, cmp.Or(h.srv.IdleTimeout, h.srv.ReadTimeout))
}

func (h *httpProtocol) serve(l net.Listener, encrypted bool) error {
	if h.secure() && !encrypted {
		return h.srv.ServeTLS(l, "", "")
	}
	return h.srv.Serve(l)
}

// ServeHTTP serves a request. A client that is told "Connection: close" sends
// nothing more there, so that closing loses nothing; to HTTP/2 it means GOAWAY.
func (h *httpProtocol) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.asked(r.ProtoMajor)
		if c.stays() {
			w.Header().Set("Connection", "close")
		}
	}
	if h.options && r.RequestURI == "*" && r.Method == http.MethodOptions {
		serveOptions(w, r)
		return
	}
	h.handler.ServeHTTP(w, r)
}

// serveOptions is net/http's, which would not come by here.
func serveOptions(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "0")
	if r.ContentLength != 0 {
		io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 4<<10))
	}
}

// state follows what srv says of its connections.
func (h *httpProtocol) state(c net.Conn, state http.ConnState) {
	if in := h.group.conns.find(c); in != nil {
		in.says(state)
		if state == http.StateActive && h.group.leaving.Load() && !in.speaksHTTP1() {
			h.sendGoAway() // it came in while the others were told
		}
		if state == http.StateClosed && isTLS(in.Conn) {
			in.kill() // which was closed by itself
		}
	}
	if h.connState != nil {
		h.connState(plainConn(c), state)
	}
}

// leave calls what was registered by RegisterOnShutdown, as Shutdown would.
func (h *httpProtocol) leave() {
	for _, f := range takeOnShutdown(h.srv) {
		go f()
	}
	h.sendGoAway()
}

func (h *httpProtocol) sendGoAway() {
	if h.goAway != nil {
		h.goAway.Shutdown(context.Background()) // has no connection of its own to wait for
	}
}

// shutdown waits for requests until ctx is done.
func (h *httpProtocol) shutdown(ctx context.Context) {
	h.srv.Shutdown(ctx)
}

// plainListener and plainConn give the user's functions what they would get
// without this package, if that is a plain one.
func plainListener(l net.Listener) net.Listener {
	switch l := l.(type) {
	case *door:
		return l.Listener
	case *inbox:
		return l.Listener
	}
	return l
}

func plainConn(c net.Conn) net.Conn {
	if in, ok := c.(interface{ known() *conn }); ok {
		return in.known().Conn
	}
	return c
}

// A noListener accepts nothing.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.UnixAddr{Net: "unix"} }
