package ipc

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A Route is one kind of request.
type Route struct {
	Method string
	Path   string // {id} stands for one component
	Role   Role   // that a caller needs at least
	About  string

	// Exactly one of these. answer returns what is sent as JSON; stream returns
	// what is sent as one JSON object a line, for as long as ctx lives.
	answer func(s Supervisor, r *request) (any, error)
	stream func(ctx context.Context, s Supervisor, r *request) (iter.Seq[any], error)

	endless bool // the stream does not end by itself when supervisord does
}

// Routes lists every request that the server answers. No GET changes anything.
var Routes = []Route{
	{Method: "GET", Path: "/v1/info", Role: Read, About: "what supervisord says of itself", answer: getInfo},
	{Method: "GET", Path: "/v1/status", Role: Read, About: "a snapshot of all units, or of those given as `unit`", answer: getStatus},
	{Method: "GET", Path: "/v1/events", Role: Read, About: "what happens from now on, or after the event `since`", stream: getEvents},
	{Method: "GET", Path: "/v1/logs", Role: Read, About: "output of services: `unit`, `n`, `follow`, `generation`, `invocation`, `since`, `until`", stream: getLogs, endless: true},
	{Method: "GET", Path: "/v1/history", Role: Read, About: "the last `n` things that happened to all units, or to those given as `unit`, also before supervisord was started", answer: getHistory},
	{Method: "POST", Path: "/v1/jobs", Role: Act, About: "begin a job: `verb` is start, stop, restart, reload or scale (to `size` instances), for one `unit`", answer: postJob},
	{Method: "GET", Path: "/v1/jobs/{id}", Role: Read, About: "a job and what became of it", answer: getJob},
	{Method: "GET", Path: "/v1/jobs/{id}/events", Role: Read, About: "what happens in its course, until it has ended; with `wait=drained`, until the old processes have gone as well; after the event `since`", stream: getJobEvents},
	{Method: "POST", Path: "/v1/kill", Role: Act, About: "send a `signal` to processes of `unit`: `whom` is main, next, old or all", answer: postKill},
	{Method: "POST", Path: "/v1/try", Role: Act, About: "send one HTTP GET for `path` to one process of `unit`, `whom` and `instance`, through its steered socket at `address`, and show the answer", answer: postTry},
	{Method: "POST", Path: "/v1/reset-failed", Role: Act, About: "forget the failures of `unit`", answer: postResetFailed},
	{Method: "POST", Path: "/v1/daemon-reload", Role: Admin, About: "load the configuration's files", answer: postDaemonReload},
}

// A request is what a handler may know of an HTTP request.
type request struct {
	caller Caller
	query  url.Values
	id     string // {id}
	again  string // Request-Id; "": there is none
	body   []byte
}

// into reads the body, which is one JSON object with the fields of v.
func (r *request) into(v interface{ check() error }) error {
	if err := r.none(); err != nil {
		return err
	}
	if err := decode(r.body, v); err != nil {
		return usage("cannot read the request: %v", err)
	}
	return v.check()
}

// none is for what takes no parameters.
func (r *request) none() error { return only(r.query) }

func getInfo(s Supervisor, r *request) (any, error) {
	return s.Info(), r.none()
}

func getStatus(s Supervisor, r *request) (any, error) {
	if err := only(r.query, "unit"); err != nil {
		return nil, err
	}
	for _, u := range r.query["unit"] {
		if err := CheckUnit(u); err != nil {
			return nil, err
		}
	}
	return s.Status(r.query["unit"])
}

func postJob(s Supervisor, r *request) (any, error) {
	var q JobRequest
	if err := r.into(&q); err != nil {
		return nil, err
	}
	q.RequestID = r.again
	return s.Submit(q, r.caller)
}

func getJob(s Supervisor, r *request) (any, error) {
	if err := r.none(); err != nil {
		return nil, err
	}
	if err := checkJob(r.id); err != nil {
		return nil, err
	}
	return s.Job(r.id)
}

func postKill(s Supervisor, r *request) (any, error) {
	var q KillRequest
	if err := r.into(&q); err != nil {
		return nil, err
	}
	q.RequestID = r.again
	return struct{}{}, s.Kill(q, r.caller)
}

func postTry(s Supervisor, r *request) (any, error) {
	var q TryRequest
	if err := r.into(&q); err != nil {
		return nil, err
	}
	return s.Try(q, r.caller)
}

func postResetFailed(s Supervisor, r *request) (any, error) {
	var q UnitRequest
	if err := r.into(&q); err != nil {
		return nil, err
	}
	return struct{}{}, s.ResetFailed(q, r.caller)
}

func postDaemonReload(s Supervisor, r *request) (any, error) {
	if err := r.none(); err != nil {
		return nil, err
	}
	if len(r.body) > 0 {
		if err := decode(r.body, &struct{}{}); err != nil {
			return nil, usage("cannot read the request: %v", err)
		}
	}
	return s.DaemonReload(r.caller)
}

func getLogs(ctx context.Context, s Supervisor, r *request) (iter.Seq[any], error) {
	if err := only(r.query, "unit", "n", "follow", "generation", "invocation", "since", "until"); err != nil {
		return nil, err
	}
	q, err := parseLogRequest(r.query)
	if err != nil {
		return nil, err
	}
	lines, err := s.Logs(ctx, *q)
	return anything(lines, func(l *LogLine) {}), err
}

func getHistory(s Supervisor, r *request) (any, error) {
	if err := only(r.query, "unit", "n"); err != nil {
		return nil, err
	}
	q, err := parseHistoryRequest(r.query)
	if err != nil {
		return nil, err
	}
	return s.History(*q)
}

func getEvents(ctx context.Context, s Supervisor, r *request) (iter.Seq[any], error) {
	if err := only(r.query, "since"); err != nil {
		return nil, err
	}
	epoch := s.Info().Epoch
	since, err := r.since(epoch)
	if err != nil {
		return nil, err
	}
	return events(s.Events(ctx, since), epoch), nil
}

func getJobEvents(ctx context.Context, s Supervisor, r *request) (iter.Seq[any], error) {
	if err := only(r.query, "since", "wait"); err != nil {
		return nil, err
	}
	if err := checkJob(r.id); err != nil {
		return nil, err
	}
	if w := r.query.Get("wait"); w != "" && w != "drained" {
		return nil, usage("wait=%.40q must be drained", w)
	}
	epoch := s.Info().Epoch
	since, err := r.since(epoch)
	if err != nil {
		return nil, err
	}
	es, err := s.JobEvents(ctx, r.id, since, r.query.Get("wait") == "drained")
	return events(es, epoch), err
}

// longAgo is the number of an event that no supervisord now running has told.
const longAgo = 1

// since is the number of the event that the client has; 0: none.
func (r *request) since(epoch string) (uint64, error) {
	id := r.query.Get("since")
	if id == "" {
		return 0, nil
	}
	m := eventID().FindStringSubmatch(id)
	if m == nil {
		return 0, usage("since=%.80q must be the id of an event", id)
	}
	n, err := strconv.ParseUint(m[2], 10, 64)
	if err != nil {
		return 0, usage("since=%.80q must be the id of an event", id)
	}
	if m[1] != epoch {
		return longAgo, nil
	}
	return max(n, longAgo), nil
}

func events(es iter.Seq[Event], epoch string) iter.Seq[any] {
	return anything(es, func(e *Event) {
		if e.Seq != 0 {
			e.ID = epoch + "-" + strconv.FormatUint(e.Seq, 10)
		}
	})
}

// anything is seq for who only encodes what it yields.
func anything[T any](seq iter.Seq[T], finish func(*T)) iter.Seq[any] {
	if seq == nil {
		return nil
	}
	return func(yield func(any) bool) {
		for v := range seq {
			finish(&v)
			if !yield(v) {
				return
			}
		}
	}
}

// find returns the route of a request, or why there is none.
func find(method, path string) (*Route, string, error) {
	allowed := ""
	for i := range Routes {
		id, ok := match(Routes[i].Path, path)
		switch {
		case ok && Routes[i].Method == method:
			return &Routes[i], id, nil
		case ok:
			allowed = Routes[i].Method
		}
	}
	if allowed != "" {
		return nil, "", &refusal{http.StatusMethodNotAllowed, usage("%.20q is not for this: it takes %s", method, allowed)}
	}
	return nil, "", &refusal{http.StatusNotFound, usage("there is no such thing here: %.80q", path)}
}

// match compares a path with a route's, and returns what stands for {id}.
func match(pattern, path string) (id string, ok bool) {
	ps, cs := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(ps) != len(cs) {
		return "", false
	}
	for i, p := range ps {
		switch {
		case p == "{id}":
			id = cs[i]
		case p != cs[i]:
			return "", false
		}
	}
	return id, true
}
