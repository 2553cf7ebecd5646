package ipc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// told yields events of these kinds, numbered from 1.
func told(kinds ...unit.ChangeKind) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for i, k := range kinds {
			if !yield(Event{Type: "event", Seq: uint64(i + 1), Kind: k, Unit: "api"}) {
				return
			}
		}
	}
}

// lasting is a fake whose events go on after first, silently, until the context
// is done. Then left is closed.
func lasting(first iter.Seq[Event]) (f *fake, left chan struct{}) {
	left = make(chan struct{})
	f = &fake{info: Info{Epoch: "e"}}
	f.events = func(ctx context.Context, _ uint64) iter.Seq[Event] {
		return func(yield func(Event) bool) {
			defer close(left)
			for e := range first {
				if !yield(e) {
					return
				}
			}
			<-ctx.Done()
		}
	}
	return f, left
}

// follow asks for a stream and returns its lines.
func (h *house) follow(t *testing.T, path string) *bufio.Scanner {
	t.Helper()
	c := h.visit(t)
	x := c.exchange(t.Context(), "GET")
	t.Cleanup(x.end)
	r, err := c.open(x, "", "GET", path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.become(silence)
	t.Cleanup(func() { r.Body.Close() })
	if got := r.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type: %s", got)
	}
	return bufio.NewScanner(r.Body)
}

// within fails the test when something never happens.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s: it never happens", what)
	}
	return v
}

func TestStreamSaysThatItEnds(t *testing.T) {
	f := &fake{info: Info{Epoch: "e"}}
	f.jobEvents = func(context.Context, string, uint64, bool) (iter.Seq[Event], error) {
		return told("begun", "finished"), nil
	}
	lines := serve(t, street(t), f).follow(t, "/v1/jobs/1/events")
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	want := `{"type":"event","id":"e-1","unit":"api","kind":"begun"} {"type":"event","id":"e-2","unit":"api","kind":"finished"} {"type":"end"}`
	if strings.Join(got, " ") != want || lines.Err() != nil {
		t.Errorf("%s, %v", got, lines.Err())
	}
}

// An event is sent when it happens, although no other follows.
func TestEventsAreNotHeldBack(t *testing.T) {
	more := make(chan unit.ChangeKind)
	f := &fake{info: Info{Epoch: "e"}}
	f.events = func(ctx context.Context, _ uint64) iter.Seq[Event] {
		return func(yield func(Event) bool) {
			for k := range more {
				if !yield(Event{Type: "event", Kind: k}) {
					return
				}
			}
		}
	}
	lines := serve(t, street(t), f).follow(t, "/v1/events")
	for _, kind := range []unit.ChangeKind{"ready", "baked", "switched"} {
		more <- kind
		if !lines.Scan() || !strings.Contains(lines.Text(), string(kind)) {
			t.Fatalf("%s: %q, %v", kind, lines.Text(), lines.Err())
		}
	}
	close(more)
	if !lines.Scan() || lines.Text() != `{"type":"end"}` {
		t.Errorf("%q", lines.Text())
	}
}

func TestSilentStreamBeats(t *testing.T) {
	f, _ := lasting(told())
	lines := serve(t, street(t), f, func(s *Server) { s.limits.heartbeat = time.Millisecond }).follow(t, "/v1/events")
	for range 3 {
		if !lines.Scan() || lines.Text() != `{"type":"heartbeat"}` {
			t.Fatalf("%q, %v", lines.Text(), lines.Err())
		}
	}
}

func TestClientThatHangsUpEndsTheSource(t *testing.T) {
	f, left := lasting(told("ready"))
	h := serve(t, street(t), f)
	c := h.raw(t)
	io.WriteString(c, get("/v1/events"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	within(t, "the source ends", left)
}

// T13: a reader that stops costs nothing for long.
func TestReaderThatStopsIsLetGo(t *testing.T) {
	left := make(chan struct{})
	f := &fake{logs: func(ctx context.Context, r LogRequest) (iter.Seq[LogLine], error) {
		return func(yield func(LogLine) bool) {
			defer close(left)
			for yield(LogLine{Type: "line", Text: strings.Repeat("x", 8000)}) {
			}
		}, nil
	}}
	h := serve(t, street(t), f, func(s *Server) { s.limits.write = 10 * time.Millisecond })
	c := h.raw(t)
	io.WriteString(c, get("/v1/logs?follow=true"))
	within(t, "the source ends", left)
}

// T13: and so does one that never says what it wants, or not all of it.
func TestSlowRequestIsLetGo(t *testing.T) {
	for _, part := range []string{"", "GET /v1/info HT", "GET /v1/info HTTP/1.1\r\nHost: x\r\nA: ", "POST /v1/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{"} {
		f := &fake{}
		h := serve(t, street(t), f, func(s *Server) { s.limits.header, s.limits.body = 10*time.Millisecond, 10*time.Millisecond })
		h.send(t, part) // returns when the server hangs up
		if len(f.acts()) > 0 {
			t.Errorf("%q: it did %q", part, f.acts())
		}
	}
}

// A supervisor that panics breaks off what was asked for, and nothing else.
func TestPanicsAreSurvived(t *testing.T) {
	said := make(chan string, 2)
	f := &fake{info: Info{PID: 7}, status: func([]string) (Status, error) { panic("status") }}
	f.events = func(context.Context, uint64) iter.Seq[Event] { return func(func(Event) bool) { panic("events") } }
	h := serve(t, street(t), f, func(s *Server) { s.http.ErrorLog.SetOutput(channel(said)) })
	c := h.visit(t)
	c.Patience = 0
	_, err := c.Status(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != Internal {
		t.Errorf("status: %v", err)
	}
	for _, err := range c.Events(t.Context()) {
		if !isLost(err) {
			t.Errorf("events: %v", err)
		}
	}
	for _, what := range []string{"status", "events"} {
		if line := within(t, "it is said", said); !strings.Contains(line, what) || !strings.Contains(line, "stream_test.go") {
			t.Errorf("%s: %s", what, line)
		}
	}
	if i, err := c.Info(t.Context()); err != nil || i.PID != 7 {
		t.Errorf("afterwards: %v, %v", i, err)
	}
}

type channel chan<- string

func (c channel) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// A stream that a shutdown breaks off does not look as if all had been said.
func TestShutdownCutsStreamsOff(t *testing.T) {
	f, left := lasting(told("ready"))
	h := serve(t, street(t), f)
	c := h.visit(t)
	c.Patience = 0
	var got []string
	for e, err := range c.Events(t.Context()) {
		got = append(got, fmt.Sprint(e.Kind, isLost(err)))
		if err == nil {
			h.leave(t)
		}
	}
	if fmt.Sprint(got) != "[readyfalse true]" {
		t.Errorf("%s", got)
	}
	within(t, "the source ends", left)
}

// What a service prints reaches the client as it is, byte for byte; what was not
// UTF-8 in Raw.
func TestLogLinesTravel(t *testing.T) {
	want := []LogLine{
		{Type: "line", Unit: "api", Generation: 3, PID: 9, Text: "\x1b[31mred\x1b[0m \u202e \u200b \U000e0041 é 日本"},
		{Type: "line", Text: "bad \ufffd", Raw: []byte("bad \xff")},
		{Type: "lost", Lost: 12},
		{Type: "line", Text: strings.Repeat("\u2028", 30_000)},
	}
	f := &fake{logs: func(context.Context, LogRequest) (iter.Seq[LogLine], error) {
		return func(yield func(LogLine) bool) {
			for _, l := range want {
				yield(l)
			}
		}, nil
	}}
	h := serve(t, street(t), f)
	var got []LogLine
	for l, err := range h.visit(t).Logs(t.Context(), LogRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	for line := range strings.Lines(h.send(t, closing(get("/v1/logs")))) {
		for _, r := range strings.TrimRight(line, "\r\n") {
			if Hidden(r) {
				t.Fatalf("%U is in an answer: %.80q", r, line)
			}
		}
	}
}
