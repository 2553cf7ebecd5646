package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// short is the patience of givers in tests where somebody has none to give.
const short = 50 * time.Millisecond

func packets(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []**net.UnixConn{&a, &b} {
		if *c, err = unixConn(fds[i]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return a, b
}

// connection returns both ends of a TCP connection.
func connection(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// offered returns a giver's session and what its taker has.
func offered(t *testing.T, patience time.Duration) (*session, *net.UnixConn) {
	t.Helper()
	in, out := packets(t)
	got := make(chan *net.UnixConn, 1)
	go func() {
		defer close(got)
		p, err := receive(in, make([]byte, headerSize+1))
		if err != nil || p.kind != offer || len(p.fds) != 1 {
			return
		}
		c, err := unixConn(p.fds[0])
		if err == nil && transmit(c, message{kind: hello}, patience) == nil {
			got <- c
		}
	}()
	s, err := makeOffer(t.Context(), out, max(patience, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	s.patience = patience
	taker := <-got
	t.Cleanup(func() { s.giveUp(); <-s.done; taker.Close() })
	return s, taker
}

func TestATakerThatDoesNotAnswerHasNothing(t *testing.T) {
	s, taker := offered(t, short)
	_, server := connection(t)
	if err := s.give(t.Context(), idleHTTP1, "web", nil, server); !errors.Is(err, ErrNoTaker) {
		t.Fatalf("giving: %v", err)
	}
	<-s.done
	p, err := receive(taker, make([]byte, maxMessage))
	if err != nil || len(p.fds) != 1 {
		t.Fatalf("the taker's side: %+v, %v", p, err)
	}
	defer closeAll(p.fds)
	if err := transmit(taker, message{kind: taken, id: p.id}, short); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an answer that comes too late was sent: %v", err)
	}
}

// An answer that was sent before the giver gave up counts, whatever the giver
// has read of it by then.
func TestExactlyOneHasAConnection(t *testing.T) {
	for range 200 {
		s, taker := offered(t, 10*time.Second)
		_, server := connection(t)
		var sent error
		var both sync.WaitGroup
		both.Go(func() {
			p, err := receive(taker, make([]byte, maxMessage))
			if err != nil {
				sent = err
				return
			}
			sent = transmit(taker, message{kind: taken, id: p.id}, short)
			closeAll(p.fds)
		})
		both.Go(s.giveUp)
		given := s.give(t.Context(), idleHTTP1, "web", nil, server)
		s.giveUp()
		both.Wait()
		if (given == nil) != (sent == nil) {
			t.Fatalf("the giver has %v, the taker %v", given, sent)
		}
		server.Close()
		taker.Close()
	}
}

func TestATakerThatDiesHasNothing(t *testing.T) {
	s, taker := offered(t, 10*time.Second)
	client, server := connection(t)
	go func() {
		p, _ := receive(taker, make([]byte, maxMessage))
		closeAll(p.fds)
		taker.Close()
	}()
	if err := s.give(t.Context(), idleHTTP1, "web", nil, server); !errors.Is(err, ErrNoTaker) {
		t.Fatalf("giving: %v", err)
	}
	if _, err := client.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "still here" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestATakerMayRefuse(t *testing.T) {
	s, taker := offered(t, 10*time.Second)
	_, server := connection(t)
	go func() {
		for _, k := range []kind{refused, taken} {
			p, _ := receive(taker, make([]byte, maxMessage))
			closeAll(p.fds)
			transmit(taker, message{kind: 99, id: p.id}, short) // of a later version
			transmit(taker, message{kind: k, id: p.id + 7}, short)
			transmit(taker, message{kind: k, id: p.id}, short)
		}
	}()
	state := bytes.Repeat([]byte("x"), MaxState)
	if err := s.give(t.Context(), withState, "web", state, server); !errors.Is(err, ErrRefused) {
		t.Errorf("giving: %v", err)
	}
	if err := s.give(t.Context(), withState, "web", state, server); err != nil {
		t.Errorf("giving again: %v", err)
	}
}

func TestAGiverFindsNobody(t *testing.T) {
	_, out := packets(t)
	g := newGiver(out)
	g.run(t.Context(), short, func() { t.Error("woken for nobody") })
	if s, hope := g.current(); s != nil || hope {
		t.Errorf("still hopes: %v, %v", s, hope)
	}
	if _, err := g.await(t.Context(), nil); !errors.Is(err, ErrNoTaker) {
		t.Errorf("waiting for nobody: %v", err)
	}
}

func TestWhoGivesWaitsNoLongerThanItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(short, cancel)
	if _, err := newGiver(nil).await(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a taker: %v", err)
	}
	s, _ := offered(t, 10*time.Second)
	for range window {
		s.slot <- struct{}{}
	}
	_, server := connection(t)
	if err := s.give(ctx, withState, "web", nil, server); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a turn: %v", err)
	}
}

// With nobody to read, offers pile up until there is no room.
func TestAGiverFindsNoRoom(t *testing.T) {
	in, out := packets(t)
	for {
		out.SetWriteDeadline(time.Now().Add(short))
		if _, err := out.Write(make([]byte, 1024)); err != nil {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := makeOffer(ctx, out, short); err == nil {
		t.Error("an offer found room")
	}
	in.Close()
	if _, err := makeOffer(ctx, out, short); err == nil {
		t.Error("an offer found nobody")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message{kind: offer}.encode())
	f.Add(message{kind: withState, id: 1 << 60, name: "web", state: []byte("state")}.encode())
	f.Add([]byte("svho\x02\x03\xff\xff12345678"))
	f.Add([]byte("svho"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil || m.version != version {
			if m.name != "" || m.state != nil {
				t.Fatalf("%v, but %+v", err, m)
			}
			return
		}
		if len(m.name) > maxName || len(m.state) > MaxState {
			t.Fatalf("name of %d bytes, state of %d", len(m.name), len(m.state))
		}
		if again := m.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%q became %q", b, again)
		}
	})
}
