package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// connKey is the key under which a request's context has its *conn.
type connKey struct{}

// Leaving returns a context that is done when the connection of an HTTP request
// should be left: a WebSocket's client asked to connect again, a stream of events
// ended. ctx is the request's context or one derived from it. After the request
// was hijacked the returned context is good still.
//
// When a process leaves, those who have called Leaving are told one after the
// other, over at most four fifths of the drain time. Serve waits until the drain
// time is over for whoever does not go. Outside of a server of this package
// the context is never done.
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

func newHTTP(g *Group, srv *http.Server) *httpProtocol {
	h := &httpProtocol{group: g, srv: srv, handler: srv.Handler, connState: srv.ConnState}
	if h.handler == nil {
		h.handler = http.DefaultServeMux
	}
	h.options = !srv.DisableGeneralOptionsHandler
	srv.Handler, srv.DisableGeneralOptionsHandler = h, true
	srv.ConnState = h.state
	if base := srv.BaseContext; base != nil {
		srv.BaseContext = func(l net.Listener) context.Context { return base(plainListener(l)) }
	}
	connContext := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if in := connOf(c); in != nil {
			ctx = context.WithValue(ctx, connKey{}, in)
		}
		if connContext == nil {
			return ctx
		}
		return connContext(ctx, plainConn(c))
	}
	if srv.TLSNextProto == nil {
		h.splitHTTP2()
	}
	return h
}

// splitHTTP2 makes goAway. An http.Server gets its HTTP/2 when it first serves,
// for which a socket that fails at once will do.
func (h *httpProtocol) splitHTTP2() {
	goAway := &http.Server{Protocols: h.srv.Protocols, HTTP2: h.srv.HTTP2, IdleTimeout: h.srv.IdleTimeout, ReadTimeout: h.srv.ReadTimeout, ErrorLog: h.srv.ErrorLog}
	goAway.Serve(noListener{})
	if len(goAway.TLSNextProto) > 0 {
		h.goAway = goAway
		h.srv.TLSNextProto = goAway.TLSNextProto
	}
}

func (h *httpProtocol) secure() bool {
	c := h.srv.TLSConfig
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

func (h *httpProtocol) defaultAddress() string {
	if h.secure() {
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

func (h *httpProtocol) patience() time.Duration {
	if h.srv.IdleTimeout != 0 {
		return h.srv.IdleTimeout
	}
	return h.srv.ReadTimeout
}

func (h *httpProtocol) serve(l net.Listener) error {
	if h.secure() {
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
	if h.group.leaving.Load() && state == http.StateActive && isHTTP2(c) {
		h.leave() // it came in while the others were told
	}
	if state == http.StateIdle {
		if in, ok := c.(*conn); ok {
			in.answered()
		}
	}
	if h.connState != nil {
		h.connState(plainConn(c), state)
	}
}

func isHTTP2(c net.Conn) bool {
	t, ok := c.(*tls.Conn)
	return ok && t.ConnectionState().NegotiatedProtocol == "h2"
}

func (h *httpProtocol) leave() {
	if h.goAway != nil {
		h.goAway.Shutdown(context.Background()) // has no connection of its own to wait for
	}
}

// shutdown ends what is still there.
func (h *httpProtocol) shutdown(ctx context.Context) error {
	err := h.srv.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(err, h.srv.Close())
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
	if in, ok := c.(*conn); ok {
		return in.Conn
	}
	return c
}

// A noListener accepts nothing.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.UnixAddr{Net: "unix"} }
