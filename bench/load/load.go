// Package load is a client that counts. Each request is sent once, on one
// connection, and ends in exactly one way: its own answer arrived whole, or one of
// the failures below. Nothing is retried, which is why net/http's Transport, that
// does so by itself, has no place here; a ClientConn of it does not.
//
// There are ways to end a connection that cost nobody a request: the server says
// Connection: close with an answer, closes before a request is sent, or asks the
// client to move (a message, of TCP and WebSockets; GOAWAY, of HTTP/2). Each is a
// reconnect, and no failure.
package load

import (
	"context"
	"crypto/tls"
	"sync"
	"time"
)

// A Failure is the way in which a request was lost.
type Failure string

const (
	Refused   Failure = "refused"      // no connection could be made
	Reset     Failure = "reset"        // by the server, before the first byte of an answer
	Closed    Failure = "closed"       // the same, by an orderly end of the connection
	CutShort  Failure = "cut-short"    // the connection ended in the middle of an answer
	Malformed Failure = "malformed"    // what came is not what the protocol has
	Status    Failure = "wrong-status" // not 200
	Body      Failure = "wrong-body"   // not the answer to this request
	TimedOut  Failure = "timed-out"
	Local     Failure = "local" // it never left: no port, no file descriptor, no memory here
)

// Options say what Run does.
type Options struct {
	Mode     Mode
	Network  string // "tcp" or "unix"
	Address  string
	TLS      *tls.Config   // of the modes that need it
	Clients  int           // that ask at the same time, each one request after the other
	Pause    time.Duration // of each client between two requests, if there is no Rate
	Rate     float64       // requests that are due a second; see Interval
	Body     int           // bytes of a POST or of a message
	Timeout  time.Duration // of one request, with its connection
	Requests int64         // of each client, at most; 0: until the context ends
	Phase    *Phase        // what goes on meanwhile; nil: nothing
	Trace    *Trace        // where latencies over time are kept; nil: nowhere
	Witness  *Witness      // of all who ask the same processes; nil: nobody can be said to hang
}

// Interval is the time from one request of a client to its next, if they come at
// a rate: 0 if each follows the answer to the one before. A client whose requests
// take long by themselves is due half as often as it could at most.
func (o Options) Interval() time.Duration {
	if o.Rate <= 0 {
		return 0
	}
	return max(time.Duration(float64(o.Clients)/o.Rate*float64(time.Second)), 2*o.Mode.Takes)
}

// Result is what happened. Attempts is OK and all Failures together.
type Result struct {
	Mode       string
	Attempts   int64
	OK         int64
	Failed     int64
	Failures   map[Failure]int64
	Hanging    int64 // of those that timed out: although a request was answered that began later
	Reconnects int64 // kept connections: those after the first of each client
	Resent     int64 // HTTP/2: requests that the server said it had not begun

	// Latencies of those that were OK, beyond what the answer takes by itself. At a
	// rate they count from when a request was due.
	Steady Histogram // nothing else went on
	Reload Histogram // all or a part of it fell into a Phase

	Servers map[string]int64 // answers by the pid that they name
	First   string           // failure, in words
}

// Latency is that of all requests that were OK.
func (r *Result) Latency() *Histogram {
	var sum Histogram
	sum.Add(&r.Steady)
	sum.Add(&r.Reload)
	return &sum
}

// Run asks until ctx ends or all requests are made. A request that is under way
// when ctx ends is finished: it takes Timeout at most.
func Run(ctx context.Context, o Options) *Result {
	results := make([]*Result, o.Clients)
	start := time.Now()
	var clients sync.WaitGroup
	for i := range results {
		c := newClient(o, i)
		results[i] = &c.result
		clients.Go(func() { c.run(ctx, start) })
	}
	clients.Wait()
	return Sum(o.Mode.Name, results...)
}

// Sum adds results up.
func Sum(mode string, results ...*Result) *Result {
	sum := newResult(mode)
	for _, r := range results {
		sum.Attempts += r.Attempts
		sum.OK += r.OK
		sum.Failed += r.Failed
		sum.Hanging += r.Hanging
		sum.Reconnects += r.Reconnects
		sum.Resent += r.Resent
		sum.Steady.Add(&r.Steady)
		sum.Reload.Add(&r.Reload)
		for f, n := range r.Failures {
			sum.Failures[f] += n
		}
		for pid, n := range r.Servers {
			sum.Servers[pid] += n
		}
		if sum.First == "" {
			sum.First = r.First
		}
	}
	return sum
}

func newResult(mode string) *Result {
	return &Result{Mode: mode, Failures: map[Failure]int64{}, Servers: map[string]int64{}}
}

func (r *Result) ok(pid string, took time.Duration, disturbed bool) {
	r.Attempts++
	r.OK++
	r.Servers[pid]++
	if disturbed {
		r.Reload.Record(took)
	} else {
		r.Steady.Record(took)
	}
}

func (r *Result) fail(f Failure, why error) {
	r.Attempts++
	r.Failed++
	r.Failures[f]++
	if r.First == "" {
		r.First = string(f) + ": " + why.Error()
	}
}
