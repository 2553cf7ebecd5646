package worker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A leaver is a server in this process that leaves when it is told to, and whose
// handler waits to be released.
type leaver struct {
	*Group
	taker   *net.UnixConn
	session *session
	address string
	began   chan *http.Request
	release chan struct{}
	closed  chan struct{} // closed when a connection is
}

// large is the size of the answer to PUT, which its connection's buffer holds.
const large = 400_000

func newLeaver(t *testing.T, protocols ...func(*http.Protocols, bool)) *leaver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &leaver{
		Group:   &Group{},
		address: l.Addr().String(),
		began:   make(chan *http.Request),
		release: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	srv := &http.Server{
		Handler: v,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			c.(*net.TCPConn).SetWriteBuffer(2 * large)
			return ctx
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(v.closed)
			}
		},
	}
	if len(protocols) > 0 {
		srv.Protocols = new(http.Protocols)
		for _, p := range protocols {
			p(srv.Protocols, true)
		}
	}
	v.HTTP(srv, l)
	if err := v.open(); err != nil {
		t.Fatal(err)
	}
	v.doors[0].name = "web"
	v.giver = newGiver(nil)
	v.session, v.taker = offered(t, 10*time.Second)
	v.start()
	t.Cleanup(func() { v.join(); v.conns.kill() })
	return v
}

// ServeHTTP reads the body in pieces of Read bytes, 0 for not at all.
func (v *leaver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.Header.Get("Read"))
	if err != nil {
		size = 32 << 10
	}
	if size > 0 {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, size))
	}
	v.began <- r
	<-v.release
	if r.Method == "PUT" {
		w.Write(make([]byte, large))
		return
	}
	fmt.Fprint(w, r.Method)
}

// setOut begins to leave, with a taker at hand.
func (v *leaver) setOut() {
	v.giver.set([]*session{v.session}, false)
	v.leaving.Store(true)
	v.conns.wake()
}

// request sends what it is given and waits until the server has read all of it
// and its handler runs.
func (v *leaver) request(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	<-v.began
	v.awaitRead(t)
}

// awaitRead waits until the server has left nothing in the kernel.
func (v *leaver) awaitRead(t *testing.T) {
	t.Helper()
	for _, in := range v.conns.all() {
		for unread := 1; unread > 0; runtime.Gosched() {
			err := withFD(in, func(fd int) (err error) {
				unread, err = unix.IoctlGetInt(fd, unix.SIOCINQ)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func answerIs(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); string(got) != want || err != nil || resp.Close {
		t.Fatalf("answer is %q, %v, closing: %v; want %q", got, err, resp.Close, want)
	}
}

// However few bytes of the next request were read, they stay here.
func TestNoByteThatWasReadIsLeftBehind(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
	for ahead := range 6 {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d,%v", ahead, together), func(t *testing.T) {
				v := newLeaver(t)
				c, err := net.Dial("tcp", v.address)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				r := bufio.NewReader(c)
				if together {
					v.request(t, c, head+head[:ahead])
				} else {
					v.request(t, c, head)
					io.WriteString(c, head[:min(ahead, 1)]) // the server reads one byte during a request
					v.awaitRead(t)
					io.WriteString(c, head[min(ahead, 1):ahead])
				}
				v.setOut()
				v.release <- struct{}{}
				answerIs(t, r, "POST")
				if ahead > 0 {
					v.request(t, c, head[ahead:])
					v.release <- struct{}{}
					answerIs(t, r, "POST")
				}
				p, err := receive(v.taker, make([]byte, maxMessage))
				if err != nil || p.kind != idleHTTP1 || p.name != "web" || len(p.fds) != 1 {
					t.Fatalf("the taker got %+v, %v", p, err)
				}
				if err := transmit(v.taker, message{kind: taken, id: p.id}, time.Second); err != nil {
					t.Fatal(err)
				}
				moved, err := fileConn(p.fds[0])
				if err != nil {
					t.Fatal(err)
				}
				defer moved.Close()
				<-v.conns.gone()
				io.WriteString(c, "next")
				b := make([]byte, 4)
				if _, err := io.ReadFull(moved, b); string(b) != "next" || err != nil {
					t.Errorf("the taker read %q, %v", b, err)
				}
			})
		}
	}
}

// A server that looks at the first bytes of a connection for HTTP/2 reads once more
// after the read that has moved it, and must not answer what is not there.
func TestNothingIsWrittenToWhatHasMoved(t *testing.T) {
	v := newLeaver(t, (*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2)
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for len(v.conns.all()) == 0 {
		runtime.Gosched()
	}
	v.setOut()
	p, err := receive(v.taker, make([]byte, maxMessage))
	if err == nil {
		err = transmit(v.taker, message{kind: taken, id: p.id}, time.Second)
	}
	if err != nil || len(p.fds) != 1 {
		t.Fatalf("the taker got %+v, %v", p, err)
	}
	moved, err := fileConn(p.fds[0])
	if err != nil {
		t.Fatal(err)
	}
	<-v.conns.gone()
	io.WriteString(moved, "mine")
	moved.Close()
	if got, err := io.ReadAll(c); string(got) != "mine" || err != nil {
		t.Errorf("the client read %q, %v", got, err)
	}
}

func TestAnAnswerArrivesAlthoughTheClientWasSending(t *testing.T) {
	v := newLeaver(t)
	v.giver.set(nil, true) // nobody takes
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	v.leaving.Store(true)
	v.request(t, c, "PUT / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := c.Write(make([]byte, 64<<10)); err != nil { // more than the server will ever read
		t.Fatal(err)
	}
	v.release <- struct{}{}
	<-v.closed // and most of the answer is still in the server's kernel
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); len(body) != large || err != nil || !resp.Close {
		t.Errorf("answer is of %d bytes, %v, closing: %v", len(body), err, resp.Close)
	}
	c.Close()
	<-v.conns.gone()
}
