package supervisor

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// asked is what get makes of a server that reads a request and then does as it is told.
func asked(path string, server func(c net.Conn, r *http.Request)) (ipc.Tried, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		r, err := http.ReadRequest(bufio.NewReader(theirs))
		if err == nil {
			server(theirs, r)
		}
	}()
	defer ours.Close()
	return get(ours, path, time.Now().Add(tryTime))
}

func says(text string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) { io.WriteString(c, text) }
}

// hangs until the other end is closed.
func hangs(c net.Conn, _ *http.Request) { io.Copy(io.Discard, c) }

// What is sent is a plain request, and what is shown is the answer as it came.
func TestGet(t *testing.T) {
	var sent *http.Request
	got, err := asked("/healthz?x=1", func(c net.Conn, r *http.Request) {
		sent = r
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Last: 1\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n")
	})
	if err != nil || sent.Method != "GET" || sent.RequestURI != "/healthz?x=1" || sent.Host != "localhost" || !sent.Close {
		t.Fatalf("%v, %+v", err, sent)
	}
	got.Seconds = 0
	want := ipc.Tried{Status: "HTTP/1.1 200 OK", Code: 200, Headers: []string{"X-Last: 1", "Content-Type: text/plain", "Content-Length: 6"}, Body: "hello\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Servers answer in many ways, and not all of them end.
func TestAnswersOfAllKinds(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<10)
	many := strings.Repeat("X: y\r\n", 40)
	for name, c := range map[string]struct {
		server func(net.Conn, *http.Request)
		want   ipc.Tried // Headers are only counted
	}{
		"in chunks":           {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Headers: make([]string, 1), Body: "abc"}},
		"to the end":          {says("HTTP/1.0 200 OK\r\n\r\nabc"), ipc.Tried{Code: 200, Status: "HTTP/1.0 200 OK", Body: "abc"}},
		"with line feeds":     {says("HTTP/1.1 404 Not Found\nA: b\nContent-Length: 1\n\nx"), ipc.Tried{Code: 404, Status: "HTTP/1.1 404 Not Found", Headers: make([]string, 2), Body: "x"}},
		"without a body":      {says("HTTP/1.1 204 No Content\r\n\r\n"), ipc.Tried{Code: 204, Status: "HTTP/1.1 204 No Content"}},
		"after a hint":        {says("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Headers: make([]string, 1), Body: "x"}},
		"with a long body":    {says("HTTP/1.1 200 OK\r\n\r\n" + long), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Body: long[:1<<10], More: true}},
		"with many headers":   {says("HTTP/1.1 200 OK\r\n" + many + "\r\n"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Headers: make([]string, 16), More: true}},
		"cut off":             {says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Headers: make([]string, 1), Body: "abc", More: true}},
		"in another encoding": {says("HTTP/1.1 200 OK\r\n\r\nn\xe9e"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Body: "n\uFFFDe"}},
		"within a character":  {says("HTTP/1.1 200 OK\r\n\r\n" + long[:1<<10-1] + "\u00e9"), ipc.Tried{Code: 200, Status: "HTTP/1.1 200 OK", Body: long[:1<<10-1], More: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := asked("", c.server)
				if err != nil {
					t.Fatal(err)
				}
				got.Headers, got.Seconds = make([]string, len(got.Headers)), 0
				if d := cmp.Diff(c.want, got, equateEmpty); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

var equateEmpty = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Headers" }, cmp.Comparer(func(a, b []string) bool { return len(a) == len(b) }))

// A stream is shown as far as it came in time.
func TestAStreamIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		got, err := asked("", func(c net.Conn, _ *http.Request) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
			hangs(c, nil)
		})
		if err != nil || got.Body != "data: 1\n\n" || !got.More || time.Since(began) != tryTime {
			t.Errorf("%+v, %v after %v", got, err, time.Since(began))
		}
	})
}

// Who does not answer, or in another language, is told from who answers badly.
func TestNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		server func(net.Conn, *http.Request)
		want   string
	}{
		"nothing":             {hangs, os.ErrDeadlineExceeded.Error()},
		"the end":             {says(""), "it ended the connection without an answer"},
		"TLS":                 {says("\x15\x03\x03\x00\x02\x02\x0a"), "it expects TLS"},
		"HTTP/2":              {says("\x00\x00\x06\x04\x00\x00\x00\x00\x00\r\n"), `what came begins with "\x00\x00\x06\x04\x00\x00\x00\x00\x00\r\n"`},
		"a greeting":          {says("220 mail ESMTP\r\n\x1b[2J"), `what came begins with "220 mail ESMTP\r\n\x1b[2J"`},
		"a bad status":        {says("HTTP/1.1 OK\r\n\r\n"), `its answer is not right: malformed HTTP status code "OK"`},
		"headers without end": {says("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<14)), "its headers have more than 32 KiB"},
		"hints without end":   {says(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1<<14)), "its headers have more than 32 KiB"},
		"half of the headers": {func(c net.Conn, r *http.Request) { says("HTTP/1.1 200 OK\r\nX: ")(c, r); hangs(c, r) }, "its answer stopped before the end of the headers"},
		"half of a status":    {says("HTTP/1.1 2"), `its answer is not right: malformed HTTP status code "2"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got, err := asked("", c.server); err == nil || err.Error() != c.want {
					t.Errorf("got %+v, %v; want %s", got, err, c.want)
				}
			})
		})
	}
}

// A server that ends a connection before it has read the whole request resets it.
func TestTheConnectionIsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Read(make([]byte, 1)) // else connect itself may fail
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := get(c, "/", time.Now().Add(time.Minute)); err == nil || err.Error() != "it reset the connection" {
		t.Error(err)
	}
}
