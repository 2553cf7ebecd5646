package metrics

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func serveOne(r *http.Request, local bool) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	newHTTP(example, local, io.Discard).Handler.ServeHTTP(w, r)
	return w
}

func TestOnlyMetricsAreServed(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/metrics", 200},
		{"HEAD", "/metrics", 200},
		{"GET", "/metrics?x=1", 200},
		{"GET", "/", 404},
		{"GET", "/metrics/", 404},
		{"GET", "//metrics", 404},
		{"GET", "/debug/pprof/", 404},
		{"GET", "/v1/status", 404},
		{"POST", "/", 404},
		{"POST", "/metrics", 405},
		{"PUT", "/metrics", 405},
		{"DELETE", "/metrics", 405},
		{"OPTIONS", "/metrics", 405},
		{"get", "/metrics", 405},
	} {
		w := serveOne(httptest.NewRequest(c.method, "http://127.0.0.1:9475"+c.path, nil), true)
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
		if metrics := strings.Contains(w.Body.String(), "supervisord_"); metrics != (c.status == 200) {
			t.Errorf("%s %s: %s", c.method, c.path, w.Body)
		}
	}
	w := serveOne(httptest.NewRequest("POST", "http://127.0.0.1:9475/metrics", nil), true)
	if allow := w.Header().Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("allowed is %q", allow)
	}
}

// A web page whose name its owner has made to be 127.0.0.1 reads nothing.
func TestHost(t *testing.T) {
	for host, ok := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:9475": true, "[::1]:9475": true, "[::1]": true, "localhost": true, "LocalHost:9475": true, "10.1.2.3": true,
		"": false, "example.org": false, "example.org:9475": false, "127.0.0.1.example.org": false, "localhost.example.org": false,
		"localhost.": false, "0x7f.1": false, ":9475": false, "127.0.0.1:9475:1": false,
	} {
		r := httptest.NewRequest("GET", "http://x/metrics", nil)
		r.Host = host
		want := http.StatusForbidden
		if ok {
			want = http.StatusOK
		}
		if w := serveOne(r, true); w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
		if w := serveOne(r, false); w.Code != http.StatusOK { // who reaches it from elsewhere may read
			t.Errorf("Host %q where it is open to all: %d", host, w.Code)
		}
	}
}

// A pipe is a listener whose connections are in memory, with virtual deadlines.
type pipe struct {
	accepts chan net.Conn
	closed  chan struct{}
}

func newPipe() *pipe { return &pipe{make(chan net.Conn), make(chan struct{})} }

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepts:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipe) Close() error   { close(p.closed); return nil }
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects, and returns when the other end is accepted.
func (p *pipe) dial() net.Conn {
	here, there := net.Pipe()
	p.accepts <- there
	return here
}

func servePipe(t *testing.T, places int, f func(*pipe)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		srv := newHTTP(example, true, io.Discard)
		go srv.Serve(newDoor(p, places))
		f(p)
		srv.Close()
		synctest.Wait()
	})
}

const request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

// Whoever does not ask, or does not read, is cut off.
func TestSlowClientsAreCutOff(t *testing.T) {
	servePipe(t, 1, func(p *pipe) {
		began := time.Now()
		silent := p.dial()
		if _, err := io.ReadAll(silent); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != readTimeout {
			t.Errorf("who asks nothing is cut off after %s, want %s", d, readTimeout)
		}
		began = time.Now()
		slow := p.dial()
		io.WriteString(slow, request)
		slow.Read(make([]byte, 1))
		late := p.dial() // gets in when the slow one is gone
		if d := time.Since(began); d != writeTimeout {
			t.Errorf("who reads nothing is cut off after %s, want %s", d, writeTimeout)
		}
		late.Close()
	})
}

// Those who are too many wait, and are served when there is room.
func TestPlacesAreLimited(t *testing.T) {
	servePipe(t, 2, func(p *pipe) {
		first, second := p.dial(), p.dial()
		inside := false
		go func() {
			third := p.dial()
			inside = true
			io.WriteString(third, request)
			r, err := http.ReadResponse(bufio.NewReader(third), nil)
			if err != nil || r.StatusCode != 200 || !r.Close {
				t.Errorf("the third got %v, %v", r, err)
			}
			third.Close()
		}()
		synctest.Wait()
		if inside {
			t.Error("a third got in where there are two places")
		}
		first.Close()
		synctest.Wait()
		if !inside {
			t.Error("a place is not given back")
		}
		second.Close()
	})
}

// A server that is closed while all places are taken waits for nobody.
func TestCloseWhileFull(t *testing.T) {
	servePipe(t, 1, func(p *pipe) {
		c := p.dial()
		synctest.Wait()
		defer c.Close()
	})
}

func TestWhatIsNoRequest(t *testing.T) {
	for _, c := range []struct{ request, status string }{
		{"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "431"},
		{"GET /metrics HTTP/1.1\r\n\r\n", "400"},
		{"GET /metrics HTTP/1.0\r\n\r\n", "403"},
		{"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		{"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		{"GET http://example.org/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "403"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "403"},
		{"\x16\x03\x01\x00\x00", ""},
	} {
		servePipe(t, 1, func(p *pipe) {
			conn := p.dial()
			go io.WriteString(conn, c.request)
			answer, _ := io.ReadAll(conn)
			line, _, _ := strings.Cut(string(answer), "\r\n")
			if !strings.Contains(line, " "+c.status) {
				t.Errorf("%.40q: %q, want %s", c.request, line, c.status)
			}
			conn.Close()
		})
	}
}

// One snapshot is made at a time, however many ask.
func TestOneSnapshotAtATime(t *testing.T) {
	var inside atomic.Int32
	srv := newHTTP(func() Snapshot {
		if inside.Add(1) > 1 {
			t.Error("two are made at once")
		}
		for range 100 {
			runtime.Gosched()
		}
		inside.Add(-1)
		return Snapshot{}
	}, true, io.Discard)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			srv.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://localhost/metrics", nil))
		})
	}
	all.Wait()
}
