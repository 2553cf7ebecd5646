package ipc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// talking is a client, in virtual time, of somebody with pid 42 who does as serve
// says; nil: who cannot be connected to.
func talking(serve func(net.Conn)) *Client {
	c := NewClient("/x/control.sock", NoOwner)
	c.Patience = 0
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if serve == nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			serve(far)
		}()
		return &known{near, 42}, nil
	}
	return c
}

// heard reads a request.
func heard(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) }

// hang waits until the other end hangs up.
func hang(c net.Conn) { io.Copy(io.Discard, c) }

// Wherever supervisord stops, a request ends, and says by whom it was not answered.
func TestNobodyWaitsForASupervisordThatStands(t *testing.T) {
	const pid = "pid 42"
	for name, c := range map[string]struct {
		serve func(net.Conn)
		says  string
	}{
		"before it is connected": {nil, "cannot connect to /x/control.sock"},
		"before it reads":        {func(net.Conn) { time.Sleep(time.Hour) }, pid},
		"before it answers":      {func(c net.Conn) { heard(c); hang(c) }, pid},
		"within the header":      {func(c net.Conn) { heard(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b"); hang(c) }, pid},
		"within the body": {func(c net.Conn) {
			heard(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"pi")
			hang(c)
		}, pid},
		"within an error": {func(c net.Conn) {
			heard(c)
			io.WriteString(c, "HTTP/1.1 409 No\r\nContent-Length: 9\r\n\r\n{\"me")
			hang(c)
		}, pid},
	} {
		for _, verb := range []string{"a question", "a job", "a stream"} {
			t.Run(name+", "+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client, began := talking(c.serve), time.Now()
					defer time.Sleep(2 * time.Hour) // everybody comes to an end
					defer client.Close()
					var err error
					limit := answerTime
					switch verb {
					case "a question":
						_, err = client.Info(t.Context())
					case "a job":
						_, err = client.Submit(t.Context(), JobRequest{Verb: "stop", Unit: "api"})
					case "a stream":
						for _, err = range client.Events(t.Context()) {
						}
						if name == "within the body" {
							limit = silence
						}
					}
					var e *Error
					if !errors.As(err, &e) || e.Code != Unreachable || !strings.Contains(e.Message, c.says) {
						t.Fatalf("%#v", err)
					}
					if took := time.Since(began); took != limit {
						t.Errorf("it took %s", took)
					}
					if c.says == pid && (len(e.Hints) == 0 || (verb == "a job") != (len(e.Notes) > 0)) {
						t.Errorf("notes %q, hints %q", e.Notes, e.Hints)
					}
				})
			})
		}
	}
}

// Who takes long and says so is waited for, as long as it takes.
func TestSlowAnswersAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := talking(func(c net.Conn) {
			heard(c)
			for range 1000 {
				time.Sleep(answerTime / 3)
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"pid\"")
			time.Sleep(answerTime - 1)
			io.WriteString(c, ":6}")
		})
		defer c.Close()
		if i, err := c.Info(t.Context()); err != nil || i.PID != 6 {
			t.Errorf("%v, %v", i, err)
		}
	})
}

// A stream in which nothing happens for hours goes on as long as its heart beats,
// and not much longer.
func TestStreamsLiveByTheirHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const beats = 1000
		c := talking(func(c net.Conn) {
			heard(c)
			io.WriteString(c, streamHeader)
			for range beats {
				time.Sleep(heartbeat)
				io.WriteString(c, `{"type":"heartbeat"}`+"\n")
			}
			hang(c)
		})
		defer c.Close()
		began := time.Now()
		for _, err := range c.JobEvents(t.Context(), "1", false) {
			var e *Error
			if !errors.As(err, &e) || e.Code != Unreachable || !strings.Contains(e.Message, "pid 42") {
				t.Errorf("%#v", err)
			}
		}
		if took := time.Since(began); took != beats*heartbeat+silence {
			t.Errorf("it took %s", took)
		}
	})
}

// A server says that it is at work for as long as it is.
func TestServerSaysThatAnAnswerTakesLonger(t *testing.T) {
	for _, path := range []string{"/v1/status", "/v1/logs?unit=api"} {
		answer := make(chan struct{})
		f := &fake{status: func([]string) (Status, error) { <-answer; return Status{}, nil }}
		f.logs = slowLogs(answer)
		h := serve(t, street(t), f, func(s *Server) { s.limits.progress = time.Millisecond })
		c := h.raw(t)
		io.WriteString(c, closing(get(path)))
		in := bufio.NewReader(c)
		for range 3 {
			if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%s: %q, %v", path, line, err)
			}
			in.ReadString('\n')
		}
		close(answer)
		rest, err := io.ReadAll(in)
		if err != nil || strings.Count(string(rest), "HTTP/1.1 200 OK\r\n") != 1 {
			t.Errorf("%s: %q, %v", path, rest, err)
		}
	}
}

// A process that listens and is stopped, and one whose queue is full.
func TestSocketOfAStoppedProcess(t *testing.T) {
	path := filepath.Join(street(t), socketName)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := dialer{path, NoOwner}.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if k, ok := c.(*known); !ok || k.pid != unix.Getpid() {
		t.Errorf("it is connected to %#v", c)
	}
	_, err = dialer{path, NoOwner}.dial(t.Context(), "", "")
	var e *Error
	if !errors.As(err, &e) || e.Code.Meaning().Exit != 5 || !strings.Contains(e.Message, "too many wait") || len(e.Hints) == 0 {
		t.Errorf("%#v", err)
	}
}

func slowLogs(answer chan struct{}) func(context.Context, LogRequest) (iter.Seq[LogLine], error) {
	return func(context.Context, LogRequest) (iter.Seq[LogLine], error) {
		<-answer
		return slices.Values([]LogLine(nil)), nil
	}
}
