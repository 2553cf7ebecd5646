// Package gauntlet reloads a service again and again, good builds and broken
// ones, while clients ask it as fast as they may, and then accounts for
// everything: what each request came to, what each superctl said, and how each
// process left. A promise is kept if nothing is missing.
package gauntlet

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// What the service of a gauntlet is given. A broken build that never becomes
// ready costs startTimeout each time, one that hangs stopTimeout; a good one must
// be quicker than that, also on a machine that is busy with this.
const (
	startTimeout   = 5 * time.Second
	stopTimeout    = 12 * time.Second
	requestTimeout = 30 * time.Second
)

// A Kit is what is run: supervisord, superctl, and the worker in all its builds.
type Kit struct {
	dir      string
	binaries rig.Binaries
	releases rig.Releases
	runs     int
}

// Build builds a kit from the module that the working directory is in. The caller
// removes it.
func Build(ctx context.Context) (*Kit, error) {
	dir, err := rig.TempDir()
	if err != nil {
		return nil, err
	}
	k := &Kit{dir: dir}
	if k.binaries, err = rig.Build(ctx, mkdir(dir, "bin")); err == nil {
		k.releases, err = rig.BuildReleases(ctx, mkdir(dir, "releases"))
	}
	if err != nil {
		return nil, errors.Join(err, k.Remove())
	}
	return k, nil
}

// Remove removes the kit, and ends what runs of it. Nothing should.
func (k *Kit) Remove() error { return errors.Join(rig.Sweep(k.dir), os.RemoveAll(k.dir)) }

// Run is one gauntlet. The error is for one that could not be run to its end; what it
// found until then is in the report. Only one can be run at a time.
func (k *Kit) Run(ctx context.Context, o Options) (*Report, error) {
	g := k.gauntlet(o)
	return g.report, g.run(ctx)
}

// gauntlet prepares one in a directory of its own.
func (k *Kit) gauntlet(o Options) *gauntlet {
	k.runs++
	o = o.Fill()
	return &gauntlet{Options: o, Kit: k, dir: mkdir(k.dir, strconv.Itoa(k.runs)), witness: load.NewWitness(), report: newReport(o)}
}

type gauntlet struct {
	Options
	*Kit
	dir        string
	supervisor *rig.Supervisor
	addresses  map[load.Socket]string
	trust      *tls.Config
	phase      load.Phase
	trace      *load.Trace
	witness    *load.Witness
	report     *Report
}

// start starts a supervisord with the good build, which is not started yet.
func (g *gauntlet) start(ctx context.Context) (err error) {
	if err := g.releases.Deploy(g.Worker); err != nil {
		return err
	}
	if g.trust, err = rig.Certify(g.certificate()); err != nil {
		return err
	}
	if g.addresses, err = addresses(g.dir); err != nil {
		return err
	}
	g.supervisor, err = rig.Start(ctx, g.binaries, g.dir, g.configuration())
	return err
}

// serve starts the service. If its sockets are to be steered they are, or nothing is
// measured: supervisord shares them where it cannot steer.
func (g *gauntlet) serve(ctx context.Context) error {
	if _, err := g.supervisor.Must(ctx, "start", "api"); err != nil || !g.Steer {
		return err
	}
	all, err := g.supervisor.Sockets(ctx)
	if err != nil {
		return err
	}
	return unsteered(all, g.addresses[load.Unix])
}

// unsteered is an error for the first socket that is not steered, but for the unix
// socket, which cannot be.
func unsteered(all []rig.Socket, unix string) error {
	for _, s := range all {
		if !s.Steered && s.Address != unix {
			return fmt.Errorf("%s is shared, although it was to be steered: %s", s.Address, cmp.Or(s.Note, "supervisord does not say why"))
		}
	}
	return nil
}

// stop ends supervisord, and finds what it has left.
func (g *gauntlet) stop() error { return errors.Join(g.supervisor.Stop(), rig.Sweep(g.Kit.dir)) }

func (g *gauntlet) run(ctx context.Context) error {
	if err := g.start(ctx); err != nil {
		return err
	}
	err := g.underLoad(ctx)
	if err == nil && g.Rounds > 0 {
		err = g.throughput(ctx)
	}
	g.report.Whole = err == nil
	if stop := g.stop(); stop != nil {
		g.report.problem("%v", stop)
	}
	return errors.Join(err, g.account())
}

// underLoad reloads while all clients of all modes ask, and waits for them.
func (g *gauntlet) underLoad(ctx context.Context) error {
	if err := g.serve(ctx); err != nil {
		return err
	}
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var clients sync.WaitGroup
	results := make([]*load.Result, len(g.Modes))
	start := time.Now()
	if g.Trace > 0 {
		g.trace = load.NewTrace(g.Trace)
	}
	for i, m := range g.Modes {
		clients.Go(func() { results[i] = load.Run(asking, g.load(m)) })
	}
	clients.Go(func() { g.watch(asking) })
	var looks []int
	var lookErr error
	clients.Go(func() { looks, lookErr = g.look(asking) })
	err := g.reloads(ctx)
	if err == nil {
		err = g.must(ctx, "status", "api")
	}
	enough()
	clients.Wait()
	if g.report.Queue = newQueue(looks); lookErr != nil {
		g.report.problem("%v", lookErr)
	}
	g.report.Seconds = time.Since(start).Seconds()
	g.report.Modes = results
	if g.trace != nil {
		g.report.samples = g.trace.Samples()
	}
	return err
}

func (g *gauntlet) load(m load.Mode) load.Options {
	network := "tcp"
	if m.Socket == load.Unix {
		network = "unix"
	}
	return load.Options{
		Mode: m, Network: network, Address: g.addresses[m.Socket], TLS: g.trust,
		Clients: g.Clients, Pause: g.Pause, Rate: g.Rate, Body: g.Body, Timeout: g.Timeout,
		Phase: &g.phase, Trace: g.trace, Witness: g.witness,
	}
}

func (g *gauntlet) reloads(ctx context.Context) error {
	for n := range g.Reloads {
		if err := wait(ctx, g.Gap); err != nil {
			return err
		}
		if err := g.reload(ctx, n); err != nil {
			return err
		}
		if n%10 == 9 {
			g.Say("%d of %d reloads", n+1, g.Reloads)
		}
	}
	return wait(ctx, g.Gap)
}

// reload deploys a build, good or broken, and judges what superctl makes of it.
func (g *gauntlet) reload(ctx context.Context, n int) error {
	build, bad := g.broken(n)
	if err := g.releases.Deploy(build); err != nil {
		return err
	}
	waiting, err := g.stall(ctx, n, bad)
	if err != nil {
		return err
	}
	verb := "reload"
	if g.Restart {
		verb = "restart"
	}
	g.phase.Begin()
	defer g.phase.End()
	start := time.Now()
	answer, err := g.supervisor.Call(ctx, verb, "api")
	waiting.end(time.Now(), g.report)
	if err != nil {
		return err
	}
	want := 0
	if bad {
		want = 1
	}
	g.report.reload(build, bad, answer.Took)
	if answer.Status != want {
		if !bad {
			g.report.Refused++
		}
		g.report.problem("reload %d, of build %s: superctl exited with status %d, not %d: %s%s",
			n+1, build, answer.Status, want, answer.Stdout, answer.Stderr)
	}
	if g.trace != nil {
		g.report.marks = append(g.report.marks, mark{g.trace.Since(start), g.trace.Since(time.Now()), bad})
	}
	return wait(ctx, g.after())
}

// must calls superctl. That it says no is a problem, and the next reload may cure it.
func (g *gauntlet) must(ctx context.Context, args ...string) error {
	a, err := g.supervisor.Call(ctx, args...)
	if err == nil && a.Status != 0 {
		g.report.problem("superctl %s exited with status %d: %s%s", args[0], a.Status, a.Stdout, a.Stderr)
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (g *gauntlet) ledger() string      { return filepath.Join(g.dir, "ledger") }
func (g *gauntlet) certificate() string { return filepath.Join(g.dir, "certificate.pem") }

func (g *gauntlet) account() error {
	entries, err := ledger.Read(g.ledger())
	if err == nil {
		entries, err = ledger.Ended(g.ledger(), entries)
	}
	if err != nil {
		return err
	}
	g.report.account(entries)
	return nil
}
