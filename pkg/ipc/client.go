package ipc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxAnswer is more than any answer has: 10,000 units in detail.
const maxAnswer = 64 << 20

// answerTime is how long supervisord may say nothing at all when it was asked
// something.
const answerTime = 5 * time.Second

const pathInfo = "/v1/info"

// A Client speaks with one supervisord. All its errors are [*Error]. It is safe
// for use by several goroutines, and keeps no connection that Close would have
// to end but idle ones.
//
// supervisord may be restarted at any time. A request whose connection ends without an
// answer is sent again, with the same Request-Id (16 random bytes in hex, new for each
// call), so a job is begun once, and the answer is about that one.
type Client struct {
	http   *http.Client
	path   string
	answer time.Duration

	// Patience is for how long a stream that was cut off, or a request that got no
	// answer, is asked for again. Zero: not at all.
	Patience time.Duration
}

// NewClient returns a client for the control socket at path. It connects when the first
// request is made. The listener must belong to root, to the user of this process, or to
// the uid owner, if that is not [NoOwner].
func NewClient(path string, owner int) *Client {
	d := dialer{path, owner}
	return &Client{
		Patience: 10 * time.Second,
		path:     path,
		answer:   answerTime,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            d.dial,
				Proxy:                  nil, // never the environment's
				DisableCompression:     true,
				MaxResponseHeaderBytes: 16 << 10,
				MaxIdleConnsPerHost:    16,
				IdleConnTimeout:        30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info returns a description of the running supervisord.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	return i, c.get(ctx, pathInfo, nil, &i)
}

// Status returns a snapshot of these units, or of all units if there are none.
func (c *Client) Status(ctx context.Context, units ...string) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", url.Values{"unit": units}, &s)
}

// History returns records of what happened.
func (c *Client) History(ctx context.Context, r HistoryRequest) (h History, err error) {
	if err := r.check(); err != nil {
		return h, err
	}
	return h, c.get(ctx, "/v1/history", r.query(), &h)
}

// Submit begins a job. It does not wait for the job to end: see [Client.JobEvents].
func (c *Client) Submit(ctx context.Context, r JobRequest) (j Job, err error) {
	return j, c.post(ctx, "/v1/jobs", r, &j)
}

// Job returns a job, with its outcome if it has ended.
func (c *Client) Job(ctx context.Context, id string) (j Job, err error) {
	return j, c.get(ctx, "/v1/jobs/"+url.PathEscape(id), nil, &j)
}

// Kill sends a signal to processes of a service.
func (c *Client) Kill(ctx context.Context, r KillRequest) error {
	return c.post(ctx, "/v1/kill", r, nil)
}

// Try sends one request to one process of a service, and returns its answer.
func (c *Client) Try(ctx context.Context, r TryRequest) (t Tried, err error) {
	return t, c.post(ctx, "/v1/try", r, &t)
}

// ResetFailed forgets the failures of a service.
func (c *Client) ResetFailed(ctx context.Context, name string) error {
	return c.post(ctx, "/v1/reset-failed", UnitRequest{name}, nil)
}

// DaemonReload makes supervisord load its configuration.
func (c *Client) DaemonReload(ctx context.Context) (r Reloaded, err error) {
	return r, c.post(ctx, "/v1/daemon-reload", nil, &r)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, answer any) error {
	return c.call(ctx, "GET", path, q, nil, answer)
}

func (c *Client) post(ctx context.Context, path string, body, answer any) error {
	return c.call(ctx, "POST", path, nil, body, answer)
}

// call asks for something until there is an answer.
func (c *Client) call(ctx context.Context, method, path string, q url.Values, body, answer any) error {
	id, patience := newRequestID(), newPatience(c.Patience)
	for sent := false; ; {
		cut, err := c.once(ctx, id, method, path, q, body, answer)
		sent = sent || cut
		if !sent || !cut && !isLost(err) || !patience.wait(ctx) {
			return unanswered(err, method, sent)
		}
	}
}

// newRequestID is 128 random bits in hex.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// unanswered adds to an error that nobody knows what became of the request.
func unanswered(err error, method string, sent bool) error {
	var e *Error
	if !sent || method == "GET" || !errors.As(err, &e) || e.Code != Unreachable || len(e.Notes) > 0 {
		return err
	}
	noted := *e
	noted.Notes = []string{"it is not known whether supervisord has begun what it was asked for"}
	return &noted
}

// once asks for something, and takes the answer apart. Fields that it does not know are
// a newer supervisord's, and ignored. With cut, somebody had the request and hung up.
func (c *Client) once(ctx context.Context, id, method, path string, q url.Values, body, answer any) (cut bool, err error) {
	x := c.exchange(ctx, method)
	defer x.end()
	a, err := c.open(x, id, method, path, q, body)
	if err != nil {
		return x.cutOff(err), err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(lively{a.Body, x}, maxAnswer))
	if err != nil {
		err = c.lost(x.ctx, err)
		return x.cutOff(err), err
	}
	if answer == nil {
		return false, nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return false, &Error{Code: Internal, Message: fmt.Sprintf("cannot read supervisord's answer: %v", err)}
	}
	return false, nil
}

// open asks for something and returns an answer that is no error.
func (c *Client) open(x *exchange, id, method, path string, q url.Values, body any) (*http.Response, error) {
	r, err := newRequest(x.ctx, method, path, q, body)
	if err != nil {
		return nil, err
	}
	if method != "GET" {
		r.Header.Set(requestHeader, id)
	}
	a, err := c.http.Do(r)
	if err != nil {
		return nil, c.lost(x.ctx, err)
	}
	if a.StatusCode < 300 {
		return a, nil
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(lively{a.Body, x}, maxBody))
	if err != nil {
		return nil, c.lost(x.ctx, err)
	}
	return nil, c.outdated(x.ctx, path, a.StatusCode, answerError(a.Status, text))
}

// outdated is e, or what it means that supervisord does not know a request which it
// would know if it were as old or as new as we are.
func (c *Client) outdated(ctx context.Context, path string, status int, e *Error) *Error {
	if e.Code != Usage || path == pathInfo {
		return e
	}
	i, err := c.Info(ctx)
	known := status != http.StatusNotFound && status != http.StatusMethodNotAllowed
	if err != nil || known && i.API == APIVersion {
		return e
	}
	o := &Error{
		Code:    Outdated,
		Message: fmt.Sprintf("supervisord does not know this request: it is version %s (API %d), pid %d", i.Version, i.API, i.PID),
		Notes:   []string{"nothing was changed"},
		Hints:   []string{"restart supervisord with the version that superctl has"},
	}
	if i.API > APIVersion {
		o.Hints = []string{"use the superctl that came with supervisord"}
	}
	return o
}

func newRequest(ctx context.Context, method, path string, q url.Values, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("cannot encode a request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: "supervisord", Path: path, RawQuery: q.Encode()}
	return http.NewRequestWithContext(ctx, method, u.String(), content)
}

// lost is what it means that no answer came.
func (c *Client) lost(ctx context.Context, err error) error {
	var e *Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &e):
		return e
	}
	return &Error{Code: Unreachable, Message: fmt.Sprintf("cannot reach supervisord: it hung up (%s)", cause(err))}
}
