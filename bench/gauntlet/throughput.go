package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
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
	bare, err := g.bare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	t := &Throughput{Least: 1e9}
	for range g.Rounds {
		s, b := g.ask(ctx, g.addresses[load.Plain]), g.ask(ctx, bare.address)
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

// A bareWorker runs on its own.
type bareWorker struct {
	address string
	ready   *rig.Ready // it says there, too, that it stops
	cmd     *exec.Cmd
	exited  chan struct{}
}

func (g *gauntlet) bare(ctx context.Context) (*bareWorker, error) {
	a, err := addresses(g.dir)
	if err != nil {
		return nil, err
	}
	b := &bareWorker{address: a[load.Plain], exited: make(chan struct{})}
	if b.ready, err = rig.ListenReady(filepath.Join(g.dir, "bare")); err != nil {
		return nil, err
	}
	b.cmd = exec.Command(g.releases.Path(g.Worker), "-listen", b.address)
	b.cmd.Env = append(os.Environ(), b.ready.Env())
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		b.ready.Close()
		return nil, err
	}
	go func() {
		b.cmd.Wait()
		close(b.exited)
	}()
	if err := b.ready.Wait(ctx, b.exited); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// stop ends it, the hard way if need be.
func (b *bareWorker) stop() error {
	defer b.ready.Close()
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.exited:
		return nil
	case <-time.After(rig.Patience):
		b.cmd.Process.Kill()
		<-b.exited
		return fmt.Errorf("the bare worker has not ended %v after SIGTERM", rig.Patience)
	}
}

func (t *Throughput) print(w io.Writer) {
	if t == nil {
		return
	}
	fmt.Fprintf(w, "throughput: %.0f requests a second with supervisord's socket, %.0f without supervisord: ratio %.3f (rounds: %.3f to %.3f)\n",
		t.Supervised, t.Bare, t.Ratio, t.Least, t.Most)
}
