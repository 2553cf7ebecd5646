package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// Throughput is how many requests a second a worker answers whose socket comes
// from supervisord, and how many the same program does on its own. Both run all
// the time and are asked by turns, so that what else the machine does is the same
// for both.
type Throughput struct {
	Supervised float64 `json:"supervised_per_s"`
	Bare       float64 `json:"bare_per_s"`
	Ratio      float64 `json:"ratio"`
	Least      float64 `json:"least"` // ratio of a round
	Most       float64 `json:"most"`
}

const turn = 500 * time.Millisecond

func (g *gauntlet) throughput(ctx context.Context) (err error) {
	g.Say("comparing with a bare worker")
	a, err := addresses(g.dir)
	if err != nil {
		return err
	}
	address := a[load.Plain]
	bare, err := launch(ctx, filepath.Join(g.dir, "bare"), g.releases.Path(g.Worker), "-listen", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	t := &Throughput{Least: 1e9}
	for n := range g.Rounds {
		var s, b float64
		if n%2 == 0 {
			s, b = g.ask(ctx, g.addresses[load.Plain]), g.ask(ctx, address)
		} else { // who comes second may have it easier
			b, s = g.ask(ctx, address), g.ask(ctx, g.addresses[load.Plain])
		}
		if s == 0 || b == 0 {
			return errors.New("a worker answered nothing while throughput was measured")
		}
		t.Supervised += s / float64(g.Rounds)
		t.Bare += b / float64(g.Rounds)
		t.Least, t.Most = min(t.Least, s/b), max(t.Most, s/b)
	}
	t.Ratio = t.Supervised / t.Bare
	g.report.Throughput = t
	return nil
}

// ask is a turn; it returns answers a second.
func (g *gauntlet) ask(ctx context.Context, address string) float64 {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	start := time.Now()
	r := load.Run(ctx, load.Options{
		Mode: keptGet, Network: "tcp", Address: address, Clients: g.Clients, Timeout: requestTimeout,
	})
	return float64(r.OK) / time.Since(start).Seconds()
}

var keptGet = load.Modes[1]

func (t *Throughput) print(w io.Writer) {
	if t == nil {
		return
	}
	fmt.Fprintf(w, "throughput: %.0f requests a second with supervisord's socket, %.0f without supervisord: ratio %.3f (rounds: %.3f to %.3f)\n",
		t.Supervised, t.Bare, t.Ratio, t.Least, t.Most)
}
