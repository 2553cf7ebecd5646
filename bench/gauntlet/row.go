package gauntlet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// A Row is what the reloads of a worker came to in one scenario, on a steered socket or
// on a shared one.
type Row struct {
	Name    string `json:"row"`
	Worker  string `json:"worker"`
	Steered bool   `json:"steered"`

	Reloads      int   `json:"reloads"`
	Refused      int   `json:"refused"` // of a good build
	Connections  int64 `json:"connections"`
	Lost         int64 `json:"lost"`     // without those that hung
	Accepted     int64 `json:"accepted"` // of the lost ones: by a process that died
	Hanging      int64 `json:"hanging"`
	AcceptErrors int   `json:"accept_errors"`
	Queued       int64 `json:"queued"` // connections that waited for broken builds when they died

	Latency load.Histogram `json:"latency"` // of those that were answered, but the crowd
	Crowd   Crowd          `json:"crowd"`
	Queue   *Queue         `json:"queue"`

	Problems []string `json:"problems"`

	options Options
}

func newRow(s scenario, worker string, steer bool) *Row {
	return &Row{
		Name: s.name, Worker: worker, Steered: steer, options: s.options(worker, steer),
		Queue: newQueue(nil), Problems: []string{},
	}
}

func (r *Row) socket() string {
	if r.Steered {
		return "steered"
	}
	return "shared"
}

func (r *Row) String() string { return r.Name + ", " + r.Worker + ", " + r.socket() }

// add takes in a turn. Losses are laid to processes that died only within the turn in
// which they did.
func (r *Row) add(p *Report) {
	r.Reloads += p.Reloads
	r.Refused += p.Refused
	all := load.Sum("", p.Modes...)
	r.Connections += all.Attempts + p.Crowd.Clients
	lost := p.Failed() - p.Hanging()
	r.Lost += lost
	r.Accepted += min(lost, p.Accepted[string(load.Plain)])
	r.Hanging += p.Hanging()
	r.AcceptErrors += p.AcceptErrors
	r.Queued += p.Queued[string(load.Plain)]
	r.Latency.Add(all.Latency())
	r.Crowd.merge(&p.Crowd)
	r.Queue = r.Queue.add(p.Queue)
	r.Problems = append(r.Problems, p.Problems...)
	if first := cmp.Or(all.First, p.Crowd.First); first != "" {
		r.Problems = append(r.Problems, "the first loss of a turn: "+first)
	}
}

// queued is how many waited for builds when they died. Who waits at a shared socket
// waits for all processes.
func (r *Row) queued() string {
	if !r.Steered || r.Queued == 0 {
		return "-"
	}
	return strconv.FormatInt(r.Queued, 10)
}

// Broken says which promises of a steered socket were not kept. Of a shared one there
// are none.
func (r *Row) Broken() (broken []string) {
	if !r.Steered {
		return nil
	}
	for _, c := range []struct {
		n    int64
		what string
	}{
		{r.Lost - r.Accepted, "lost, and no process that died had accepted them"},
		{r.Hanging, "hanging"},
		{int64(r.AcceptErrors), "errors of accept"},
		{int64(r.Refused), "reloads of a good build refused"},
	} {
		if c.n > 0 {
			broken = append(broken, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return broken
}

// Kept says whether the rows kept all promises.
func Kept(rows []*Row) bool {
	return !slices.ContainsFunc(rows, func(r *Row) bool { return len(r.Broken()) > 0 })
}

// PrintRows writes them for people: those that had a turn.
func PrintRows(w io.Writer, rows []*Row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t\t\t\treloads\tconnec-\t\tof these\t\taccept\tdied with\t\tqueue\tqueue\tserved after\t\n")
	fmt.Fprint(t, "row\tworker\tsocket\treloads\trefused\ttions\tlost\taccepted\thanging\terrors\ta queue of\tp99\tp50\tempty\tthe switch\t\n")
	for _, r := range rows {
		if r.Reloads == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%s\t%s\t\n", r.Name, r.Worker, r.socket(),
			r.Reloads, r.Refused, r.Connections, r.Lost, r.Accepted, r.Hanging, r.AcceptErrors, r.queued(),
			inMS(r.Latency.Quantile(0.99)), r.Queue.P50, r.Queue.empty(), r.Crowd.after())
	}
	t.Flush()
	for _, r := range rows {
		r.printProblems(w)
	}
}

// mostProblems is how many a row shows of its own; all are in the JSON.
const mostProblems = 3

func (r *Row) printProblems(w io.Writer) {
	broken := r.Broken()
	if len(broken) == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, b := range broken {
		fmt.Fprintf(w, "PROBLEM: %s: %s\n", r, b)
	}
	for _, p := range r.Problems[:min(len(r.Problems), mostProblems)] {
		fmt.Fprintf(w, "  %s\n", p)
	}
	if more := len(r.Problems) - mostProblems; more > 0 {
		fmt.Fprintf(w, "  and %d more, see -json\n", more)
	}
}

// MarshalJSON writes a row with the promises that it did not keep.
func (r *Row) MarshalJSON() ([]byte, error) {
	type plain Row
	return json.Marshal(struct {
		*plain
		Broken []string `json:"broken"`
	}{(*plain)(r), append([]string{}, r.Broken()...)})
}

// merge takes in the crowds of another run.
func (c *Crowd) merge(o *Crowd) {
	c.Clients += o.Clients
	c.Failed += o.Failed
	c.Hanging += o.Hanging
	c.Served.Add(&o.Served)
	c.First = cmp.Or(c.First, o.First)
}

// after is when the middle and the last one of the crowd were served, in time since the
// switch.
func (c *Crowd) after() string {
	if c.Served.Count() == 0 {
		return "-"
	}
	return fmt.Sprintf("%v, max %v", c.Served.Quantile(0.5).Round(time.Millisecond), c.Served.Max().Round(time.Millisecond))
}
