package ipc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"time"
)

const (
	// maxLine is more than a line of any stream has: a log line of 32 kB, twice.
	maxLine = 1 << 20
	// silence is how long a stream may say nothing: three heartbeats.
	silence = 3 * heartbeat
	// retryEvery is how often a stream that was cut off is asked for again.
	retryEvery = 200 * time.Millisecond
)

// errCut: a stream stopped without saying that this is its end.
var errCut = errors.New("the stream was cut off")

// JobEvents yields the events of a job, from its beginning until it has ended. With
// drained, it continues until the old processes that the job replaced have gone, too. If
// the connection is lost, JobEvents reconnects and continues where it was. The error that
// may end it is an [*Error], or ctx's.
func (c *Client) JobEvents(ctx context.Context, id string, drained bool) iter.Seq2[Event, error] {
	q := url.Values{}
	if drained {
		q.Set("wait", "drained")
	}
	return c.events(ctx, "/v1/jobs/"+url.PathEscape(id)+"/events", q, "job "+id+" may still go on")
}

// Events yields what happens from now on, until ctx is done.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return c.events(ctx, "/v1/events", url.Values{}, "")
}

func (c *Client) events(ctx context.Context, path string, q url.Values, note string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		patience := newPatience(c.Patience)
		for {
			stopped, _, err := each(ctx, c, path, q, func(e Event) bool {
				patience.reset()
				if e.ID != "" {
					q.Set("since", e.ID)
				}
				return yield(e, nil)
			})
			if stopped || err == nil {
				return
			}
			if !isLost(err) || !patience.wait(ctx) {
				yield(Event{}, patience.explain(err, note))
				return
			}
		}
	}
}

// Logs yields lines of output. If the connection is lost, it reconnects where it follows
// what is written. Then lines may be missing, and one of type "error" says so before the
// next.
func (c *Client) Logs(ctx context.Context, r LogRequest) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		if err := r.check(); err != nil {
			yield(LogLine{}, err)
			return
		}
		patience, begun := newPatience(c.Patience), false
		for missed := false; ; {
			stopped, opened, err := each(ctx, c, "/v1/logs", r.query(), func(l LogLine) bool {
				patience.reset()
				if begun && l.Type == LineNone { // as nothing of the past was asked for
					return true
				}
				tell := missed
				missed = false
				return (!tell || yield(LogLine{Type: "error", Text: missedLines}, nil)) && yield(l, nil)
			})
			begun = begun || opened
			if stopped || err == nil {
				return
			}
			if !begun || !r.Follow || !isLost(err) || !patience.wait(ctx) {
				yield(LogLine{}, err)
				return
			}
			r.N, missed = 0, true
		}
	}
}

const missedLines = "supervisord was restarted: lines may be missing here"

// each gives f the lines of a stream until its end (nil), until f is done with
// them (stopped), or until it is cut off, when it had been opened or not.
func each[T any](ctx context.Context, c *Client, path string, q url.Values, f func(T) bool) (stopped, opened bool, err error) {
	x := c.exchange(ctx, "GET")
	defer x.end()
	a, err := c.open(x, "", "GET", path, q, nil)
	if err != nil {
		return false, false, err
	}
	defer a.Body.Close()
	x.become(silence)
	r := bufio.NewReaderSize(a.Body, 32<<10)
	for {
		text, err := readLine(r)
		if err != nil {
			return false, true, c.lost(x.ctx, cut(err))
		}
		x.alive()
		var m mark
		var v T
		if err := errors.Join(json.Unmarshal(text, &m), json.Unmarshal(text, &v)); err != nil {
			return false, true, &Error{Code: Internal, Message: fmt.Sprintf("cannot read supervisord's answer: %v", err)}
		}
		switch m.Type {
		case typeHeartbeat:
			continue
		case typeEnd:
			return false, true, nil
		}
		if !f(v) {
			return true, true, nil
		}
	}
}

// readLine reads a line of at most maxLine bytes. Half a line is none.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case err == io.EOF:
			return nil, errCut
		case err != bufio.ErrBufferFull:
			return nil, err
		case len(line) > maxLine:
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
	}
}

func cut(err error) *Error {
	return &Error{Code: Unreachable, Message: fmt.Sprintf("lost supervisord: %s", cause(err))}
}

func isLost(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == Unreachable
}

// patience counts from the first failure after something went well.
type patience struct {
	limit time.Duration
	until time.Time // zero: nothing has failed since
}

func newPatience(limit time.Duration) *patience { return &patience{limit: limit} }

func (p *patience) reset() { p.until = time.Time{} }

// wait waits for another try, or says that there is to be none.
func (p *patience) wait(ctx context.Context) bool {
	if p.until.IsZero() {
		p.until = time.Now().Add(p.limit)
	}
	if p.limit == 0 || time.Now().After(p.until) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retryEvery):
		return true
	}
}

// explain adds what a stream's end means for what it told of. A job that was
// there before the connection was lost, and now is not, was another supervisord's.
func (p *patience) explain(err error, note string) error {
	var e *Error
	switch {
	case note == "" || !errors.As(err, &e):
		return err
	case e.Code == NoSuchJob && !p.until.IsZero():
		return &Error{Code: Unreachable, Message: "supervisord was started anew, and what became of the job is not known"}
	case e.Code != Unreachable:
		return err
	}
	noted := *e
	noted.Notes = append([]string{note}, e.Notes...)
	return &noted
}
