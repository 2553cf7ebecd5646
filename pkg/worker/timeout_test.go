package worker

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// A standIn is the listener of a process that takes over, at the address of l.
type standIn struct {
	net.Listener
	closed chan struct{}
}

func (s standIn) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func (s standIn) Close() error {
	close(s.closed)
	return s.Listener.Close()
}

// saidAfter is what a process says of a connection that has rested for d.
func saidAfter(d time.Duration, fresh bool) []byte {
	b := make([]byte, 1, restSize)
	if fresh {
		b[0] = 1
	}
	return binary.BigEndian.AppendUint64(b, uint64(d))
}

// Limits of time go on where another process has left them. They are of hours, so
// that a limit which begins anew shows.
func TestLimitsOfTimeSurviveAHandover(t *testing.T) {
	const half = "GET / HT"
	for _, test := range []struct {
		name   string
		srv    *http.Server
		said   []byte
		before string // what the client has sent when the connection moves
		after  string // and what it sends when a server has it
		want   string // the first line of the answer, or none
	}{
		{"HeadIsLate", &http.Server{ReadHeaderTimeout: time.Hour}, saidAfter(2*time.Hour, true), "", "", ""},
		{"HeadIsLateForReadTimeout", &http.Server{ReadTimeout: time.Hour}, saidAfter(2*time.Hour, true), "", "", ""},
		{"HeadIsLateAfterItsFirstByte", &http.Server{ReadHeaderTimeout: time.Hour}, saidAfter(2*time.Hour, true), half, "", "HTTP/1.1 400 Bad Request\r\n"},
		{"HeadIsLateAndHasArrived", &http.Server{ReadHeaderTimeout: time.Hour}, saidAfter(2*time.Hour, true), half + "TP/1.0\r\n\r\n", "", "HTTP/1.0 200 OK\r\n"},
		{"HeadHasNoLimit", &http.Server{IdleTimeout: time.Hour}, saidAfter(2*time.Hour, true), "", half + "TP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"HeadIsInTime", &http.Server{ReadHeaderTimeout: time.Hour}, saidAfter(time.Minute, true), "", half + "TP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"Idle", &http.Server{IdleTimeout: time.Hour}, saidAfter(2*time.Hour, false), "", "", ""},
		{"IdleForReadTimeout", &http.Server{ReadTimeout: time.Hour}, saidAfter(2*time.Hour, false), "", "", ""},
		{"IdleHasNoLimit", &http.Server{ReadHeaderTimeout: time.Hour}, saidAfter(2*time.Hour, false), "", half + "TP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"IdleAndARequestHasArrived", &http.Server{IdleTimeout: time.Hour}, saidAfter(2*time.Hour, false), half + "TP/1.0\r\n\r\n", "", "HTTP/1.0 200 OK\r\n"},
		{"NothingWasSaid", &http.Server{IdleTimeout: time.Hour}, nil, "", half + "TP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"NonsenseWasSaid", &http.Server{IdleTimeout: time.Hour}, saidAfter(-1<<63, false), "", half + "TP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			client.SetDeadline(time.Now().Add(10 * time.Second))
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			g := &Group{}
			test.srv.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			g.HTTP(test.srv, standIn{l, make(chan struct{})})
			if err := g.open(); err != nil {
				t.Fatal(err)
			}
			g.start()
			t.Cleanup(func() { g.join(); g.conns.kill(); g.doors[0].inbox.Close() })
			go g.doors[0].service.serve(g.doors[0].inbox, false)

			io.WriteString(client, test.before)
			front := g.doors[0].enter(accepted)
			in := connOf(front)
			in.state = test.said
			in.arrive(front)
			io.WriteString(client, test.after)
			r := bufio.NewReader(client)
			if line, err := r.ReadString('\n'); line != test.want || err != nil && err != io.EOF {
				t.Errorf("the answer is %q, %v; want %q", line, err, test.want)
			}
		})
	}
}

// resting waits for a connection that rests, after a request or before it.
func (v *leaver) resting(asked bool) *conn {
	for ; ; runtime.Gosched() {
		for _, c := range v.conns.all() {
			c.mu.Lock()
			idle := c.rest.idle && c.rest.fresh != asked
			c.mu.Unlock()
			if idle {
				return c
			}
		}
	}
}

func TestWhoGivesSaysHowLongAConnectionHasRested(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			v := newLeaver(t)
			c, r := v.dial(t)
			if asked {
				v.request(t, c, sized(10))
				v.release <- struct{}{}
				answerIs(t, r, "POST")
			}
			in := v.resting(asked)
			in.mu.Lock()
			in.rest.since = in.rest.since.Add(-time.Hour)
			in.mu.Unlock()
			v.setOut()
			p := v.take(t)
			defer closeAll(p.fds)
			var rest rest
			now := time.Now()
			rest.since = now
			rest.resume(p.state)
			if rest.fresh == asked || now.Sub(rest.since) < time.Hour {
				t.Errorf("said was %v: fresh %v, for %v", p.state, rest.fresh, now.Sub(rest.since))
			}
		})
	}
}
