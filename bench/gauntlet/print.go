package gauntlet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	verb := "reloads"
	if r.options.Restart {
		verb = "restarts"
	}
	fmt.Fprintf(w, "%d %s in %.0f s, %d of them of a broken build%s; worker %s%s, %d clients a mode%s\n\n",
		r.Reloads, verb, r.Seconds, r.Bad, counted(r.Broken), r.Worker, r.with(), r.Clients, r.rate())
	r.printModes(w)
	if median, n := r.medianRatio(); n > 0 {
		fmt.Fprintf(w, "\np99 while a reload goes on, and %v after it, against the steady p99: %.2f (median of %d modes)\n", r.options.after(), median, n)
	}
	fmt.Fprintf(w, "\n%d processes of the good build, %d of them did not leave by their own Shutdown\n", r.Processes, r.Killed)
	fmt.Fprintf(w, "reload of a good build: p50 %v, max %v", r.GoodTook.Quantile(0.5), r.GoodTook.Max().Round(time.Millisecond))
	if r.Bad > 0 {
		fmt.Fprintf(w, "; of a broken one: p50 %v, max %v", r.BadTook.Quantile(0.5), r.BadTook.Max().Round(time.Millisecond))
	}
	fmt.Fprintln(w)
	if r.options.Pace > 0 {
		r.Queue.print(w)
	}
	r.Crowd.print(w)
	r.Throughput.print(w)
	r.printVerdict(w)
}

// with is what else the service has.
func (r *Report) with() string {
	if !r.Steer && !r.Handover {
		return ""
	}
	return ", " + r.socket()
}

// socket is how supervisord has the socket.
func (r *Report) socket() string {
	s := "shared"
	if r.Steer {
		s = "steered"
	}
	if r.Handover {
		s += ", with handover"
	}
	return s
}

func (r *Report) rate() string {
	if r.Rate == 0 {
		return ""
	}
	return fmt.Sprintf(", %g requests a second a mode", r.Rate)
}

func (r *Report) printModes(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t\t\t\t\tsteady\tsteady\treload\treload\treload\tp99 reload\t\n")
	fmt.Fprint(t, "mode\tattempts\tok\tfailed\treconnects\tp50\tp99\tp50\tp99\tmax\t/ steady\t\n")
	for i, m := range r.Modes {
		x := r.row(i)
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Mode, x.Attempts, x.OK, x.Failed, x.Reconnects,
			ms(x.P50Steady), ms(x.P99Steady), ms(x.P50Reload), ms(x.P99Reload), ms(x.MaxReload), times(x.Ratio), failures(m))
	}
	t.Flush()
}

// times is a ratio, if there is one.
func times(ratio float64) string {
	if ratio == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", ratio)
}

// ms is a number of microseconds in milliseconds, to three digits or so.
func ms(µs int64) string {
	digits := 2
	for limit := int64(10_000); digits > 0 && µs >= limit; limit *= 10 {
		digits--
	}
	return fmt.Sprintf("%.*fms", digits, float64(µs)/1000)
}

func (r *Report) printVerdict(w io.Writer) {
	lost, apart := r.losses()
	fmt.Fprintf(w, "%d requests were lost", lost)
	if n := sum(r.Accepted); n > 0 {
		fmt.Fprintf(w, "; processes died with %d connections that they had accepted", n)
	}
	if n := sum(r.Queued); n > 0 && r.Steer {
		fmt.Fprintf(w, "; broken builds died with %d connections waiting for them", n)
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "%d requests hung: no answer within %v, although later ones had theirs; %d accepts failed before a process was to leave\n",
		r.Hanging(), r.options.Timeout, r.AcceptErrors)
	if apart > 0 {
		fmt.Fprintf(w, "%d more in modes of which nothing is promised with this worker\n", apart)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "PROBLEM: %s\n", p)
	}
}

// losses are the requests that were lost, in modes with a promise and without.
func (r *Report) losses() (promised, apart int64) {
	for i, m := range r.Modes {
		if r.options.Promised(r.options.Modes[i]) {
			promised += m.Failed
		} else {
			apart += m.Failed
		}
	}
	if r.options.Promised(fresh) {
		return promised + r.Crowd.Failed, apart
	}
	return promised, apart + r.Crowd.Failed
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// counted is " (a 1, b 2)", or nothing if there is none.
func counted[K ~string, N int | int64](counts map[K]N) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	if parts == nil {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func failures(m *load.Result) string {
	if m.Failed == 0 {
		return ""
	}
	return counted(m.Failures) + " " + m.First
}
