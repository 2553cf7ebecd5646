package main

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/bench/ledger"
)

// serving is a server of one socket, and what its accepts failed with.
func serving(t *testing.T, wrap func(net.Listener) net.Listener) (*server, net.Listener, chan error) {
	t.Helper()
	s, err := newServer("", new(ledger.Gauges))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	s.failed = func(err error) { failed <- err }
	l := listen(t)
	s.serve(map[string][]net.Listener{"http": {wrap(l)}})
	return s, l, failed
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func bare(l net.Listener) net.Listener { return l }

// gated is what a listener is that accepts nothing, of a process that hangs.
func gated(l net.Listener) net.Listener {
	w := &worker{}
	w.hung.Store(true)
	return &gate{Listener: l, worker: w, closed: make(chan struct{})}
}

// An accept that fails is told of, unless the server has begun to leave, in whichever
// way it does.
func TestAnAcceptThatFailsIsToldOf(t *testing.T) {
	s, l, failed := serving(t, bare)
	shut(l) // as another process does that has it too
	if err := <-failed; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("accept failed with %v", err)
	}
	s.accepting.Wait()
	for name, leave := range map[string]func(*server){
		"close": (*server).close, "shutdown(2)": (*server).shutSockets, "Shutdown": func(s *server) { s.shutdown(); s.accepting.Wait() },
	} {
		for _, wrap := range []func(net.Listener) net.Listener{bare, gated} {
			s, _, failed := serving(t, wrap)
			leave(s) // returns when nobody accepts any more
			select {
			case err := <-failed:
				t.Errorf("it left by %s, and its accept failed with %v", name, err)
			default:
			}
		}
	}
}

// Connections that are open are on the gauge of their socket until they are closed.
func TestGaugesFollowConnections(t *testing.T) {
	l := listen(t)
	gauges := new(ledger.Gauges)
	s := &socket{Listener: l, name: "http", open: gauges.Of(class(l, "http"))}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for queue(gated(l)) != 1 { // the last packet of the handshake is on its way
	}
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n := gauges.Of("http").Load(); n != 1 || queue(l) != 0 {
		t.Errorf("%d are open, want 1; %d wait", n, queue(l))
	}
	c.Close()
	c.Close()
	if n := gauges.Of("http").Load(); n != 0 {
		t.Errorf("%d are open after all were closed", n)
	}
}
