package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A client asks one request after the other.
type client struct {
	Options
	wire   wire
	index  int
	body   []byte
	want   []byte // behind an answer's first line
	met    bool   // it has had a connection before
	mark   int64  // of the phase in which the last request was due
	result Result
}

func newClient(o Options, index int) *client {
	c := &client{Options: o, wire: newWire(o.Mode.Protocol), index: index, result: *newResult(o.Mode.Name)}
	if o.Mode.Method == "POST" {
		c.body = bytes.Repeat([]byte{'a' + byte(index%26)}, cmp.Or(o.Mode.Body, o.Body))
		c.want = c.body
	}
	if o.Mode.Streams {
		c.want = []byte(strings.Repeat(Part, int(o.Mode.Takes/Beat)))
	}
	return c
}

func (c *client) run(ctx context.Context, start time.Time) {
	defer c.wire.hangUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	interval := c.Interval()
	due := start.Add(interval * time.Duration(c.index) / time.Duration(c.Clients))
	for n := int64(0); c.Requests == 0 || n < c.Requests; n++ {
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c.request(n, due)
		due = c.next(due, interval)
	}
}

// next is when the next request is due. At a rate, that does not depend on how
// long the last one took: what is late is asked at once.
func (c *client) next(due time.Time, interval time.Duration) time.Time {
	if interval > 0 {
		return due.Add(interval)
	}
	return time.Now().Add(c.Pause)
}

// request makes one attempt and records how it ended. Its time counts from when
// it was due, if that was fixed before.
func (c *client) request(n int64, due time.Time) {
	start := time.Now()
	if c.Rate == 0 || !behind(due, start) {
		c.mark = c.Phase.mark()
	}
	q := question{
		method: c.Mode.Method, body: c.body, keep: c.Mode.Keep, chunked: c.Mode.Chunked, want: c.want,
		target: fmt.Sprintf("/%s/%d/%d%s", c.Mode.Name, c.index, n, c.Mode.Query),
	}
	a, pid, err := c.attempt(q, start.Add(c.Timeout))
	if err != nil {
		c.lost(err, start)
		return
	}
	c.Witness.answered(start)
	if c.Rate > 0 {
		start = due
	}
	took := c.beyond(a, time.Since(start))
	c.result.ok(pid, took, c.Phase.disturbed(c.mark))
	c.Trace.add(start, took)
}

// behind says whether a request had to wait for the one before it. What disturbed
// that one then disturbs this one too.
func behind(due, start time.Time) bool { return start.Sub(due) > time.Millisecond }

// beyond is what an answer took beyond what it takes by itself. Of one that comes
// in parts it is the longest silence beyond the beat in which they come.
func (c *client) beyond(a answer, took time.Duration) time.Duration {
	if c.Mode.Streams {
		return max(a.silence-Beat, 0)
	}
	return max(took-c.Mode.Takes, 0)
}

// A worker that is asked for a stream sends a Part at each Beat.
const (
	Beat = 50 * time.Millisecond
	Part = "and so on\n"
)

func (c *client) attempt(q question, by time.Time) (a answer, pid string, err error) {
	for {
		if err := c.connect(by); err != nil {
			return a, "", err
		}
		a, err = c.wire.exchange(q, by)
		if !errors.Is(err, errUnprocessed) {
			break
		}
		c.wire.hangUp() // and so each turn makes a connection, until by
		c.result.Resent++
	}
	if err == nil {
		pid, err = a.check(q)
	}
	if !c.Mode.Keep {
		c.wire.hangUp()
	}
	return a, pid, err
}

// connect makes a connection, unless there is one for another request.
func (c *client) connect(by time.Time) error {
	if c.wire.connected() {
		return nil
	}
	c.wire.hangUp()
	if err := c.wire.connect(&c.Options, by); err != nil {
		return err
	}
	if c.met && c.Mode.Keep {
		c.result.Reconnects++
	}
	c.met = true
	return nil
}

func (c *client) lost(err error, start time.Time) {
	c.wire.hangUp()
	var lost *lostError
	if !errors.As(err, &lost) {
		lost = lose(Malformed, err)
	}
	if lost.how == TimedOut && c.Witness.overtaken(start) {
		c.result.Hanging++
	}
	c.result.fail(lost.how, lost.why)
}

// short is the beginning of what came, for people.
func short(b []byte) string { return fmt.Sprintf("%.80q", b) }
