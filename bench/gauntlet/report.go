package gauntlet

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
)

// A Report is what a gauntlet came to.
type Report struct {
	Whole    bool           `json:"whole"` // it was run to its end
	Worker   string         `json:"worker"`
	Steer    bool           `json:"steer"`
	Handover bool           `json:"handover"`
	Reloads  int            `json:"reloads"`
	Good     int            `json:"good"`
	Bad      int            `json:"bad"`
	Broken   map[string]int `json:"broken"` // bad reloads by build
	Clients  int            `json:"clients"`
	Rate     float64        `json:"rate"` // of each mode; 0: each request follows the last
	Seconds  float64        `json:"seconds"`

	Modes []*load.Result `json:"-"` // as MarshalJSON has them

	Refused int    `json:"refused"` // reloads of a good build that superctl called failed
	Crowd   Crowd  `json:"crowd"`
	Queue   *Queue `json:"queue"`

	AcceptErrors int              `json:"accept_errors"` // of good builds that had not begun to leave
	Queued       map[string]int64 `json:"queued"`        // connections that waited for broken builds when they died, by socket

	Processes int              `json:"processes"` // of good builds; each left by its own Shutdown, or is a problem
	Killed    int              `json:"killed"`    // of good builds, those that did not
	Accepted  map[string]int64 `json:"accepted"`  // connections that died with processes, by socket

	GoodTook load.Histogram `json:"good_reload"` // what superctl took
	BadTook  load.Histogram `json:"bad_reload"`

	Throughput *Throughput `json:"throughput,omitempty"`

	Problems []string `json:"problems"` // promises that were not kept

	options  Options
	replaced int // reloads of a good build besides, for the throughput
	samples  []load.Sample
	marks    []mark
}

// A mark is one reload, in time since the trace's start.
type mark struct {
	from, to time.Duration
	bad      bool
}

func newReport(o Options) *Report {
	return &Report{
		Worker: o.Worker, Steer: o.Steer, Handover: o.Handover, Clients: o.Clients, Rate: o.Rate, options: o,
		Broken: map[string]int{}, Accepted: map[string]int64{}, Queued: map[string]int64{}, Queue: newQueue(nil), Problems: []string{},
	}
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (r *Report) reload(build string, bad bool, took time.Duration) {
	r.Reloads++
	if !bad {
		r.Good++
		r.GoodTook.Record(took)
		return
	}
	r.Bad++
	r.Broken[build]++
	r.BadTook.Record(took)
}

// Failed is the number of requests that were lost, in all modes and of crowds.
func (r *Report) Failed() (n int64) {
	for _, m := range r.Modes {
		n += m.Failed
	}
	return n + r.Crowd.Failed
}

// Hanging is how many of them had no answer in time although others had theirs, who had
// come later.
func (r *Report) Hanging() (n int64) {
	for _, m := range r.Modes {
		n += m.Hanging
	}
	return n + r.Crowd.Hanging
}

// account reads what the workers say of themselves. At the end of one that is not
// whole a reload may have been under way.
func (r *Report) account(entries []ledger.Entry) {
	began := map[int]bool{}
	for _, e := range entries {
		switch {
		case e.Event == ledger.Died:
			for socket, n := range e.Open {
				r.Accepted[socket] += n
			}
			for socket, n := range e.Waiting {
				r.Queued[socket] += n
			}
		case e.Build != r.Worker:
		case e.Event == ledger.Began:
			r.Processes++
			began[e.PID] = true
		case e.Event == ledger.AcceptFailed:
			r.AcceptErrors++
			r.problem("process %d could not accept, and had not begun to leave: %s", e.PID, e.Error)
		case e.Event == ledger.Left && e.Error == "":
			delete(began, e.PID)
		case e.Event == ledger.Left:
			r.problem("process %d gave up on its Shutdown: %s", e.PID, e.Error)
		}
	}
	r.Killed = len(began)
	if r.Killed > 0 {
		r.problem("processes that did not leave by their own Shutdown: %v", slices.Sorted(maps.Keys(began)))
	}
	if r.Whole && r.Processes != 1+r.Good+r.replaced {
		r.problem("%d processes of the good build ran, for one start and %d reloads", r.Processes, r.Good+r.replaced)
	}
	r.judge()
}

// judge compares what was lost with what may be: on each socket on which a process
// that bakes gets connections, what broken builds had accepted, and nothing else.
func (r *Report) judge() {
	lost := map[load.Socket]int64{}
	for i, result := range r.Modes {
		m := r.options.Modes[i]
		if r.options.Promised(m) {
			lost[m.Socket] += result.Failed
		}
		if r.Whole && result.OK == 0 {
			r.problem("mode %s: not one request was answered", m.Name)
		}
		if n := result.Reconnects; r.options.unnoticed(m) && n > r.may(m.Socket) {
			r.problem("mode %s: %d reconnects, in spite of handover", m.Name, n)
		}
	}
	if r.options.Promised(fresh) {
		lost[load.Plain] += r.Crowd.Failed
	}
	for _, s := range slices.Sorted(maps.Keys(lost)) {
		if may := r.may(s); lost[s] > may {
			r.problem("socket %s: %d requests were lost, and %d may have been", s, lost[s], may)
		}
	}
}

// may is how many requests may be lost on a socket.
func (r *Report) may(s load.Socket) int64 {
	if r.options.steered(s) && r.options.Canary == 0 {
		return 0
	}
	return r.Accepted[string(s)]
}

// A row is what a reader of the JSON gets of a mode.
type row struct {
	Mode       string                 `json:"mode"`
	Promised   bool                   `json:"promised"` // that nothing is lost
	Attempts   int64                  `json:"attempts"`
	OK         int64                  `json:"ok"`
	Failed     int64                  `json:"failed"`
	Hanging    int64                  `json:"hanging"` // of those
	Failures   map[load.Failure]int64 `json:"failures"`
	First      string                 `json:"first_failure,omitempty"`
	Reconnects int64                  `json:"reconnects"`
	Resent     int64                  `json:"resent"`

	P50Steady  int64 `json:"p50_steady_us"`
	P99Steady  int64 `json:"p99_steady_us"`
	P999Steady int64 `json:"p99.9_steady_us"`
	MaxSteady  int64 `json:"max_steady_us"`

	P50Reload  int64 `json:"p50_reload_us"`
	P99Reload  int64 `json:"p99_reload_us"`
	P999Reload int64 `json:"p99.9_reload_us"`
	MaxReload  int64 `json:"max_reload_us"`

	Ratio float64 `json:"p99_ratio"` // reload to steady; 0 if there are too few requests to say
}

func (r *Report) row(i int) row {
	m, result := r.options.Modes[i], r.Modes[i]
	q := func(h *load.Histogram, q float64) int64 { return h.Quantile(q).Microseconds() }
	steady, reload := &result.Steady, &result.Reload
	return row{
		Mode: m.Name, Promised: r.options.Promised(m),
		Attempts: result.Attempts, OK: result.OK, Failed: result.Failed, Hanging: result.Hanging, Failures: result.Failures,
		First: result.First, Reconnects: result.Reconnects, Resent: result.Resent,
		P50Steady: q(steady, 0.5), P99Steady: q(steady, 0.99), P999Steady: q(steady, 0.999), MaxSteady: q(steady, 1),
		P50Reload: q(reload, 0.5), P99Reload: q(reload, 0.99), P999Reload: q(reload, 0.999), MaxReload: q(reload, 1),
		Ratio: ratio(reload, steady),
	}
}

// enough is how many requests it takes for the slowest hundredth to mean something.
const enough = 1000

func ratio(reload, steady *load.Histogram) float64 {
	a, b := reload.Quantile(0.99), steady.Quantile(0.99)
	if b == 0 || min(reload.Count(), steady.Count()) < enough {
		return 0
	}
	return math.Round(100*float64(a)/float64(b)) / 100
}

// medianRatio is the median of the ratios of the n modes that have one; of two in
// the middle the larger.
func (r *Report) medianRatio() (median float64, n int) {
	var all []float64
	for i := range r.Modes {
		if x := r.row(i).Ratio; x > 0 {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}

// MarshalJSON writes the report with a row for each mode.
func (r *Report) MarshalJSON() ([]byte, error) {
	type plain Report
	rows := make([]row, len(r.Modes))
	for i := range rows {
		rows[i] = r.row(i)
	}
	return json.Marshal(struct {
		Modes []row `json:"modes"`
		*plain
	}{rows, (*plain)(r)})
}
