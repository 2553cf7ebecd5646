package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/message"
)

func mode(t *testing.T, name string) Mode {
	i := slices.IndexFunc(Modes, func(m Mode) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no mode is called %s", name)
	}
	return Modes[i]
}

// HTTP/2 frames, RFC 9113, section 6: type and flags, stream 0.
const (
	settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	goAway   = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // none was begun
	headers  = 1
)

// untilHeaders reads a connection to the first frame of a request.
func untilHeaders(r *bufio.Reader) error {
	if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		return err
	}
	for {
		var h [9]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return err
		}
		if _, err := r.Discard(int(h[0])<<16 | int(h[1])<<8 | int(h[2])); err != nil || h[3] == headers {
			return err
		}
	}
}

// A request behind GOAWAY's last one was not begun, and is sent again. One whose
// connection ends is lost, and net/http does not send it again either.
func TestHTTP2SendsAgainWhatWasNotBegun(t *testing.T) {
	for _, end := range []struct {
		name         string
		then         []string
		conns        int
		resent, lost int64
	}{
		{"GOAWAY, then an end", []string{goAway, ""}, 2, 1, 1},
		{"an end", []string{""}, 1, 0, 1},
	} {
		var conns atomic.Int64
		o := server(t, func(c net.Conn, r *bufio.Reader) {
			n := int(conns.Add(1)) // what it does not read of what the client sends makes the end a reset
			io.WriteString(c, settings)
			if untilHeaders(r) == nil {
				io.WriteString(c, end.then[min(n, len(end.then))-1])
			}
		})
		o.Mode = mode(t, "h2c")
		got := Run(context.Background(), o)
		if n := int(conns.Load()); n != end.conns || got.Resent != end.resent || got.Failed != end.lost || got.Failures[Closed]+got.Failures[Reset] != end.lost {
			t.Errorf("%s: %d connections, %d sent again, %v (%s)", end.name, n, got.Resent, got.Failures, got.First)
		}
	}
}

// worker answers as a worker does.
func worker(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "7 %s %s\n%s", r.Method, r.URL.RequestURI(), body)
}

func TestHTTPModesUnderstandNetHTTP(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(worker))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c := httptest.NewUnstartedServer(http.HandlerFunc(worker))
	c.Config.Protocols = new(http.Protocols)
	c.Config.Protocols.SetHTTP1(true)
	c.Config.Protocols.SetUnencryptedHTTP2(true)
	c.Start()
	defer c.Close()
	for _, m := range Modes {
		if m.Socket == TCP || m.Protocol == WebSocket || m.Socket == Unix || m.Takes > 0 {
			continue
		}
		address := c.Listener.Addr()
		if m.Socket == TLS {
			address = s.Listener.Addr()
		}
		got := Run(context.Background(), Options{
			Mode: m, Network: "tcp", Address: address.String(), TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"},
			Clients: 2, Requests: 5, Body: 100, Timeout: time.Minute,
		})
		if got.OK != 10 || got.Reconnects != 0 {
			t.Errorf("%s: %d ok, %v (%s), %d reconnects", m.Name, got.OK, got.Failures, got.First, got.Reconnects)
		}
	}
}

// Asked to move, a client takes the answer that is under way, and goes.
func TestMessagesMove(t *testing.T) {
	o := server(t, func(c net.Conn, _ *bufio.Reader) {
		m := message.NewFramed(c)
		for n := 0; ; n++ {
			q, err := m.Receive()
			if err != nil {
				return
			}
			if n == 1 {
				m.Send(nil)
			}
			m.Send(append([]byte("7 "), q...))
		}
	})
	o.Mode, o.Requests = mode(t, "tcp"), 6
	if got := Run(context.Background(), o); got.OK != 6 || got.Reconnects != 2 {
		t.Errorf("%d ok, %v (%s), %d reconnects; want 6, none, 2", got.OK, got.Failures, got.First, got.Reconnects)
	}
}

func TestMessagesThatDoNotCome(t *testing.T) {
	for want, bytes := range map[Failure]string{Closed: "", CutShort: "\x00\x00\x00\x09x", Malformed: "\xff\xff\xff\xff"} {
		o := server(t, func(c net.Conn, _ *bufio.Reader) {
			message.NewFramed(c).Receive()
			io.WriteString(c, bytes)
		})
		o.Mode = mode(t, "tcp")
		if got := Run(context.Background(), o); got.Failures[want] != 1 {
			t.Errorf("%q: %v (%s), want %s", bytes, got.Failures, got.First, want)
		}
	}
}

func TestRates(t *testing.T) {
	o := Options{Clients: 8, Rate: 100}
	if o.Interval() != 80*time.Millisecond {
		t.Errorf("8 clients at 100 a second: each every %v", o.Interval())
	}
	o.Mode.Takes = time.Second
	if o.Interval() != 2*time.Second {
		t.Errorf("requests of a second: each every %v", o.Interval())
	}
	c := newClient(Options{Clients: 1, Rate: 10}, 0)
	due := time.Now().Add(-time.Hour) // the last one took long
	if next := c.next(due, c.Interval()); next != due.Add(100*time.Millisecond) {
		t.Errorf("due at %v, next at %v", due, next)
	}
}

func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	o := server(t, func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, answered(asked(r), "")) })
	o.Mode, o.Rate, o.Trace = fresh, 1, NewTrace(time.Minute)
	o.Trace.start = o.Trace.start.Add(-time.Hour - time.Second)
	o.Trace.span = 2 * time.Hour
	c := newClient(o, 0)
	c.request(0, time.Now().Add(-time.Hour))
	if c.result.OK != 1 || c.result.Steady.Max() < time.Hour || o.Trace.Samples()[0].Took < time.Hour {
		t.Errorf("%d ok, at most %v", c.result.OK, c.result.Steady.Max())
	}
}

func TestPhases(t *testing.T) {
	var p Phase
	quiet := p.mark()
	if p.disturbed(quiet) {
		t.Error("disturbed by nothing")
	}
	p.Begin()
	within := p.mark()
	if !p.disturbed(quiet) || !p.disturbed(within) {
		t.Error("not disturbed while it goes on")
	}
	p.End()
	if !p.disturbed(quiet) || !p.disturbed(within) {
		t.Error("a part of it is none")
	}
	if after := p.mark(); p.disturbed(after) {
		t.Error("disturbed by what has ended")
	}
	var none *Phase
	if none.disturbed(none.mark()) {
		t.Error("disturbed by none")
	}
}

// A request that waited for one that a reload disturbed was disturbed by it too,
// although it was sent later.
func TestWhatWaitsForADisturbedRequestIsDisturbed(t *testing.T) {
	p := new(Phase)
	n := 0
	o := server(t, func(c net.Conn, r *bufio.Reader) {
		if n++; n == 1 {
			p.Begin()
			p.End()
		}
		fmt.Fprint(c, answered(asked(r), ""))
	})
	o.Mode, o.Rate, o.Phase = fresh, 1, p
	c := newClient(o, 0)
	c.request(0, time.Now())
	c.request(1, time.Now().Add(-time.Second))
	c.request(2, time.Now())
	if c.result.Reload.Count() != 2 || c.result.Steady.Count() != 1 {
		t.Errorf("%d disturbed, %d not", c.result.Reload.Count(), c.result.Steady.Count())
	}
}

func TestUnanswered(t *testing.T) {
	var lost *lostError
	if err := unanswered(io.EOF); !errors.As(err, &lost) || lost.how != Closed {
		t.Errorf("got %v", err)
	}
}
