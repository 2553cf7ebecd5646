package gauntlet

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A Crowd are the clients that came while the process that serves hung, and what
// became of them.
type Crowd struct {
	Clients int64          `json:"clients"`
	Failed  int64          `json:"failed"`
	Hanging int64          `json:"hanging"`             // of those
	Served  load.Histogram `json:"served_after_switch"` // all others; 0: before superctl returned
	First   string         `json:"first_failure,omitempty"`
}

// add takes in one crowd. The switch is in time since the trace's start.
func (c *Crowd) add(r *load.Result, samples []load.Sample, switched time.Duration) {
	c.Clients += r.Attempts
	c.Failed += r.Failed
	c.Hanging += r.Hanging
	if c.First == "" {
		c.First = r.First
	}
	for _, s := range samples {
		c.Served.Record(max(s.At+s.Took-switched, 0))
	}
}

// print tells when they were served.
func (c *Crowd) print(w io.Writer) {
	if c.Clients == 0 {
		return
	}
	fmt.Fprintf(w, "%d clients waited for processes that hung; %d of them were served, p50 %v and at most %v after the switch\n",
		c.Clients, c.Clients-c.Failed, c.Served.Quantile(0.5).Round(time.Millisecond), c.Served.Max().Round(time.Millisecond))
}

// Those who wait each have one request; somebody is to answer it.
type waiting struct {
	trace *load.Trace
	done  chan *load.Result
}

// end waits until each of them has an answer, or has lost patience. Nobody waited for
// nil.
func (w *waiting) end(switched time.Time, r *Report) {
	if w == nil {
		return
	}
	r.Crowd.add(<-w.done, w.trace.Samples(), w.trace.Since(switched))
}

// stall has the process that serves hang, if that is asked for, and returns when the
// crowd waits for it.
func (g *gauntlet) stall(ctx context.Context, n int, bad bool) (*waiting, error) {
	if !g.Stall {
		return nil, nil
	}
	if err := g.must(ctx, "kill", "--signal", "USR1", "--whom", "main", "api"); err != nil {
		return nil, err
	}
	if g.Crowd == 0 || bad { // who waits is to be cured by this reload
		return nil, nil
	}
	o := g.load(fresh)
	w := &waiting{trace: load.NewTrace(time.Hour), done: make(chan *load.Result, 1)}
	o.Clients, o.Requests, o.Pause, o.Rate, o.Trace, o.Phase = g.Crowd, 1, 0, 0, w.trace, nil
	go func() { w.done <- load.Run(ctx, o) }()
	if queue := g.gathered(ctx); queue < g.Crowd-1 && ctx.Err() == nil {
		g.report.problem("reload %d: %d clients waited for the process that hung, not %d", n+1, queue, g.Crowd)
	}
	return w, nil
}

// gathered returns how many wait, when it is the whole crowd, or the time for that is
// over. One may be let in: the accept that was under way when the process was to hang.
func (g *gauntlet) gathered(ctx context.Context) (queue int) {
	for end := time.Now().Add(gathering); time.Now().Before(end) && wait(ctx, glance) == nil; {
		if queue, _ = rig.Queue(g.addresses[load.Plain]); queue >= g.Crowd-1 {
			break
		}
	}
	return queue
}

const (
	gathering = 2 * time.Second
	glance    = 5 * time.Millisecond
)

// watch makes a connection now and then, with little patience. So it is known whether
// somebody serves even while all clients wait for somebody else.
func (g *gauntlet) watch(ctx context.Context) {
	o := g.load(fresh)
	o.Clients, o.Pause, o.Rate, o.Trace, o.Phase = 1, 200*time.Millisecond, 0, nil, nil
	o.Timeout = min(o.Timeout, time.Second)
	load.Run(ctx, o)
}

// fresh is the mode in which a client makes a connection for each request.
var fresh = load.Modes[0]
