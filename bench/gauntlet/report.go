package gauntlet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
)

// A Report is what a gauntlet came to.
type Report struct {
	Worker  string         `json:"worker"`
	Reloads int            `json:"reloads"`
	Good    int            `json:"good"`
	Bad     int            `json:"bad"`
	Broken  map[string]int `json:"broken"` // bad reloads by build
	Clients int            `json:"clients"`
	Seconds float64        `json:"seconds"`

	Modes []*load.Result `json:"modes"`

	Processes int   `json:"processes"` // of good builds; each left by its own Shutdown, or is a problem
	Killed    int   `json:"killed"`    // of good builds, those that did not
	Accepted  int64 `json:"accepted"`  // connections that died with broken builds
	Allowed   int64 `json:"allowed"`   // requests that may be lost; -1: nothing is promised

	GoodTook load.Histogram `json:"good_reload"` // what superctl took
	BadTook  load.Histogram `json:"bad_reload"`

	Problems []string `json:"problems"` // promises that were not kept
}

func newReport(o Options) *Report {
	return &Report{Worker: o.Worker, Clients: o.Clients, Broken: map[string]int{}, Problems: []string{}}
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

// Failed is the number of requests that were lost, in all modes.
func (r *Report) Failed() (n int64) {
	for _, m := range r.Modes {
		n += m.Failed
	}
	return n
}

// account reads what the workers say of themselves.
func (r *Report) account(entries []ledger.Entry) {
	began := map[int]bool{}
	for _, e := range entries {
		switch {
		case e.Event == ledger.Died:
			r.Accepted += e.Open
		case e.Build != r.Worker:
		case e.Event == ledger.Began:
			r.Processes++
			began[e.PID] = true
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
	if r.Processes != r.Good+1 {
		r.problem("%d processes of the good build ran, for one start and %d reloads", r.Processes, r.Good)
	}
	r.judge()
}

// judge compares what was lost with what may be. A worker that calls Shutdown at
// once is promised nothing: what is lost is net/http's doing.
func (r *Report) judge() {
	r.Allowed = r.Accepted
	if r.Worker == "stock" {
		r.Allowed = -1
	}
	if lost := r.Failed(); r.Allowed >= 0 && lost > r.Allowed {
		r.problem("%d requests were lost, and %d may have been", lost, r.Allowed)
	}
	for _, m := range r.Modes {
		if m.OK == 0 {
			r.problem("mode %s: not one request was answered", m.Mode)
		}
	}
}

// Print writes it for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%d reloads in %.0f s, %d of them of a broken build%s; worker %s, %d clients a mode\n\n",
		r.Reloads, r.Seconds, r.Bad, r.brokenBuilds(), r.Worker, r.Clients)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "mode\tattempts\tok\tfailed\treconnects\tp50\tp99\tp99.9\tmax\t\n")
	for _, m := range r.Modes {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%v\t%v\t%v\t%v\t%s\n", m.Mode, m.Attempts, m.OK, m.Failed, m.Reconnects,
			m.Latency.Quantile(0.5), m.Latency.Quantile(0.99), m.Latency.Quantile(0.999), m.Latency.Max().Round(time.Microsecond), failures(m))
	}
	t.Flush()
	fmt.Fprintf(w, "\n%d processes of the good build, %d of them did not leave by their own Shutdown\n", r.Processes, r.Killed)
	fmt.Fprintf(w, "reload of a good build: p50 %v, max %v", r.GoodTook.Quantile(0.5), r.GoodTook.Max().Round(time.Millisecond))
	if r.Bad > 0 {
		fmt.Fprintf(w, "; of a broken one: p50 %v, max %v", r.BadTook.Quantile(0.5), r.BadTook.Max().Round(time.Millisecond))
	}
	fmt.Fprintln(w)
	r.printVerdict(w)
}

func (r *Report) printVerdict(w io.Writer) {
	switch lost := r.Failed(); {
	case r.Allowed < 0:
		fmt.Fprintf(w, "%d requests were lost to net/http's Shutdown, which closes connections that it takes for idle\n", lost)
	case r.Accepted > 0:
		fmt.Fprintf(w, "%d requests were lost; the broken builds died with %d connections that they had accepted\n", lost, r.Accepted)
	default:
		fmt.Fprintf(w, "%d requests were lost\n", lost)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "PROBLEM: %s\n", p)
	}
}

func (r *Report) brokenBuilds() string {
	var parts []string
	for _, build := range slices.Sorted(maps.Keys(r.Broken)) {
		parts = append(parts, fmt.Sprintf("%s %d", build, r.Broken[build]))
	}
	if parts == nil {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func failures(m *load.Result) string {
	var parts []string
	for _, f := range slices.Sorted(maps.Keys(m.Failures)) {
		parts = append(parts, fmt.Sprintf("%s %d", f, m.Failures[f]))
	}
	if parts == nil {
		return ""
	}
	return " " + strings.Join(parts, ", ") + " (" + m.First + ")"
}
