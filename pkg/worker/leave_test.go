package worker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

// The tests of this file serve in their own process, and leave by the end of a
// context.

// A service is a Group that serves.
type service struct {
	t     *testing.T
	leave context.CancelFunc
	done  chan error
}

func serve(t *testing.T, g *worker.Group) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{t, cancel, make(chan error, 1)}
	go func() { s.done <- g.Serve(ctx) }()
	t.Cleanup(cancel)
	return s
}

// awaitEnd returns when Serve has, which must be without an error.
func (s *service) awaitEnd() {
	s.t.Helper()
	if err := <-s.done; err != nil {
		s.t.Error(err)
	}
}

func localListener(t *testing.T) (net.Listener, socket) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, socket{network: "tcp", address: l.Addr().String()}
}

// hijack says hello, and goodbye when its client should go.
func hijack(w http.ResponseWriter, r *http.Request) {
	leaving := worker.Leaving(r.Context())
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	context.AfterFunc(leaving, func() { fmt.Fprint(c, "please go\n") })
	fmt.Fprint(c, "hello\n")
	go func() {
		io.Copy(io.Discard, c)
		c.Close()
	}()
}

func TestHijackedConnectionsAreAskedToGoAndWaitedFor(t *testing.T) {
	l, s := localListener(t)
	g := &worker.Group{}
	g.HTTP(&http.Server{Handler: http.HandlerFunc(hijack)}, l)
	service := serve(t, g)
	var clients []*bufio.Reader
	var conns []net.Conn
	for range 20 {
		c := dial(t, s)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(c)
		expectLine(t, r, "hello\n")
		clients, conns = append(clients, r), append(conns, c)
	}
	service.leave()
	for _, r := range clients {
		expectLine(t, r, "please go\n")
	}
	select {
	case err := <-service.done:
		t.Fatalf("Serve has not waited: %v", err)
	default:
	}
	for _, c := range conns {
		c.Close()
	}
	service.awaitEnd()
}

func expectLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestHijackedConnectionsThatStayAreClosedInTheEnd(t *testing.T) {
	l, s := localListener(t)
	g := &worker.Group{Drain: 50 * time.Millisecond}
	g.HTTP(&http.Server{Handler: http.HandlerFunc(hijack)}, l)
	service := serve(t, g)
	c := dial(t, s)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	expectLine(t, r, "hello\n")
	service.leave()
	if rest, err := io.ReadAll(r); string(rest) != "please go\n" || err != nil {
		t.Errorf("got %q, %v", rest, err)
	}
	c.Close()
	if err := <-service.done; !errors.Is(err, worker.ErrCut) {
		t.Errorf("Serve: %v", err)
	}
}

func TestWhatTheUserHasSetIsCalledAsEver(t *testing.T) {
	type key struct{}
	states := make(chan http.ConnState, 10)
	plain, s := localListener(t)
	secure, sTLS := localListener(t)
	newServer := func() *http.Server {
		srv := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Context().Value(key{}))
			}),
			BaseContext: func(l net.Listener) context.Context {
				if l != plain && strings.Contains(fmt.Sprintf("%T", l), "worker") {
					t.Errorf("BaseContext got a %T", l)
				}
				return context.WithValue(context.Background(), key{}, "base")
			},
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				switch c.(type) {
				case *net.TCPConn, *tls.Conn:
				default:
					t.Errorf("ConnContext got a %T", c)
				}
				return context.WithValue(ctx, key{}, fmt.Sprint(ctx.Value(key{}), ", connection"))
			},
			ConnState: func(c net.Conn, state http.ConnState) {
				if _, ok := c.(*net.TCPConn); ok {
					states <- state
				}
			},
		}
		return srv
	}
	g := &worker.Group{}
	shutdown := make(chan struct{})
	srv := newServer()
	srv.RegisterOnShutdown(func() { close(shutdown) })
	g.HTTP(srv, plain)
	tlsServer := newServer()
	tlsServer.TLSConfig = certificate()
	g.HTTP(tlsServer, secure)
	service := serve(t, g)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, url := range []string{"http://" + s.address, "https://" + sTLS.address} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "base, connection" || err != nil {
			t.Errorf("%s: %q, %v", url, body, err)
		}
	}
	client.CloseIdleConnections()
	service.leave()
	service.awaitEnd()
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed} {
		if got := <-states; got != want {
			t.Errorf("the connection is %v, not %v", got, want)
		}
	}
	<-shutdown
}

// An HTTP/2 client that asks for nothing is told to go all the same, and a stream
// that is open ends when it ends.
func TestHTTP2StreamsFinish(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		t.Run(fmt.Sprint("encrypted=", encrypted), func(t *testing.T) {
			l, s := localListener(t)
			release := make(chan struct{})
			srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/" {
					return
				}
				fmt.Fprint(w, "begun, ")
				http.NewResponseController(w).Flush()
				<-release
				fmt.Fprint(w, "finished")
			})}
			newTransport := func() *http.Transport {
				client := &http.Transport{Protocols: new(http.Protocols)}
				client.Protocols.SetHTTP2(encrypted)
				client.Protocols.SetUnencryptedHTTP2(!encrypted)
				client.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
				t.Cleanup(client.CloseIdleConnections)
				return client
			}
			srv.Protocols.SetHTTP1(true)
			srv.Protocols.SetUnencryptedHTTP2(!encrypted)
			url := "http://" + s.address
			if encrypted {
				srv.Protocols.SetHTTP2(true)
				srv.TLSConfig = certificate()
				url = "https://" + s.address
			}
			g := &worker.Group{}
			g.HTTP(srv, l)
			service := serve(t, g)
			idle, busy := newTransport(), newTransport()
			for _, c := range []*http.Transport{idle, busy} {
				get(t, c, url+"/").Body.Close()
			}
			stream := get(t, busy, url+"/stream")
			service.leave()
			begun := make([]byte, len("begun, "))
			if _, err := io.ReadFull(stream.Body, begun); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-service.done:
				t.Fatalf("Serve has not waited: %v", err)
			default:
			}
			close(release)
			rest, err := io.ReadAll(stream.Body)
			if string(rest) != "finished" || err != nil {
				t.Errorf("the rest of the stream: %q, %v", rest, err)
			}
			service.awaitEnd() // neither client has closed its connection
		})
	}
}

func get(t *testing.T, c *http.Transport, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != 2 {
		t.Fatalf("answered by %s", resp.Proto)
	}
	return resp
}

func TestOneServiceThatFailsEndsAll(t *testing.T) {
	good, s := localListener(t)
	bad, _ := localListener(t)
	bad.Close()
	g := &worker.Group{}
	g.HTTP(&http.Server{}, good)
	g.Conns(func(context.Context, *worker.Conn) {}, bad)
	if err := <-serve(t, g).done; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), bad.Addr().String()) {
		t.Errorf("Serve: %v", err)
	}
	if c, err := net.Dial("tcp", s.address); err == nil {
		c.Close()
		t.Error("the other service still listens")
	}
}

func TestAServerThatItsUserShutsDownLeaves(t *testing.T) {
	l, s := localListener(t)
	srv := &http.Server{}
	g := &worker.Group{}
	g.HTTP(srv, l)
	service := serve(t, g)
	dial(t, s).Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-service.done; err != http.ErrServerClosed { // which callers of net/http compare
		t.Errorf("Serve: %v", err)
	}
	if err := g.Serve(t.Context()); err == nil {
		t.Error("a group serves a second time")
	}
}

func TestAGroupWithoutSockets(t *testing.T) {
	for _, add := range []func(*worker.Group){
		func(*worker.Group) {},
		func(g *worker.Group) { g.Conns(nil) },
		func(g *worker.Group) { g.HTTP(&http.Server{Addr: "127.0.0.1:none"}) },
	} {
		g := &worker.Group{}
		add(g)
		err := g.Serve(t.Context())
		if err == nil {
			t.Fatal("it serves")
		}
		t.Log(err)
	}
}

func TestOutsideOfAServerNobodyLeaves(t *testing.T) {
	if err := worker.Leaving(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

// Requests that are under way when the drain time is over are cut, which is said.
// What rests is closed, which is nothing to speak of.
func TestServeSaysWhatItHasCut(t *testing.T) {
	for _, test := range []struct {
		name, sent string
		cut        bool
	}{
		{"Nothing", "", false},
		{"HalfARequest", "GET / HT", true},
		{"ARequest", "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", true},
		{"Answered", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"Answered1.0", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false},
		{"AnsweredAndHalfARequest", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, s := localListener(t)
			begun, over := make(chan struct{}, 1), make(chan struct{})
			defer close(over)
			accepted := make(chan struct{}, 1)
			srv := &http.Server{
				ConnContext: func(ctx context.Context, _ net.Conn) context.Context { accepted <- struct{}{}; return ctx },
				Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					begun <- struct{}{}
					if r.URL.Path == "/wait" {
						<-over
					}
				}),
			}
			g := &worker.Group{Drain: 100 * time.Millisecond}
			g.HTTP(srv, l)
			service := serve(t, g)
			c := dial(t, s)
			fmt.Fprint(c, test.sent)
			<-accepted
			if strings.Contains(test.sent, "\r\n\r\n") {
				<-begun
			}
			if strings.HasPrefix(test.name, "Answered") {
				if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
					t.Fatal(err)
				}
			}
			service.leave()
			if err := <-service.done; errors.Is(err, worker.ErrCut) != test.cut || err != nil != test.cut {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestLeavingEndsWithItsConnection(t *testing.T) {
	l, s := localListener(t)
	conns, sConns := localListener(t)
	contexts := make(chan context.Context, 3)
	g := &worker.Group{}
	g.HTTP(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		contexts <- worker.Leaving(r.Context())
		if r.URL.Path != "/hijack" {
			return
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		c.Close()
	})}, l)
	g.Conns(func(ctx context.Context, c *worker.Conn) {
		contexts <- worker.Leaving(ctx)
		contexts <- ctx
		c.Read(make([]byte, 1))
	}, conns)
	service := serve(t, g)
	for _, path := range []string{"/", "/hijack"} {
		c := dial(t, s)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		leaving := <-contexts
		c.Close()
		<-leaving.Done()
		if cause := context.Cause(leaving); !errors.Is(cause, net.ErrClosed) {
			t.Errorf("%s: ended by %v", path, cause)
		}
	}
	c := dial(t, sConns)
	leaving, lifetime := <-contexts, <-contexts
	if err := errors.Join(leaving.Err(), lifetime.Err()); err != nil {
		t.Error(err)
	}
	c.Close()
	<-leaving.Done()
	<-lifetime.Done()
	service.leave()
	service.awaitEnd()
	if cause := context.Cause(leaving); !errors.Is(cause, net.ErrClosed) {
		t.Errorf("the connection ended by %v", cause)
	}
}

// A connection whose listener makes *tls.Conn of its own is known too.
func TestHijackedConnectionsOfOwnTLSAreWaitedFor(t *testing.T) {
	l, s := localListener(t)
	g := &worker.Group{}
	g.HTTP(&http.Server{Handler: http.HandlerFunc(hijack)}, ownListener{l, func(c net.Conn) net.Conn { return tls.Server(c, certificate()) }})
	service := serve(t, g)
	c := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true})
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	expectLine(t, r, "hello\n")
	service.leave()
	expectLine(t, r, "please go\n")
	select {
	case err := <-service.done:
		t.Fatalf("Serve has not waited: %v", err)
	default:
	}
	c.Close()
	service.awaitEnd()
}

func TestMoveSaysWhyNot(t *testing.T) {
	l, s := localListener(t)
	errs := make(chan error)
	g := &worker.Group{}
	g.Conns(func(ctx context.Context, c *worker.Conn) {
		errs <- c.Move(ctx, nil)
		errs <- c.Move(ctx, make([]byte, worker.MaxState+1))
		<-worker.Leaving(ctx).Done()
		if cause := context.Cause(worker.Leaving(ctx)); cause != worker.ErrLeaving {
			t.Errorf("told to leave because of %v", cause)
		}
		errs <- c.Move(ctx, nil)
	}, l)
	service := serve(t, g)
	dial(t, s)
	for i, want := range []error{worker.ErrNotLeaving, worker.ErrStateTooLarge, worker.ErrNoTaker} {
		if err := <-errs; !errors.Is(err, want) {
			t.Errorf("Move: %v, want %v", err, want)
		}
		if i == 1 {
			service.leave()
		}
	}
	service.awaitEnd()
}
