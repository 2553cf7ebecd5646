package worker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

// A listener that cannot be compared.
type listOfOne []net.Listener

func (l listOfOne) Accept() (net.Conn, error) { return l[0].Accept() }
func (l listOfOne) Close() error              { return l[0].Close() }
func (l listOfOne) Addr() net.Addr            { return l[0].Addr() }

// Whatever cannot be meant is an error of Serve, before it says that it is ready.
func TestWhatCannotBeMeantIsSaid(t *testing.T) {
	used := &http.Server{Addr: "127.0.0.1:0"}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := worker.Serve(over, used); err != nil {
		t.Fatal(err)
	}
	closed := &http.Server{}
	closed.Close()
	var none *net.TCPListener
	weak := certificate()
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	for _, test := range []struct {
		name string
		add  func(g *worker.Group, l net.Listener)
		want string
	}{
		{"NoService", func(*worker.Group, net.Listener) {}, "cannot serve: the group has no service"},
		{"NoServer", func(g *worker.Group, l net.Listener) { g.HTTP(nil, l) }, "cannot serve: the *http.Server is nil"},
		{"NoHandler", func(g *worker.Group, l net.Listener) { g.Conns(nil, l) }, "cannot serve: the handler of Conns is nil"},
		{"NoListener", func(g *worker.Group, _ net.Listener) { g.HTTP(&http.Server{}, nil) }, "cannot serve: a listener is nil"},
		{"NilListener", func(g *worker.Group, _ net.Listener) { g.HTTP(&http.Server{}, none) }, "cannot serve: a listener is nil"},
		{"EmptyListeners", func(g *worker.Group, _ net.Listener) { g.HTTP(&http.Server{}, []net.Listener{}...) }, "cannot serve: a service was added with an empty list of listeners"},
		{"ListenerTwice", func(g *worker.Group, l net.Listener) { g.HTTP(&http.Server{}, l, l) }, "cannot serve: the listener ADDRESS was added twice"},
		{"ListenerOfTwo", func(g *worker.Group, l net.Listener) {
			g.HTTP(&http.Server{}, l)
			g.Conns(func(context.Context, *worker.Conn) {}, l)
		}, "cannot serve: the listener ADDRESS was added twice"},
		{"ServerTwice", func(g *worker.Group, l net.Listener) {
			srv := &http.Server{Addr: "127.0.0.1:0"}
			g.HTTP(srv, l)
			g.HTTP(srv)
		}, "cannot serve: the same *http.Server was added twice: one call takes all its listeners"},
		{"UsedServer", func(g *worker.Group, l net.Listener) { g.HTTP(used, l) }, "cannot serve: the *http.Server has been served before"},
		{"ClosedServer", func(g *worker.Group, l net.Listener) { g.HTTP(closed, l) }, "http: Server closed"},
		{"NegativeDrain", func(g *worker.Group, l net.Listener) { g.Drain = -1; g.HTTP(&http.Server{}, l) }, "cannot serve: the group's Drain is -1ns"},
		{"All", func(g *worker.Group, _ net.Listener) { g.HTTP(nil); g.Conns(nil) }, "cannot serve: the *http.Server is nil\nthe handler of Conns is nil"},
		{"CiphersThatHTTP2DoesNotAllow", func(g *worker.Group, l net.Listener) { g.HTTP(&http.Server{TLSConfig: weak}, l) }, "cannot serve: http2: TLSConfig.CipherSuites is missing"},
		{"TLSTwice", func(g *worker.Group, l net.Listener) {
			g.HTTP(&http.Server{TLSConfig: certificate()}, ownListener{l, func(c net.Conn) net.Conn { return tls.Server(c, certificate()) }})
			go net.Dial("tcp", l.Addr().String())
		}, "cannot serve ADDRESS: its listener encrypts already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, s := localListener(t)
			g := &worker.Group{Drain: time.Millisecond}
			test.add(g, l)
			err := g.Serve(t.Context())
			if want := strings.ReplaceAll(test.want, "ADDRESS", s.address); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("Serve: %v, want %s", err, want)
			}
			if test.name == "ClosedServer" && !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestListenersThatCannotBeComparedAreServed(t *testing.T) {
	a, s := localListener(t)
	b, _ := localListener(t)
	g := &worker.Group{}
	g.HTTP(&http.Server{}, listOfOne{a}, listOfOne{b})
	service := serve(t, g)
	dial(t, s).Close()
	service.leave()
	service.awaitEnd()
}

func TestAGroupThatServesTakesNoMore(t *testing.T) {
	l, s := localListener(t)
	g := &worker.Group{}
	g.HTTP(&http.Server{Handler: http.NotFoundHandler()}, l)
	service := serve(t, g)
	k := dial(t, s)
	k.Write([]byte("GET / HTTP/1.0\r\n\r\n")) // so that it serves
	k.Read(make([]byte, 1))
	for name, add := range map[string]func(){
		"HTTP":  func() { g.HTTP(&http.Server{}) },
		"Conns": func() { g.Conns(func(context.Context, *worker.Conn) {}) },
	} {
		func() {
			defer func() {
				if want := "worker: " + name + " of a Group was called after its Serve"; recover() != want {
					t.Errorf("it did not panic with %q", want)
				}
			}()
			add()
		}()
	}
	k.Close()
	service.leave()
	service.awaitEnd()
}

// What another attempt needs is free after one that has failed.
func TestServeCanBeTriedAgain(t *testing.T) {
	l, s := localListener(t)
	srv := &http.Server{Addr: s.address}
	if err := worker.Serve(t.Context(), srv); err == nil {
		t.Fatal("it serves on an address that is in use")
	}
	l.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := worker.Serve(over, srv); err != nil {
		t.Errorf("another attempt: %v", err)
	}
}
