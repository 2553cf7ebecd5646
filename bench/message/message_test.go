package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// pairs are both ends of each kind of connection.
func pairs(t *testing.T) map[string][2]Conn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	accepted := make(chan Conn)
	client := dialed(t, func(c Conn, _ net.Conn) { accepted <- c; <-t.Context().Done() })
	return map[string][2]Conn{
		"framed":    {NewFramed(a), NewFramed(b)},
		"websocket": {client, <-accepted},
	}
}

// dialed is a WebSocket whose other end, and the connection below that, a function
// has.
func dialed(t *testing.T, serve func(Conn, net.Conn)) Conn {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		looking := &looker{ResponseWriter: w}
		if c, err := Accept(looking, r); err == nil {
			defer c.Close()
			serve(c, looking.conn)
		}
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(conn, "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A looker sees which connection is taken over.
type looker struct {
	http.ResponseWriter
	conn net.Conn
}

func (l *looker) Hijack() (_ net.Conn, rw *bufio.ReadWriter, err error) {
	l.conn, rw, err = l.ResponseWriter.(http.Hijacker).Hijack()
	return l.conn, rw, err
}

func TestMessagesArriveWhole(t *testing.T) {
	for name, pair := range pairs(t) {
		for _, n := range []int{0, 1, 125, 126, 65535, 65536, Most} {
			want := bytes.Repeat([]byte{'x'}, n)
			for i := range pair {
				sent := make(chan error, 1)
				go func() { sent <- pair[i].Send(want) }()
				got, err := pair[1-i].Receive()
				if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, %d bytes from side %d: got %d, %v", name, n, i, len(got), err)
				}
			}
		}
	}
}

// A WebSocket that ends is told apart by where it ends, and what is no message is
// malformed.
func TestEndsOfWebSockets(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		want        error
	}{
		{"between two", "", io.EOF},
		{"in the payload", "\x81\x02a", io.ErrUnexpectedEOF},
		{"with a close", "\x88\x00", io.EOF},
		{"too long", "\x81\x7f\x00\x00\x00\x00\x00\x10\x00\x01" + strings.Repeat("x", Most+1), ErrMalformed},
		{"bytes", "\x82\x01x", ErrMalformed},
		{"no opcode", "\x87\x00", ErrMalformed},
	} {
		c := dialed(t, func(_ Conn, below net.Conn) { fmt.Fprint(below, test.bytes) })
		if _, err := c.Receive(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestEndsOfFrames(t *testing.T) {
	for text, want := range map[string]error{"": io.EOF, "\x00": io.ErrUnexpectedEOF, "\x00\x00\x00\x02a": io.ErrUnexpectedEOF, "\xff\x00\x00\x00": ErrMalformed} {
		f := &Framed{r: bufio.NewReader(strings.NewReader(text))}
		if _, err := f.Receive(); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

// What is no WebSocket has an answer that says so, at either end.
func TestNoWebSocket(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if _, err := Accept(w, r); err == nil {
			t.Error("a plain request is a WebSocket")
		}
	}))
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err != nil || answer.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain request: %v, %v", answer, err)
	}
	answer.Body.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(conn, "/busy"); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "503") {
		t.Errorf("an answer that is none to a WebSocket: %v", err)
	}
}

// Deadlines are those of the connection below, and a ping is answered meanwhile.
func TestDeadlineOfAWebSocket(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	go func() {
		http.ReadRequest(bufio.NewReader(server))
		server.Close()
	}()
	if _, err := Dial(client, "/"); !errors.Is(err, io.EOF) {
		t.Errorf("a server that hangs up: %v", err)
	}
	pong := make(chan struct{})
	c := dialed(t, func(c Conn, below net.Conn) {
		fmt.Fprint(below, "\x89\x00")
		go c.Receive()
		if c.(*webSocket).ws.Ping(t.Context()) == nil {
			close(pong)
		}
		<-t.Context().Done()
	})
	go func() {
		<-pong
		c.Close()
	}()
	if _, err := c.Receive(); err == nil {
		t.Error("a closed connection has a message")
	}
}
