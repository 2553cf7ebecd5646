package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// Throughput is how many requests a second a worker answers whose socket comes
// from supervisord, and how many the same program does on its own. They run all
// the time and are asked by turns, so that what else the machine does is the same
// for all. Two run on their own: what they differ by is what such a figure is worth.
type Throughput struct {
	Socket     string  `json:"socket"` // how supervisord has it
	Rounds     int     `json:"rounds"`
	Supervised float64 `json:"supervised_per_s"`
	Bare       float64 `json:"bare_per_s"`
	Ratio      Ratio   `json:"ratio"` // of the first to the second
	Twins      Ratio   `json:"twins"` // of one on its own to the other

	SupervisedP99 Mean `json:"supervised_p99_ms"`
	BareP99       Mean `json:"bare_p99_ms"`

	supervised, bare, twin []turned // by block
}

// Turned is what one worker did in the turns of a block.
type turned struct {
	rate float64       // answers a second
	p99  time.Duration // of their latency
}

func rates(all []turned) (r []float64) {
	for _, t := range all {
		r = append(r, t.rate)
	}
	return r
}

// inMilliseconds are the 99th percentiles.
func inMilliseconds(all []turned) (ms []float64) {
	for _, t := range all {
		ms = append(ms, t.p99.Seconds()*1000)
	}
	return ms
}

// A Mean is over all blocks.
type Mean struct {
	Mean  float64 `json:"mean"`
	Error float64 `json:"error"` // standard error of the mean; 0: of a single block
}

func (m Mean) String() string {
	if m.Error == 0 {
		return fmt.Sprintf("%.2fms", m.Mean)
	}
	return fmt.Sprintf("%.2f ± %.2fms", m.Mean, m.Error)
}

func mean(values []float64) (m Mean) {
	n := float64(len(values))
	var squares float64
	for _, v := range values {
		m.Mean += v / n
	}
	for _, v := range values {
		squares += (v - m.Mean) * (v - m.Mean)
	}
	if n > 1 {
		m.Error = math.Sqrt(squares / (n - 1) / n)
	}
	return m
}

// A Ratio is a geometric mean over all blocks, as a ratio and its inverse are worth
// the same.
type Ratio struct {
	Mean  float64 `json:"mean"`
	Error float64 `json:"error"` // standard error of the mean; 0: of a single block
}

func (r Ratio) String() string {
	if r.Error == 0 {
		return fmt.Sprintf("%.3f", r.Mean)
	}
	return fmt.Sprintf("%.3f ± %.3f", r.Mean, r.Error)
}

// paired is the ratio of what two were measured at in the same blocks.
func paired(a, b []float64) Ratio {
	n := float64(len(a))
	logs := make([]float64, len(a))
	var mean, squares float64
	for i := range a {
		logs[i] = math.Log(a[i] / b[i])
		mean += logs[i] / n
	}
	for _, l := range logs {
		squares += (l - mean) * (l - mean)
	}
	r := Ratio{Mean: math.Exp(mean)}
	if len(a) > 1 {
		r.Error = r.Mean * math.Sqrt(squares/(n-1)/n)
	}
	return r
}

// turn is short, as what else a machine does changes from second to second.
const turn = 200 * time.Millisecond

// block is for how many rounds the same processes are asked.
const block = 10

// Throughputs compares with bare workers for each way in which supervisord can
// have a socket, without other load.
func (k *Kit) Throughputs(ctx context.Context, o Options) ([]Throughput, error) {
	o.Worker = "library"
	var all []Throughput
	for _, way := range []struct{ steer, handover bool }{{false, false}, {true, false}, {true, true}} {
		o.Steer, o.Handover = way.steer, way.handover
		g := k.gauntlet(o)
		if err := g.alone(ctx); err != nil {
			return nil, err
		}
		all = append(all, *g.report.Throughput)
	}
	return all, nil
}

// alone has one reload behind it when it measures, as most services have.
func (g *gauntlet) alone(ctx context.Context) (err error) {
	if err := g.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	if err := g.serve(ctx); err != nil {
		return err
	}
	if _, err := g.supervisor.Must(ctx, "reload", "api"); err != nil {
		return err
	}
	return g.throughput(ctx)
}

// throughput compares with bare workers. Two processes of one program differ in
// speed for as long as they live, by where their memory happens to lie; so all are
// replaced after each block of rounds.
func (g *gauntlet) throughput(ctx context.Context) error {
	if err := g.releases.Deploy(g.Worker); err != nil {
		return err
	}
	g.Say("comparing %s with bare workers", g.report.socket())
	t := &Throughput{Socket: g.report.socket()}
	for t.Rounds < g.Rounds {
		if t.Rounds > 0 {
			if _, err := g.supervisor.Must(ctx, "reload", "api"); err != nil {
				return err
			}
			g.report.replaced++
		}
		if err := g.block(ctx, t, min(block, g.Rounds-t.Rounds)); err != nil {
			return err
		}
	}
	t.sum()
	g.report.Throughput = t
	return nil
}

// block is some rounds with the same three processes.
func (g *gauntlet) block(ctx context.Context, t *Throughput, rounds int) (err error) {
	asked := []string{g.addresses[load.Plain]}
	for n := range 2 {
		a, err := addresses(g.dir)
		if err != nil {
			return err
		}
		bare, err := launch(ctx, filepath.Join(g.dir, "bare"+strconv.Itoa(n)), g.releases.Path(g.Worker), "-listen", a[load.Plain])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, bare.stop()) }()
		asked = append(asked, a[load.Plain])
	}
	did := make([]turned, len(asked))
	latencies := make([]load.Histogram, len(asked))
	for n := range rounds {
		for i := range asked {
			who := (n + i) % len(asked) // who comes second may have it easier
			did[who].rate += g.ask(ctx, asked[who], &latencies[who]) / float64(rounds)
		}
	}
	for who := range did {
		did[who].p99 = latencies[who].Quantile(0.99)
	}
	if slices.Contains(rates(did), 0) {
		return errors.New("a worker answered nothing while throughput was measured")
	}
	t.add(did[0], did[1], did[2], rounds)
	return nil
}

// add takes in what each did in a block.
func (t *Throughput) add(supervised, bare, twin turned, rounds int) {
	t.Rounds += rounds
	t.supervised = append(t.supervised, supervised)
	t.bare = append(t.bare, bare)
	t.twin = append(t.twin, twin)
}

// sum is what came of it over all blocks.
func (t *Throughput) sum() {
	supervised, bare, twin := rates(t.supervised), rates(t.bare), rates(t.twin)
	both := between(bare, twin)
	t.Supervised, t.Bare = mean(supervised).Mean, mean(both).Mean
	t.Ratio, t.Twins = paired(supervised, both), paired(twin, bare)
	t.SupervisedP99 = mean(inMilliseconds(t.supervised))
	t.BareP99 = mean(between(inMilliseconds(t.bare), inMilliseconds(t.twin)))
}

// between is the geometric mean of each two.
func between(a, b []float64) []float64 {
	both := make([]float64, len(a))
	for n := range both {
		both[n] = math.Sqrt(a[n] * b[n])
	}
	return both
}

// ask is a turn; it returns answers a second, and adds their latencies.
func (g *gauntlet) ask(ctx context.Context, address string, latencies *load.Histogram) float64 {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	start := time.Now()
	r := load.Run(ctx, load.Options{
		Mode: keptGet, Network: "tcp", Address: address, Clients: g.Clients, Timeout: requestTimeout,
	})
	latencies.Add(r.Latency())
	return float64(r.OK) / time.Since(start).Seconds()
}

var keptGet = load.Modes[1]

func (t *Throughput) print(w io.Writer) {
	if t == nil {
		return
	}
	fmt.Fprintf(w, "throughput: %.0f requests a second with supervisord's socket, %.0f without supervisord: ratio %v (of two without it: %v); p99 %v, and %v\n",
		t.Supervised, t.Bare, t.Ratio, t.Twins, t.SupervisedP99, t.BareP99)
}

// PrintThroughputs writes them for people.
func PrintThroughputs(w io.Writer, all []Throughput) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "supervisord's socket\trounds\trequests/s\tbare\tratio\tof two bare ones\tp99\tbare p99\t\n")
	for _, x := range all {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%v\t%v\t%v\t%v\t\n", x.Socket, x.Rounds, x.Supervised, x.Bare, x.Ratio, x.Twins, x.SupervisedP99, x.BareP99)
	}
	t.Flush()
}
