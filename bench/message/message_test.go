package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// pairs are both ends of each kind of connection, in memory.
func pairs(t *testing.T) map[string][2]Conn {
	a, b := net.Pipe()
	c, d := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close(); c.Close(); d.Close() })
	return map[string][2]Conn{
		"framed":    {NewFramed(a), NewFramed(b)},
		"websocket": {&webSocket{conn: c, r: reader(c), client: true}, &webSocket{conn: d, r: reader(d)}},
	}
}

func reader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

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

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		client      bool
		want        error
	}{
		{"end between two", "", true, io.EOF},
		{"end in the header", "\x81", true, io.ErrUnexpectedEOF},
		{"end in the length", "\x81\x7e\x01", true, io.ErrUnexpectedEOF},
		{"end before the mask", "\x81\x81", false, io.ErrUnexpectedEOF},
		{"end before the payload", "\x81\x01", true, io.ErrUnexpectedEOF},
		{"too long", "\x81\x7f\x00\x00\x00\x00\xff\xff\xff\xff", true, ErrMalformed},
		{"a part of a message", "\x01\x01a", true, ErrMalformed},
		{"a server that masks", "\x81\x81abcdx", true, ErrMalformed},
		{"a client that does not", "\x81\x01x", false, ErrMalformed},
		{"no opcode", "\x87\x00", true, ErrMalformed},
	} {
		w := &webSocket{r: reader(strings.NewReader(test.bytes)), client: test.client}
		if _, err := w.Receive(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	for text, want := range map[string]error{"": io.EOF, "\x00": io.ErrUnexpectedEOF, "\x00\x00\x00\x02a": io.ErrUnexpectedEOF, "\xff\x00\x00\x00": ErrMalformed} {
		f := &Framed{r: reader(strings.NewReader(text))}
		if _, err := f.Receive(); !errors.Is(err, want) {
			t.Errorf("framed %q: %v, want %v", text, err, want)
		}
	}
}

func TestHandshake(t *testing.T) {
	// The example of RFC 6455, section 1.3.
	if got := accept("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %s", got)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, conn, err := Accept(w, r)
		if err != nil {
			return // it has its answer
		}
		defer conn.Close()
		for {
			q, err := m.Receive()
			if err != nil || m.Send(append([]byte("re: "), q...)) != nil {
				return
			}
		}
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := Dial(conn, "/")
	if err != nil {
		t.Fatal(err)
	}
	w := m.(*webSocket)
	if err := errors.Join(w.send(opPing, []byte("a")), w.Send([]byte("b")), w.send(opClose, nil)); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Receive(); string(got) != "re: b" || err != nil { // a pong came before
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := m.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after a close: %v", err)
	}
	answer, err := http.Get(server.URL)
	if err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a plain request: %v, %v", answer, err)
	}
	answer.Body.Close()
}
