package ipc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// example is a request of each route that is right.
var example = map[string]string{
	"GET /v1/info":             get("/v1/info"),
	"GET /v1/status":           get("/v1/status?unit=api&unit=http.socket"),
	"GET /v1/events":           get("/v1/events?since=e-3"),
	"GET /v1/logs":             get("/v1/logs?unit=api&n=3&generation=2&invocation=00ff00ff&since=2026-01-31T15:04:05Z&until=2026-01-31T16:04:05.5%2B01:00"),
	"GET /v1/history":          get("/v1/history?unit=api&unit=web&n=3"),
	"POST /v1/jobs":            post("/v1/jobs", `{"verb":"reload","unit":"api"}`),
	"GET /v1/jobs/{id}":        get("/v1/jobs/7"),
	"GET /v1/jobs/{id}/events": get("/v1/jobs/7/events?wait=drained&since=e-3"),
	"POST /v1/kill":            post("/v1/kill", `{"unit":"api","signal":15,"whom":"main"}`),
	"POST /v1/try":             post("/v1/try", `{"unit":"api","whom":"next","instance":0,"address":"127.0.0.1:80","path":"/healthz"}`),
	"POST /v1/reset-failed":    post("/v1/reset-failed", `{"unit":"api"}`),
	"POST /v1/daemon-reload":   post("/v1/daemon-reload", ""),
}

func TestEveryRouteAnswers(t *testing.T) {
	for _, r := range Routes {
		f := &fake{info: Info{Epoch: "e", PID: 77}}
		d := serve(t, street(t), f)
		name := r.Method + " " + r.Path
		want := http.StatusOK
		if name == "POST /v1/jobs" {
			want = http.StatusAccepted
		}
		if answer := d.send(t, closing(example[name])); statusOf(answer) != want {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

// What reads changes nothing, and what changes takes more than the role to read.
func TestOnlyPostsAct(t *testing.T) {
	for _, r := range Routes {
		f := &fake{info: Info{Epoch: "e", PID: 77}}
		d := serve(t, street(t), f)
		d.send(t, closing(example[r.Method+" "+r.Path]))
		if acted := len(f.acts()) > 0; acted != (r.Method == "POST") {
			t.Errorf("%s %s: it was asked for %q", r.Method, r.Path, f.acts())
		}
		if acts := r.Role > Read; acts != (r.Method == "POST") {
			t.Errorf("%s %s takes the role %s", r.Method, r.Path, r.Role)
		}
	}
}

// Each role gets what its routes give, and nothing else, whatever it asks for.
// Nobody gets nothing.
func TestRoles(t *testing.T) {
	for role := Nobody; role <= Admin; role++ {
		f := &fake{info: Info{Epoch: "e"}}
		d := serve(t, street(t), f, func(s *Server) { s.role = func(Caller) Role { return role } })
		for _, r := range Routes {
			before := len(f.acts())
			answer := d.send(t, closing(example[r.Method+" "+r.Path]))
			allowed := role >= r.Role
			if denied := statusOf(answer) == http.StatusForbidden; denied == allowed {
				t.Errorf("%s asks %s %s: %s", role, r.Method, r.Path, answer)
			}
			if !allowed && len(f.acts()) != before {
				t.Errorf("%s has done %s %s", role, r.Method, r.Path)
			}
		}
	}
}

func TestWhatIsNoRouteIsRefused(t *testing.T) {
	f := &fake{info: Info{Epoch: "e", PID: 77}}
	d := serve(t, street(t), f)
	for request, want := range map[string]int{
		get("/"):                404,
		get("/v1"):              404,
		get("/v1/info/"):        404,
		get("//v1/info"):        404,
		get("/v1/../v1/info"):   404,
		get("/v1/%69nfo"):       400,
		get("/v1/jobs%2fe-7"):   400,
		get("/v1/jobs/../info"): 404,
		get("/v1/kill"):         405,
		get("/v1/jobs/;rm"):     400,
		post("/v1/info", ""):    405,
		get("/V1/INFO"):         404,
	} {
		if answer := d.send(t, closing(request)); statusOf(answer) != want {
			t.Errorf("%q: %s", request, answer)
		}
	}
	if got := f.acts(); len(got) > 0 {
		t.Errorf("it was asked for %q", got)
	}
}

// Each error reaches the client as it was made, under the status of its code.
func TestErrorsTravel(t *testing.T) {
	for _, m := range Codes {
		if m.HTTP == 0 {
			continue
		}
		want := &Error{Code: m.Code, Message: "cannot reload api: no", Notes: []string{"n"}, Hints: []string{"h"}, Output: []string{"panic: \u202e\x1b"}}
		h := serve(t, street(t), &fake{info: Info{API: APIVersion}, submit: func(JobRequest) (Job, error) { return Job{}, want }})
		_, err := h.visit(t).Submit(t.Context(), JobRequest{Verb: "reload", Unit: "api"})
		var e *Error
		if !errors.As(err, &e) || fmt.Sprint(*e) != fmt.Sprint(*want) {
			t.Errorf("%s: %#v", m.Code, err)
		}
		if answer := h.send(t, closing(example["POST /v1/jobs"])); statusOf(answer) != m.HTTP {
			t.Errorf("%s: %s", m.Code, answer)
		}
	}
}

// An error that is none of ours is a fault, and is said to be one.
func TestForeignErrorIsAFault(t *testing.T) {
	foreign := errors.New("cannot read /proc: permission denied")
	h := serve(t, street(t), &fake{status: func([]string) (Status, error) { return Status{}, foreign }})
	_, err := h.visit(t).Status(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Code != Internal || e.Message != foreign.Error() {
		t.Errorf("%#v", err)
	}
}

func TestClientAsksWhatItIsTold(t *testing.T) {
	f := &fake{
		info:   Info{PID: 77},
		status: func(names []string) (Status, error) { return Status{Notes: names}, nil },
		job:    func(id string) (Job, error) { return Job{ID: id, State: JobDone}, nil },
		reload: func() (Reloaded, error) { return Reloaded{Changed: []string{"api"}}, nil },
	}
	c, ctx := serve(t, street(t), f).visit(t), t.Context()
	if i, err := c.Info(ctx); err != nil || i.PID != 77 {
		t.Error(i, err)
	}
	if s, err := c.Status(ctx, "api", "b.socket"); err != nil || fmt.Sprint(s.Notes) != "[api b.socket]" {
		t.Error(s, err)
	}
	if j, err := c.Submit(ctx, JobRequest{Verb: "reload", Unit: "api"}); err != nil || j.ID != "1" {
		t.Error(j, err)
	}
	if j, err := c.Job(ctx, "7"); err != nil || j.ID != "7" || j.State != JobDone {
		t.Error(j, err)
	}
	if r, err := c.DaemonReload(ctx); err != nil || !slices.Equal(r.Changed, []string{"api"}) {
		t.Error(r, err)
	}
	if err := errors.Join(c.Kill(ctx, KillRequest{Unit: "api", Signal: 9, Whom: "old"}), c.ResetFailed(ctx, "api")); err != nil {
		t.Error(err)
	}
	if a, err := c.Try(ctx, TryRequest{Unit: "api", Path: "/x"}); err != nil || a.Code != 200 || a.Body != "/x" {
		t.Errorf("%+v, %v", a, err)
	}
	want := []string{"reload api", "daemon-reload", "kill api", "reset-failed api", "try api"}
	if got := f.acts(); !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestLogRequestTravels(t *testing.T) {
	var got LogRequest
	h := serve(t, street(t), &fake{logs: func(_ context.Context, r LogRequest) (iter.Seq[LogLine], error) {
		got = r
		return func(func(LogLine) bool) {}, nil
	}})
	want := LogRequest{Units: []string{"a", "b"}, N: 0, Follow: true, Generation: 1<<32 - 1, Invocation: strings.Repeat("f", 32)}
	for _, err := range h.visit(t).Logs(t.Context(), want) {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestHistoryTravels(t *testing.T) {
	var got HistoryRequest
	uid := uint32(1000)
	told := History{Records: []Record{{Kind: RecordJob, Unit: "a", UID: &uid, Error: &Error{Code: Failed, Message: "\u202e"}}, {Kind: RecordLost, Lost: 3}}, Notes: []string{"n"}}
	h := serve(t, street(t), &fake{history: func(r HistoryRequest) (History, error) { got = r; return told, nil }})
	want := HistoryRequest{Units: []string{"a", "b"}, N: MaxRecords}
	answer, err := h.visit(t).History(t.Context(), want)
	if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(answer, told) {
		t.Errorf("%+v asked for, %+v told, %v", got, answer, err)
	}
	for _, bad := range []string{"n=0", "n=10001", "n=-1", "n=1e3", "n=1&n=2", "unit=../x", "since=1", "unit="} {
		if answer := h.send(t, closing(get("/v1/history?"+bad))); statusOf(answer) != http.StatusBadRequest {
			t.Errorf("%s: %s", bad, answer)
		}
	}
	if h.send(t, closing(get("/v1/history"))); got.N != defaultRecords || got.Units != nil {
		t.Errorf("without parameters %+v is asked for", got)
	}
}
