package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	fresh = Modes[0]
	get   = Modes[1]
	post  = Modes[2]
)

// A server answers each of its connections by one script.
func server(t *testing.T, script func(net.Conn, *bufio.Reader)) Options {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			script(c, bufio.NewReader(c))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return Options{Network: "tcp", Address: l.Addr().String(), Clients: 1, Requests: 1, Timeout: time.Minute, Body: 100}
}

// asked reads one request and answers what a worker would.
func asked(r *bufio.Reader) string {
	req, err := http.ReadRequest(r)
	if err != nil {
		return ""
	}
	var body strings.Builder
	bufio.NewReader(req.Body).WriteTo(&body)
	return fmt.Sprintf("7 %s %s\n%s", req.Method, req.URL.Path, &body)
}

func answered(body, headers string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), headers, body)
}

// chunked is an answer whose body comes in chunks, of two bytes each.
func chunked(body string) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for ; body != ""; body = body[min(2, len(body)):] {
		part := body[:min(2, len(body))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	return b.String() + "0\r\n\r\n"
}

func TestEveryWayToLoseARequestHasItsName(t *testing.T) {
	for _, test := range []struct {
		name   string
		want   Failure
		script func(net.Conn, *bufio.Reader)
	}{
		{"reset before the answer", Reset, func(c net.Conn, r *bufio.Reader) {
			r.Peek(1)
			c.(*net.TCPConn).SetLinger(0)
		}},
		{"end before the answer", Closed, func(c net.Conn, r *bufio.Reader) { asked(r) }},
		{"end in the headers", CutShort, func(c net.Conn, r *bufio.Reader) {
			asked(r)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Le")
		}},
		{"end in the body", CutShort, func(c net.Conn, r *bufio.Reader) {
			all := answered(asked(r), "")
			fmt.Fprint(c, all[:len(all)-1])
		}},
		{"another's answer", Body, func(c net.Conn, r *bufio.Reader) {
			fmt.Fprint(c, answered(strings.Replace(asked(r), "/0/0", "/9/9", 1), ""))
		}},
		{"another's body", Body, func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, answered(asked(r)+"x", "")) }},
		{"an error page", Status, func(c net.Conn, r *bufio.Reader) {
			fmt.Fprint(c, strings.Replace(answered(asked(r), ""), "200 OK", "503 Busy", 1))
		}},
		{"no length", Malformed, func(c net.Conn, r *bufio.Reader) {
			asked(r)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
		}},
		{"two lengths", Malformed, func(c net.Conn, r *bufio.Reader) {
			fmt.Fprint(c, answered(asked(r), "Content-Length: 1\r\n"))
		}},
		{"no HTTP", Malformed, func(c net.Conn, r *bufio.Reader) {
			asked(r)
			fmt.Fprint(c, "220 mail.example ESMTP\r\n")
		}},
		{"length and chunks", Malformed, func(c net.Conn, r *bufio.Reader) {
			fmt.Fprint(c, answered(asked(r), "Transfer-Encoding: chunked\r\n"))
		}},
		{"end in the chunks", CutShort, func(c net.Conn, r *bufio.Reader) {
			all := chunked(asked(r))
			fmt.Fprint(c, all[:len(all)-7]) // the last chunk is missing
		}},
		{"end before the last empty line", CutShort, func(c net.Conn, r *bufio.Reader) {
			all := chunked(asked(r))
			fmt.Fprint(c, all[:len(all)-2])
		}},
		{"endless headers", Malformed, func(c net.Conn, r *bufio.Reader) {
			asked(r)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 200))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := server(t, test.script)
			o.Mode = post
			got := Run(context.Background(), o)
			if got.Attempts != 1 || got.OK != 0 || got.Failed != 1 || got.Failures[test.want] != 1 {
				t.Errorf("got %d attempts, failures %v (%s), want one %s", got.Attempts, got.Failures, got.First, test.want)
			}
		})
	}
}

func TestChunksAreOneAnswer(t *testing.T) {
	o := server(t, func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, chunked(asked(r))) })
	o.Mode = post
	if got := Run(context.Background(), o); got.OK != 1 {
		t.Errorf("%v (%s)", got.Failures, got.First)
	}
}

func TestRefusedAndTimedOut(t *testing.T) {
	silent := server(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := r.ReadByte(); err != nil { // until the client has had enough
				return
			}
		}
	})
	silent.Mode, silent.Timeout = get, 50*time.Millisecond
	if got := Run(context.Background(), silent); got.Failures[TimedOut] != 1 {
		t.Errorf("a silent server: %v (%s)", got.Failures, got.First)
	}
	nobody := Options{Mode: get, Network: "unix", Address: filepath.Join(t.TempDir(), "s"), Clients: 3, Requests: 2, Timeout: time.Minute}
	if got := Run(context.Background(), nobody); got.Failures[Refused] != 6 || got.Attempts != 6 {
		t.Errorf("nobody there: %v of %d (%s)", got.Failures, got.Attempts, got.First)
	}
}

func TestConnectionCloseIsAReconnectAndNoFailure(t *testing.T) {
	o := server(t, func(c net.Conn, r *bufio.Reader) {
		fmt.Fprint(c, answered(asked(r), ""))
		fmt.Fprint(c, answered(asked(r), "Connection: close\r\n"))
	})
	o.Mode, o.Requests = post, 10
	got := Run(context.Background(), o)
	if got.OK != 10 || got.Failed != 0 || got.Reconnects != 4 {
		t.Errorf("got %d ok, %v (%s), %d reconnects; want 10, none, 4", got.OK, got.Failures, got.First, got.Reconnects)
	}
}

// A server may close a connection on which nothing is asked. The request that
// comes next has not been sent on it and takes another.
func TestIdleConnectionThatEndedIsAReconnect(t *testing.T) {
	closed := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, answered(asked(bufio.NewReader(c)), ""))
			c.Close()
			closed <- struct{}{}
		}
	}()
	c := newClient(Options{Mode: get, Network: "tcp", Address: l.Addr().String(), Timeout: time.Minute}, 0)
	defer c.wire.hangUp()
	for n := range int64(2) {
		c.request(n, time.Time{})
		<-closed
		for c.wire.connected() { // the end is on its way over loopback
		}
	}
	if c.result.OK != 2 || c.result.Reconnects != 1 {
		t.Errorf("got %d ok, %v (%s), %d reconnects", c.result.OK, c.result.Failures, c.result.First, c.result.Reconnects)
	}
}

func TestNewModeTakesAConnectionForEachRequest(t *testing.T) {
	o := server(t, func(c net.Conn, r *bufio.Reader) {
		fmt.Fprint(c, answered(asked(r), ""))
		r.ReadByte()
	})
	o.Mode, o.Requests = fresh, 5
	if got := Run(context.Background(), o); got.OK != 5 || got.Reconnects != 0 || got.Servers["7"] != 5 {
		t.Errorf("got %d ok (%s), %d reconnects, answers by %v", got.OK, got.First, got.Reconnects, got.Servers)
	}
}

func TestQuantilesAreWithinOnePart(t *testing.T) {
	var h, half Histogram
	for i := 1; i <= 100_000; i++ {
		part := &h
		if i%2 == 0 {
			part = &half
		}
		part.Record(time.Duration(i) * time.Microsecond)
	}
	h.Add(&half)
	for _, q := range []float64{0, 0.5, 0.99, 0.999, 1} {
		want := time.Duration(max(q*100_000, 1)) * time.Microsecond
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*1.01+1000 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Max() != 100*time.Millisecond || h.Count() != 100_000 {
		t.Errorf("max %v of %d", h.Max(), h.Count())
	}
	h.Record(1000 * time.Hour)
	if h.Quantile(1) != 1000*time.Hour {
		t.Errorf("what is beyond the last bucket has the greatest: %v", h.Quantile(1))
	}
	if all := (&Result{Steady: half, Reload: h}).Latency(); half.Count() != 50_000 || all.Count() != 150_001 {
		t.Errorf("%d in all; of the %d parts, one counts for both", all.Count(), half.Count())
	}
}
