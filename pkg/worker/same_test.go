package worker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

// A view is what is seen of a server, from inside and from its client.
type view struct {
	t       *testing.T
	address net.Addr
	conns   []net.Conn

	mu     sync.Mutex
	news   *sync.Cond
	server []string // by the handler and the other functions of the http.Server
	client []string
}

func newView(t *testing.T) *view {
	v := &view{t: t}
	v.news = sync.NewCond(&v.mu)
	return v
}

// sees notes what the server sees.
func (v *view) sees(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.server = append(v.server, fmt.Sprintf(format, args...))
	v.news.Broadcast()
}

// gets notes what the client gets.
func (v *view) gets(format string, args ...any) {
	v.client = append(v.client, fmt.Sprintf(format, args...))
}

// await waits until the server has seen n things.
func (v *view) await(n int) {
	v.t.Helper()
	late := time.AfterFunc(patience, v.news.Broadcast)
	defer late.Stop()
	end := time.Now().Add(patience)
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.server) < n {
		if time.Now().After(end) {
			v.t.Fatalf("the server sees no more than %q", v.server)
		}
		v.news.Wait()
	}
}

func (v *view) dial() net.Conn {
	v.t.Helper()
	c, err := net.Dial(v.address.Network(), v.address.String())
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	v.conns = append(v.conns, c)
	return c
}

// send writes what it is told and returns the client's end.
func (v *view) send(format string, args ...any) *bufio.Reader {
	v.t.Helper()
	c := v.dial()
	fmt.Fprintf(c, format, args...)
	return bufio.NewReader(c)
}

// answer notes the next answer.
func (v *view) answer(r *bufio.Reader) {
	resp, err := http.ReadResponse(r, nil)
	v.notes(resp, err)
}

func (v *view) notes(resp *http.Response, err error) {
	if err != nil {
		v.gets("%v", outcome(err))
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	v.gets("%s %d %q close=%v", resp.Proto, resp.StatusCode, body, resp.Close)
	if err != nil {
		v.gets("%v", outcome(err))
	}
}

// end notes how the connection ends.
func (v *view) end(r *bufio.Reader) {
	rest, err := io.ReadAll(r)
	v.gets("%q, then %v", rest, outcome(err))
}

// outcome is an error without addresses.
func outcome(err error) string {
	switch {
	case err == nil:
		return "end"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "cut off"
	}
	return err.Error()
}

// get asks by net/http's client.
func (v *view) get(url string, change ...func(*http.Transport)) {
	v.t.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, v.address.Network(), v.address.String())
		},
	}
	defer transport.CloseIdleConnections()
	for _, c := range change {
		c(transport)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
	v.notes(resp, err)
}

func get2(v *view) { v.get("https://x/") }

func h2c(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
}

// describe is a handler that answers with what it was asked, and how.
func (v *view) describe(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	v.sees("%s %s %s tls=%v body=%d %v", r.Method, r.RequestURI, r.Proto, r.TLS != nil, len(body), outcome(err))
	fmt.Fprint(w, "hello")
}

func (v *view) handler() http.Handler { return http.HandlerFunc(v.describe) }

// hijacker notes what a hijacked connection can do, and sends its client home.
func (v *view) hijacker() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			v.sees("%v", err)
			return
		}
		defer c.Close()
		line, _ := rw.ReadString('\n')
		v.sees("%q, %v", line, abilities(c))
		fmt.Fprint(rw, "bye\n")
		rw.Flush()
		c.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, c)
	})
}

func abilities(c net.Conn) (can []string) {
	for name, has := range map[string]bool{
		"CloseRead":       is[interface{ CloseRead() error }](c),
		"CloseWrite":      is[interface{ CloseWrite() error }](c),
		"ConnectionState": is[interface{ ConnectionState() tls.ConnectionState }](c),
		"File":            is[interface{ File() (*os.File, error) }](c),
		"ReadFrom":        is[io.ReaderFrom](c),
		"SetNoDelay":      is[interface{ SetNoDelay(bool) error }](c),
		"SetLinger":       is[interface{ SetLinger(int) error }](c),
		"WriteTo":         is[io.WriterTo](c),
		"SetReadBuffer":   is[interface{ SetReadBuffer(int) error }](c),
		"SyscallConn":     is[syscall.Conn](c),
	} {
		if has {
			can = append(can, name)
		}
	}
	slices.Sort(can)
	return can
}

func is[T any](c net.Conn) bool {
	_, ok := c.(T)
	return ok
}

// A listener that is not package net's own.
type ownListener struct {
	net.Listener
	accept func(net.Conn) net.Conn
}

func (l ownListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.accept(c), nil
}

// A closingListener says how often it is closed.
type closingListener struct {
	net.Listener
	v *view
}

func (l closingListener) Close() error {
	l.v.sees("closed")
	return l.Listener.Close()
}

type ownConn struct{ net.Conn }

type statedConn struct{ net.Conn }

func (statedConn) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

func own(accept func(net.Conn) net.Conn) func(*view) net.Listener {
	return func(v *view) net.Listener { return ownListener{tcp(v), accept} }
}

func tcp(v *view) net.Listener { return v.listen("tcp", "127.0.0.1:0") }

func (v *view) listen(network, address string) net.Listener {
	v.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { l.Close() })
	return l
}

func withTLS(protocols ...string) func(*view) net.Listener {
	return func(v *view) net.Listener {
		config := certificate()
		config.NextProtos = protocols
		return tls.NewListener(tcp(v), config)
	}
}

func protocols(set ...func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	for _, s := range set {
		s(p, true)
	}
	return p
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// soon is a time limit in tests that wait for it to be over.
const soon = 20 * time.Millisecond

type contextKey struct{}

func init() {
	http.HandleFunc("/default", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "of the default mux") })
}

// Each row is served by net/http, and by this package, and looks the same.
var sameRows = []struct {
	name   string
	listen func(*view) net.Listener // nil: tcp
	server func(*view) *http.Server
	tls    bool // net/http is called by ServeTLS
	client func(*view)
	after  func(*view) // of a client that stays until the server has ended
	sees   []string    // the server
	gets   []string    // the client
}{
	// What is asked.
	{
		name:   "Get",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"GET / HTTP/1.1 tls=false body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name:   "HTTP1.0",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send("GET / HTTP/1.0\r\n\r\n")) },
		sees:   []string{"GET / HTTP/1.0 tls=false body=0 end"},
		gets:   []string{`HTTP/1.0 200 "hello" close=true`},
	},
	{
		name:   "ExpectContinue",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) {
			r := v.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
			v.answer(r)
			v.answer(r)
		},
		sees: []string{"POST / HTTP/1.1 tls=false body=2 end"},
		gets: []string{`HTTP/1.1 100 "" close=false`, `HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "BodyThatIsTooLarge",
		server: func(*view) *http.Server {
			return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1))
			})}
		},
		client: func(v *view) { v.answer(v.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nhey")) },
		gets:   []string{`HTTP/1.1 200 "" close=true`},
	},
	{
		name:   "Hijack",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.hijacker()} },
		client: func(v *view) { v.end(v.send(request + "hey\n")) },
		sees:   []string{`"hey\n", [CloseRead CloseWrite File ReadFrom SetLinger SetNoDelay SetReadBuffer SyscallConn WriteTo]`},
		gets:   []string{`"bye\n", then end`},
	},
	{
		name: "HijackTLS",
		tls:  true,
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.hijacker(), TLSConfig: certificate(), Protocols: protocols((*http.Protocols).SetHTTP1)}
		},
		client: func(v *view) {
			c := tls.Client(v.dial(), &tls.Config{InsecureSkipVerify: true})
			fmt.Fprint(c, request+"hey\n")
			v.end(bufio.NewReader(c))
		},
		sees: []string{`"hey\n", [CloseWrite ConnectionState]`},
		gets: []string{`"bye\n", then end`},
	},
	// The options of http.Server.
	{
		name:   "NoHandler",
		server: func(*view) *http.Server { return &http.Server{} },
		client: func(v *view) { v.answer(v.send("GET /default HTTP/1.1\r\nHost: x\r\n\r\n")) },
		gets:   []string{`HTTP/1.1 200 "of the default mux" close=false`},
	},
	{
		name:   "ReadTimeout",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler(), ReadTimeout: 20 * soon} }, // the head has to arrive
		client: func(v *view) {
			r := v.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nh")
			v.answer(r)
			v.end(r)
		},
		sees: []string{"POST / HTTP/1.1 tls=false body=1 timeout"},
		gets: []string{`HTTP/1.1 200 "hello" close=true`, `"", then end`},
	},
	{
		name:   "ReadHeaderTimeout",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler(), ReadHeaderTimeout: soon} },
		client: func(v *view) { v.end(v.send("")) }, // with half a head the answer depends on when it is read
		gets:   []string{`"", then end`},
	},
	{
		name:   "IdleTimeout",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler(), IdleTimeout: soon} },
		client: func(v *view) {
			r := v.send(request)
			v.answer(r)
			v.end(r)
		},
		sees: []string{"GET / HTTP/1.1 tls=false body=0 end"},
		gets: []string{`HTTP/1.1 200 "hello" close=false`, `"", then end`},
	},
	{
		name: "WriteTimeout",
		server: func(v *view) *http.Server {
			return &http.Server{WriteTimeout: soon, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						v.sees("%v", outcome(err))
						return
					}
				}
			})}
		},
		client: func(v *view) {
			r := v.send(request)
			v.await(1)
			resp, err := http.ReadResponse(r, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			v.gets("%v", outcome(err))
		},
		sees: []string{"timeout"},
		gets: []string{"cut off"},
	},
	{
		name:   "MaxHeaderBytes",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler(), MaxHeaderBytes: 1} },
		client: func(v *view) {
			v.answer(v.send("GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 4096)))
		},
		gets: []string{`HTTP/1.1 431 "431 Request Header Fields Too Large" close=true`},
	},
	{
		name: "ConnState",
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
				ConnState: func(c net.Conn, s http.ConnState) { v.sees("%T %v", c, s) },
			}
		},
		client: func(v *view) { v.answer(v.send(request)); v.await(3) },
		sees:   []string{"*net.TCPConn new", "*net.TCPConn active", "*net.TCPConn idle", "*net.TCPConn closed"},
		gets:   []string{`HTTP/1.1 200 "" close=false`},
	},
	{
		name: "ConnStateHTTP2",
		tls:  true,
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
				TLSConfig: certificate(),
				ConnState: func(c net.Conn, s http.ConnState) { v.sees("%T %v", c, s) },
			}
		},
		client: get2,
		sees:   []string{"*tls.Conn new", "*tls.Conn active", "*tls.Conn idle", "*tls.Conn active", "*tls.Conn idle", "*tls.Conn closed"},
		gets:   []string{`HTTP/2.0 200 "" close=false`},
	},
	{
		name: "Contexts",
		server: func(v *view) *http.Server {
			srv := &http.Server{
				Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, local := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
					_, server := r.Context().Value(http.ServerContextKey).(*http.Server)
					v.sees("%v, server %v, address %v", r.Context().Value(contextKey{}), server, local)
				}),
				BaseContext: func(l net.Listener) context.Context {
					return context.WithValue(context.Background(), contextKey{}, fmt.Sprintf("%T", l))
				},
				ConnContext: func(ctx context.Context, c net.Conn) context.Context {
					return context.WithValue(ctx, contextKey{}, fmt.Sprintf("%v %T", ctx.Value(contextKey{}), c))
				},
			}
			return srv
		},
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"*net.TCPListener *net.TCPConn, server true, address true"},
		gets:   []string{`HTTP/1.1 200 "" close=false`},
	},
	{
		name: "ErrorLog",
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("of the handler") }),
				ErrorLog: log.New(firstWords{v}, "", 0),
			}
		},
		client: func(v *view) { v.end(v.send(request)) },
		sees:   []string{"http: panic serving"},
		gets:   []string{`"", then end`},
	},
	{
		name:   "TLSConfig",
		tls:    true,
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler(), TLSConfig: certificate()} },
		client: get2,
		sees:   []string{"GET / HTTP/2.0 tls=true body=0 end"},
		gets:   []string{`HTTP/2.0 200 "hello" close=false`},
	},
	{
		name: "TLSConfigForClient",
		tls:  true,
		server: func(v *view) *http.Server {
			config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return certificate(), nil }}
			return &http.Server{Handler: v.handler(), TLSConfig: config}
		},
		client: get2,
		sees:   []string{"GET / HTTP/1.1 tls=true body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "NoTLSNextProto",
		tls:  true,
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.handler(), TLSConfig: certificate(), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
		},
		client: get2,
		sees:   []string{"GET / HTTP/1.1 tls=true body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "TLSNextProto",
		tls:  true,
		server: func(v *view) *http.Server {
			config := certificate()
			config.NextProtos = []string{"own"}
			return &http.Server{Handler: v.handler(), TLSConfig: config, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
				"own": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
					v.sees("own protocol")
					fmt.Fprint(c, "hi")
				},
			}}
		},
		client: func(v *view) {
			c := tls.Client(v.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"own"}})
			v.end(bufio.NewReader(c))
		},
		sees: []string{"own protocol"},
		gets: []string{`"hi", then end`},
	},
	{
		name: "ProtocolsHTTP1",
		tls:  true,
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.handler(), TLSConfig: certificate(), Protocols: protocols((*http.Protocols).SetHTTP1)}
		},
		client: get2,
		sees:   []string{"GET / HTTP/1.1 tls=true body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "ProtocolsHTTP2",
		tls:  true,
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.handler(), TLSConfig: certificate(), Protocols: protocols((*http.Protocols).SetHTTP2)}
		},
		client: func(v *view) {
			get2(v)
			c := tls.Client(v.dial(), &tls.Config{InsecureSkipVerify: true})
			fmt.Fprint(c, request)
			v.end(bufio.NewReader(c))
		},
		sees: []string{"GET / HTTP/2.0 tls=true body=0 end"},
		gets: []string{`HTTP/2.0 200 "hello" close=false`, `"", then end`},
	},
	{
		name: "ProtocolsH2c",
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.handler(), Protocols: protocols((*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2)}
		},
		client: func(v *view) {
			v.get("http://x/", h2c)
			v.answer(v.send(request))
		},
		sees: []string{"GET / HTTP/2.0 tls=false body=0 end", "GET / HTTP/1.1 tls=false body=0 end"},
		gets: []string{`HTTP/2.0 200 "hello" close=false`, `HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "HTTP2",
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:   v.handler(),
				Protocols: protocols((*http.Protocols).SetUnencryptedHTTP2),
				HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 7},
			}
		},
		client: func(v *view) {
			r := v.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			v.gets("%d streams", maxConcurrentStreams(r))
		},
		gets: []string{"7 streams"},
	},
	{
		name:   "OptionsForTheServer",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")) },
		gets:   []string{`HTTP/1.1 200 "" close=false`},
	},
	{
		name:   "OptionsForTheServerWithABody",
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) {
			v.answer(v.send("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n%s", strings.Repeat("x", 5000)))
		},
		gets: []string{`HTTP/1.1 200 "" close=true`},
	},
	{
		name: "DisableGeneralOptionsHandler",
		server: func(v *view) *http.Server {
			return &http.Server{Handler: v.handler(), DisableGeneralOptionsHandler: true}
		},
		client: func(v *view) { v.answer(v.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")) },
		sees:   []string{"OPTIONS * HTTP/1.1 tls=false body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name: "SetKeepAlivesEnabled",
		server: func(v *view) *http.Server {
			srv := &http.Server{Handler: v.handler()}
			srv.SetKeepAlivesEnabled(false)
			return srv
		},
		client: func(v *view) {
			r := v.send(request)
			v.answer(r)
			v.end(r)
		},
		sees: []string{"GET / HTTP/1.1 tls=false body=0 end"},
		gets: []string{`HTTP/1.1 200 "hello" close=true`, `"", then end`},
	},
	{
		name: "RegisterOnShutdown",
		server: func(v *view) *http.Server {
			srv := &http.Server{}
			hijacked := make(chan net.Conn, 1)
			srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c, _, _ := w.(http.Hijacker).Hijack()
				fmt.Fprint(c, "hello\n")
				hijacked <- c
			})
			srv.RegisterOnShutdown(func() {
				v.sees("called")
				c := <-hijacked
				fmt.Fprint(c, "bye\n")
				c.Close()
			})
			return srv
		},
		client: func(v *view) {
			r := v.send(request)
			line, err := r.ReadString('\n')
			v.gets("%q, %v", line, outcome(err))
		},
		after: func(v *view) { v.end(bufio.NewReader(v.conns[0])) },
		sees:  []string{"called"},
		gets:  []string{`"hello\n", end`, `"bye\n", then end`},
	},
	// The kinds of listener.
	{
		name:   "Unix",
		listen: func(v *view) net.Listener { return v.listen("unix", filepath.Join(shortDir(v.t), "s")) },
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"GET / HTTP/1.1 tls=false body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name:   "TLSListener",
		listen: withTLS("h2", "http/1.1"),
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: get2,
		sees:   []string{"GET / HTTP/2.0 tls=true body=0 end"},
		gets:   []string{`HTTP/2.0 200 "hello" close=false`},
	},
	{
		name:   "TLSListenerOfHTTP1",
		listen: withTLS(),
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: get2,
		sees:   []string{"GET / HTTP/1.1 tls=true body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name:   "TLSListenerAndTLSConfig",
		listen: withTLS("h2", "http/1.1"),
		server: func(v *view) *http.Server {
			config := certificate()
			config.NextProtos = []string{"h2", "http/1.1"}
			return &http.Server{Handler: v.handler(), TLSConfig: config}
		},
		client: get2,
		sees:   []string{"GET / HTTP/2.0 tls=true body=0 end"},
		gets:   []string{`HTTP/2.0 200 "hello" close=false`},
	},
	{
		name:   "TLSListenerContexts",
		listen: withTLS("h2"),
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:     v.handler(),
				BaseContext: func(l net.Listener) context.Context { v.sees("%T", l); return context.Background() },
				ConnContext: func(ctx context.Context, c net.Conn) context.Context { v.sees("%T", c); return ctx },
			}
		},
		client: get2,
		sees:   []string{"*tls.listener", "*tls.Conn", "GET / HTTP/2.0 tls=true body=0 end"},
		gets:   []string{`HTTP/2.0 200 "hello" close=false`},
	},
	{
		name: "OwnTLSListener",
		listen: own(func(c net.Conn) net.Conn {
			config := certificate()
			config.NextProtos = []string{"h2"}
			return tls.Server(c, config)
		}),
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: get2,
		sees:   []string{"GET / HTTP/2.0 tls=true body=0 end"},
		gets:   []string{`HTTP/2.0 200 "hello" close=false`},
	},
	{
		name:   "OwnListener",
		listen: own(func(c net.Conn) net.Conn { return ownConn{c} }),
		server: func(v *view) *http.Server {
			return &http.Server{
				Handler:     v.handler(),
				ConnContext: func(ctx context.Context, c net.Conn) context.Context { v.sees("%T", c); return ctx },
			}
		},
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"worker_test.ownConn", "GET / HTTP/1.1 tls=false body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name:   "ListenerThatIsClosedOnce",
		listen: func(v *view) net.Listener { return closingListener{tcp(v), v} },
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"GET / HTTP/1.1 tls=false body=0 end", "closed"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
	{
		name:   "OwnEncryption",
		listen: own(func(c net.Conn) net.Conn { return statedConn{c} }),
		server: func(v *view) *http.Server { return &http.Server{Handler: v.handler()} },
		client: func(v *view) { v.answer(v.send(request)) },
		sees:   []string{"GET / HTTP/1.1 tls=true body=0 end"},
		gets:   []string{`HTTP/1.1 200 "hello" close=false`},
	},
}

// firstWords notes three words of each line of a log.
type firstWords struct{ v *view }

func (w firstWords) Write(p []byte) (int, error) {
	w.v.sees("%s", strings.Join(strings.Fields(string(p))[:3], " "))
	return len(p), nil
}

// maxConcurrentStreams reads the first frame of an HTTP/2 server, its settings.
func maxConcurrentStreams(r io.Reader) (n uint32) {
	head := make([]byte, 9)
	if _, err := io.ReadFull(r, head); err != nil || head[3] != 4 {
		return 0
	}
	settings := make([]byte, int(head[1])<<8|int(head[2]))
	io.ReadFull(r, settings)
	for s := range slices.Chunk(settings, 6) {
		if binary.BigEndian.Uint16(s) == 3 {
			n = binary.BigEndian.Uint32(s[2:])
		}
	}
	return n
}

func TestServedAsByNetHTTP(t *testing.T) {
	for _, row := range sameRows {
		if row.listen == nil {
			row.listen = tcp
		}
		for _, by := range []string{"net/http", "worker"} {
			t.Run(row.name+"/"+strings.ReplaceAll(by, "/", ""), func(t *testing.T) {
				t.Parallel()
				v := newView(t)
				l := row.listen(v)
				v.address = l.Addr()
				srv := row.server(v)
				var end func() error
				if by == "worker" {
					g := &worker.Group{}
					g.HTTP(srv, l)
					s := serve(t, g)
					end = func() error { s.leave(); return <-s.done }
				} else {
					end = servePlain(srv, l, row.tls)
				}
				row.client(v)
				for _, c := range v.conns {
					if row.after == nil {
						c.Close()
					}
				}
				if err := end(); err != nil {
					t.Errorf("the end of the server: %v", err)
				}
				if row.after != nil {
					row.after(v)
				}
				v.await(len(row.sees))
				if !slices.Equal(v.server, row.sees) {
					t.Errorf("the server sees %q, want %q", v.server, row.sees)
				}
				if !slices.Equal(v.client, row.gets) {
					t.Errorf("the client gets %q, want %q", v.client, row.gets)
				}
			})
		}
	}
}

func servePlain(srv *http.Server, l net.Listener, encrypted bool) (end func() error) {
	done := make(chan error, 1)
	go func() {
		if encrypted {
			done <- srv.ServeTLS(l, "", "")
			return
		}
		done <- srv.Serve(l)
	}()
	return func() error {
		if err := srv.Shutdown(context.Background()); err != nil {
			return err
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
