package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func init() {
	strangers["pretends"] = pretends
	strangers["is turned away"] = isTurnedAway
}

// pretends is an impostor: it listens, and prints what it is told by each of two
// callers.
func pretends(args []string) error {
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	os.Chmod(args[0], 0o666)
	fmt.Println("ready")
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		told := make([]byte, 20)
		n, _ := io.ReadAtLeast(c, told, 1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"pid\":6}")
		c.Close()
		fmt.Printf("%q\n", told[:n])
	}
	return nil
}

// T3: root's client says nothing to a supervisord that another user pretends to
// be, unless it is told that this is the one.
func TestImpostorIsToldNothing(t *testing.T) {
	dir := street(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, socketName)
	s := meet(t, somebody, "pretends", path)
	s.line()

	c := NewClient(path, NoOwner)
	defer c.Close()
	_, err := c.Submit(t.Context(), JobRequest{Verb: "stop", Unit: "secret"})
	var e *Error
	if !errors.As(err, &e) || e.Code != Unreachable || !strings.Contains(e.Message, fmt.Sprintf("uid %d listens there", somebody)) ||
		len(e.Hints) != 1 || !strings.Contains(e.Hints[0], "--socket-owner") {
		t.Errorf("%#v", err)
	}
	if told := s.line(); told != `""` {
		t.Errorf("the impostor was told %s", told)
	}

	c = NewClient(path, somebody)
	defer c.Close()
	if i, err := c.Info(t.Context()); err != nil || i.PID != 6 {
		t.Errorf("with its owner named: %v, %v", i, err)
	}
	if told := s.line(); !strings.HasPrefix(told, `"GET /v1/info`) {
		t.Errorf("with its owner named it was told %s", told)
	}
}

// isTurnedAway is a user who may not connect, and prints what superctl would say.
func isTurnedAway(args []string) error {
	c := NewClient(args[0], NoOwner)
	defer c.Close()
	_, err := c.Info(context.Background())
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	fmt.Println(e.Code, e.Message)
	return nil
}

func TestWhoMayNotIsToldSo(t *testing.T) {
	h := serve(t, street(t), &fake{})
	s := meet(t, somebody, "is turned away", h.path)
	if got, want := s.dismiss(), "denied cannot use "+h.path+": permission denied"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := street(t)
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	file := filepath.Join(dir, "file")
	write(t, file)
	for path, want := range map[string]string{
		dead:                          "nobody listens there",
		file:                          "it is not a socket",
		dir:                           "it is not a socket",
		filepath.Join(dir, "none"):    "no such file or directory",
		filepath.Join(dir, "no", "x"): "no such file or directory",
		file + "/x":                   "not a directory",
	} {
		c := NewClient(path, NoOwner)
		_, err := c.Info(t.Context())
		c.Close()
		var e *Error
		if !errors.As(err, &e) || e.Code != Unreachable || e.Message != "cannot reach supervisord at "+path+": "+want {
			t.Errorf("%s: %#v", path, err)
		}
	}
}

// impostor answers each connection with bytes, and hangs up.
func answering(t *testing.T, answers ...string) *Client {
	t.Helper()
	path := filepath.Join(street(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			io.WriteString(c, answers[min(i, len(answers)-1)])
			c.Close()
		}
	}()
	c := NewClient(path, NoOwner)
	c.Patience = 0
	t.Cleanup(func() {
		c.Close()
		l.Close()
		<-done
	})
	return c
}

const streamHeader = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"

// A stream that merely stops was cut off, wherever it stops: what came whole is
// told, and then that something is missing.
func TestCutStreamsAreNoEnds(t *testing.T) {
	const event = `{"type":"event","kind":"ready"}` + "\n"
	for _, c := range []struct {
		name, answer string
		whole        int
		lost         bool
	}{
		{"at once", streamHeader, 0, true},
		{"after a line", streamHeader + event, 1, true},
		{"within a line", streamHeader + event + event[:10], 1, true},
		{"before the last newline", streamHeader + event + `{"type":"end"}`, 1, true},
		{"after the end", streamHeader + event + `{"type":"end"}` + "\n", 1, false},
		{"within the header", streamHeader[:20], 0, true},
		{"with nothing", "", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole, lost := 0, false
			for _, err := range answering(t, c.answer).Events(t.Context()) {
				if err == nil {
					whole++
				} else if lost = isLost(err); !lost {
					t.Errorf("%#v", err)
				}
			}
			if whole != c.whole || lost != c.lost {
				t.Errorf("%d events, lost = %v", whole, lost)
			}
		})
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
		"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
		streamHeader + "rubbish\n",
	} {
		_, err := answering(t, answer).Info(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Code != Internal {
			t.Errorf("%q: %#v", answer, err)
		}
	}
	for _, err := range answering(t, streamHeader+strings.Repeat("x", 2*maxLine)).Events(t.Context()) {
		if err == nil {
			t.Error("a line without end was taken")
		}
	}
}

// A newer supervisord may say more.
func TestUnknownFieldsOfAnswersAreIgnored(t *testing.T) {
	const text = `{"pid":7,"mood":"good","Version":"x"}`
	i, err := answering(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)).Info(t.Context())
	if err != nil || i.PID != 7 {
		t.Errorf("%v, %v", i, err)
	}
}

// Who is asked for what only another version has, says which version it is, rather
// than that the request makes no sense.
func TestAnotherVersionIsSaidToBeOne(t *testing.T) {
	answer := func(status, text string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(text), text)
	}
	const unknown, wrong = `{"code":"usage","message":"there is no such thing here"}`, `{"code":"usage","message":"no field is called"}`
	for _, c := range []struct {
		status, refusal, info string
		want                  Code
		says, hint            string
	}{
		{"404 Not Found", unknown, `{"version":"v0.9.0","api":1,"pid":7}`, Outdated, "version v0.9.0 (API 1), pid 7", "restart supervisord"},
		{"404 Not Found", unknown, `{"version":"v0.9.0","api":0,"pid":7}`, Outdated, "API 0", "restart supervisord"},
		{"404 Not Found", unknown, `{"version":"v3.0.0","api":3,"pid":7}`, Outdated, "API 3", "the superctl that came with"},
		{"405 Method Not Allowed", unknown, `{"api":1}`, Outdated, "", ""},
		{"400 Bad Request", wrong, `{"version":"v0.9.0","api":0}`, Outdated, "v0.9.0", ""},
		{"400 Bad Request", wrong, `{"api":1}`, Usage, "no field is called", ""},
		{"404 Not Found", unknown, `{"pid":7`, Usage, "no such thing", ""},
		{"404 Not Found", `{"code":"no-such-unit","message":"it is not there"}`, `{"api":0}`, NoSuchUnit, "", ""},
	} {
		_, err := answering(t, answer(c.status, c.refusal), answer("200 OK", c.info)).History(t.Context(), HistoryRequest{N: 1})
		var e *Error
		if !errors.As(err, &e) || e.Code != c.want || !strings.Contains(e.Message, c.says) || c.hint != "" && !strings.Contains(e.Hints[0], c.hint) {
			t.Errorf("%s, %s: %#v", c.status, c.info, err)
		}
	}
}

// numbered is a supervisor whose job has had these events so far, and is lost
// sight of after them; the last one is "finished".
func numbered(epoch string, kinds []unit.ChangeKind, since *[]uint64) *fake {
	f := &fake{info: Info{Epoch: epoch}}
	f.jobEvents = func(ctx context.Context, id string, after uint64, _ bool) (iter.Seq[Event], error) {
		if epoch != "e" {
			return nil, &Error{Code: NoSuchJob, Message: "there is no job " + id}
		}
		*since = append(*since, after)
		return func(yield func(Event) bool) {
			for e := range told(kinds...) {
				if e.Seq > after && !yield(e) {
					return
				}
			}
			if kinds[len(kinds)-1] != unit.Finished {
				<-ctx.Done()
			}
		}, nil
	}
	return f
}

// A client that loses supervisord goes on where it was when it is back, and is
// told nothing twice.
func TestStreamGoesOnWhereItWas(t *testing.T) {
	dir := street(t)
	var since []uint64
	first := serve(t, dir, numbered("e", []unit.ChangeKind{"begun", "started"}, &since))
	c := first.visit(t)
	c.Patience = time.Minute
	var got []string
	for e, err := range c.JobEvents(t.Context(), "1", false) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Kind))
		if e.Kind == "started" {
			first.leave(t)
			serve(t, dir, numbered("e", []unit.ChangeKind{"begun", "started", "ready", "finished"}, &since))
		}
	}
	if fmt.Sprint(got) != "[begun started ready finished]" || fmt.Sprint(since) != "[0 2]" {
		t.Errorf("%s, after %d", got, since)
	}
}

// What became of a job is not known by another supervisord.
func TestAnotherSupervisordKnowsNothing(t *testing.T) {
	dir := street(t)
	var since []uint64
	first := serve(t, dir, numbered("e", []unit.ChangeKind{"begun"}, &since))
	c := first.visit(t)
	c.Patience = time.Minute
	var last error
	for e, err := range c.JobEvents(t.Context(), "1", false) {
		if e.Kind == "begun" {
			first.leave(t)
			serve(t, dir, numbered("f", []unit.ChangeKind{"begun"}, &since))
		}
		last = err
	}
	var e *Error
	if !errors.As(last, &e) || e.Code != Unreachable || !strings.Contains(e.Message, "started anew") {
		t.Errorf("%#v", last)
	}
}

// When patience ends, it is said which job goes on.
func TestPatienceEnds(t *testing.T) {
	var since []uint64
	h := serve(t, street(t), numbered("e", []unit.ChangeKind{"begun"}, &since))
	c := h.visit(t)
	c.Patience = time.Millisecond
	var last error
	for e, err := range c.JobEvents(t.Context(), "1", false) {
		if e.Kind == "begun" {
			h.leave(t)
		}
		last = err
	}
	var e *Error
	if !errors.As(last, &e) || e.Code != Unreachable || len(e.Notes) != 1 || !strings.Contains(e.Notes[0], "job 1") {
		t.Errorf("%#v", last)
	}
}

// Ctrl-C ends everything at once.
func TestCancelledClient(t *testing.T) {
	enough := errors.New("enough")
	f, left := lasting(told("ready"))
	h := serve(t, street(t), f)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for _, err := range h.visit(t).Events(ctx) {
		last = err
		cancel(enough)
	}
	if !errors.Is(last, enough) {
		t.Errorf("%v", last)
	}
	within(t, "the source ends", left)
	if _, err := h.visit(t).Info(ctx); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}

// A reader may stop in the middle.
func TestReaderHasSeenEnough(t *testing.T) {
	f, left := lasting(told("ready", "baked"))
	for range serve(t, street(t), f).visit(t).Events(t.Context()) {
		break
	}
	within(t, "the source ends", left)
}

// A supervisord that dies when it was asked for something is asked again when it is back:
// the job is begun once, and the answer is about that one.
func TestARequestIsSentAgain(t *testing.T) {
	dir, jobs := street(t), map[string]Job{}
	var mu sync.Mutex
	begin := func(r JobRequest) Job {
		mu.Lock()
		defer mu.Unlock()
		if jobs[r.RequestID].ID == "" {
			jobs[r.RequestID] = Job{ID: strconv.Itoa(len(jobs) + 7), Unit: r.Unit, Verb: r.Verb, State: JobDone}
		}
		return jobs[r.RequestID]
	}
	died := make(chan struct{}, 1)
	first := serve(t, dir, &fake{submit: func(r JobRequest) (Job, error) {
		begin(r)
		died <- struct{}{}
		panic(http.ErrAbortHandler)
	}})
	c := first.visit(t)
	c.Patience = time.Minute
	go func() {
		<-died
		first.leave(t)
		serve(t, dir, &fake{submit: func(r JobRequest) (Job, error) { return begin(r), nil }})
	}()
	for want := range 2 {
		j, err := c.Submit(t.Context(), JobRequest{Verb: "reload", Unit: "api"})
		if err != nil || j.ID != strconv.Itoa(want+7) {
			t.Errorf("%+v, %v", j, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for id := range jobs {
		if len(jobs) != 2 || !requestID().MatchString(id) {
			t.Errorf("%d jobs, the id of a request is %q", len(jobs), id)
		}
	}
}

// Where nobody ever was, nobody is waited for.
func TestNobodyIsWaitedForWhoWasNeverThere(t *testing.T) {
	c := NewClient(filepath.Join(street(t), "s"), NoOwner)
	c.Patience = time.Hour
	if _, err := c.Submit(t.Context(), JobRequest{Verb: "stop", Unit: "api"}); err == nil || !strings.Contains(err.Error(), "cannot reach") {
		t.Error(err)
	}
}

// Who hangs up again and again is given up, and it is said that nobody knows.
func TestNoAnswerAtAll(t *testing.T) {
	c := answering(t, "")
	c.Patience = time.Millisecond
	err := c.Kill(t.Context(), KillRequest{Unit: "api", Signal: 9, Whom: "main"})
	var e *Error
	if !errors.As(err, &e) || e.Code != Unreachable || len(e.Notes) != 1 || !strings.Contains(e.Notes[0], "not known") {
		t.Errorf("%#v", err)
	}
	if _, err := c.Status(t.Context()); !errors.As(err, &e) || len(e.Notes) != 0 {
		t.Errorf("of a question there is nothing to say: %#v", err)
	}
}

// Events of another supervisord are long ago for this one.
func TestSinceAnotherEpoch(t *testing.T) {
	for id, want := range map[string]uint64{"": 0, "e-30": 30, "d-30": longAgo, "e-0": longAgo} {
		r := &request{query: url.Values{"since": {id}}}
		if got, err := r.since("e"); got != want || err != nil {
			t.Errorf("%q is since %d, not %d: %v", id, got, want, err)
		}
	}
}

// Who follows the output goes on when supervisord is back, and is told that there may be a
// gap. The past is not told again.
func TestLogsAreFollowedOverARestart(t *testing.T) {
	dir, asked := street(t), make(chan LogRequest, 2)
	says := func(lines ...string) *fake {
		return &fake{logs: func(ctx context.Context, r LogRequest) (iter.Seq[LogLine], error) {
			asked <- r
			return func(yield func(LogLine) bool) {
				for _, text := range lines {
					if !yield(LogLine{Type: "line", Text: text}) {
						return
					}
				}
				<-ctx.Done()
			}, nil
		}}
	}
	first := serve(t, dir, says("one"))
	c := first.visit(t)
	c.Patience = time.Minute
	var got []string
	for l, err := range c.Logs(t.Context(), LogRequest{N: 10, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, l.Text); l.Text == "one" {
			first.leave(t)
			serve(t, dir, says("two"))
		}
		if l.Text == "two" {
			break
		}
	}
	if want := []string{"one", missedLines, "two"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if a, b := <-asked, <-asked; a.N != 10 || b.N != 0 || !b.Follow {
		t.Errorf("asked for %+v, then %+v", a, b)
	}
}
