// Package load is an HTTP/1.1 client that counts. Each request is sent once, on
// one connection, and ends in exactly one way: its own answer arrived whole, or
// one of the failures below. Nothing is retried, which is why net/http's
// Transport, that does so by itself, has no place here.
//
// A server may end a kept-alive connection in two ways that cost nobody a
// request: it says Connection: close with an answer, or it closes the connection
// before a request is sent on it. Both are a reconnect, and no failure.
package load

import (
	"context"
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
	Malformed Failure = "malformed"    // what came is not HTTP/1.1, or not of a known length
	Status    Failure = "wrong-status" // not 200
	Body      Failure = "wrong-body"   // not the answer to this request
	TimedOut  Failure = "timed-out"
	Local     Failure = "local" // it never left: no port, no file descriptor, no memory here
)

// A Mode is how a client behaves.
type Mode struct {
	Name   string
	Method string
	Keep   bool // the connection, for the next request
	Unix   bool // over the unix socket
}

// Modes are all that there are, in the order of the report.
var Modes = []Mode{
	{Name: "new", Method: "GET"},
	{Name: "keepalive-get", Method: "GET", Keep: true},
	{Name: "keepalive-post", Method: "POST", Keep: true},
	{Name: "unix-new", Method: "GET", Unix: true},
	{Name: "unix-keepalive-get", Method: "GET", Keep: true, Unix: true},
	{Name: "unix-keepalive-post", Method: "POST", Keep: true, Unix: true},
}

// Options say what Run does.
type Options struct {
	Mode     Mode
	Network  string // "tcp" or "unix"
	Address  string
	Clients  int           // that ask at the same time, each one request after the other
	Pause    time.Duration // of each client between two requests
	Body     int           // bytes of a POST
	Timeout  time.Duration // of one request, with its connection
	Requests int64         // of each client, at most; 0: until the context ends
}

// Result is what happened. Attempts is OK and all Failures together.
type Result struct {
	Mode       string            `json:"mode"`
	Attempts   int64             `json:"attempts"`
	OK         int64             `json:"ok"`
	Failed     int64             `json:"failed"`
	Failures   map[Failure]int64 `json:"failures"`
	Reconnects int64             `json:"reconnects"` // kept-alive: connections after the first
	Latency    Histogram         `json:"latency"`    // of those that were OK
	Servers    map[string]int64  `json:"-"`          // answers by the pid that they name
	First      string            `json:"first,omitempty"`
}

// Run asks until ctx ends or all requests are made. A request that is under way
// when ctx ends is finished: it takes Timeout at most.
func Run(ctx context.Context, o Options) *Result {
	results := make([]*Result, o.Clients)
	var clients sync.WaitGroup
	for i := range results {
		c := newClient(o, i)
		results[i] = &c.result
		clients.Go(func() { c.run(ctx) })
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
		sum.Reconnects += r.Reconnects
		sum.Latency.Add(&r.Latency)
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

func (r *Result) ok(pid string, took time.Duration) {
	r.Attempts++
	r.OK++
	r.Servers[pid]++
	r.Latency.Record(took)
}

func (r *Result) fail(f Failure, why error) {
	r.Attempts++
	r.Failed++
	r.Failures[f]++
	if r.First == "" {
		r.First = string(f) + ": " + why.Error()
	}
}
