// Package gauntlet reloads a service again and again, good builds and broken
// ones, while clients ask it as fast as they may, and then accounts for
// everything: what each request came to, what each superctl said, and how each
// process left. A promise is kept if nothing is missing.
package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// Options say what is run. Zero values of durations, counts and lists are the
// defaults that Fill gives them.
type Options struct {
	Reloads int      // how many
	Bad     float64  // share of them that is of a broken build
	Worker  string   // the good build: "plain" or "stock"
	Broken  []string // the broken builds, by turns
	Modes   []load.Mode
	Clients int           // of each mode
	Pause   time.Duration // of a client between two requests
	Body    int           // bytes of a POST
	Bake    time.Duration
	Say     func(format string, args ...any) // progress, a line at a time
}

// The broken builds of which none accepts a connection, so that not one request
// may be lost to them.
var Broken = []string{"never-ready", "exits-at-start", "exits-in-bake"}

// What the service of a gauntlet is given. A broken build that never becomes
// ready costs startTimeout each time; a good one must be quicker than that, also
// on a machine that is busy with this.
const (
	startTimeout   = 5 * time.Second
	requestTimeout = 30 * time.Second
)

// Fill gives each option that is not set its default.
func (o Options) Fill() Options {
	if o.Worker == "" {
		o.Worker = "plain"
	}
	if o.Broken == nil {
		o.Broken = Broken
	}
	if o.Modes == nil {
		o.Modes = load.Modes
	}
	if o.Clients == 0 {
		o.Clients = 32
	}
	if o.Body == 0 {
		o.Body = 200
	}
	if o.Bake == 0 {
		o.Bake = 300 * time.Millisecond
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return o
}

// broken says whether the reload with this number is of a broken build, and
// which. Bad ones are spread evenly; the first reload of a half is good.
func (o Options) broken(n int) (build string, bad bool) {
	before, after := int(float64(n)*o.Bad), int(float64(n+1)*o.Bad)
	if after == before || len(o.Broken) == 0 {
		return o.Worker, false
	}
	return o.Broken[before%len(o.Broken)], true
}

// Run does it all, in directories of its own that are gone when it returns.
// The error is for a gauntlet that could not be run; what it found is in the
// report.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	o = o.Fill()
	dir, err := rig.TempDir()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove(dir)) }()
	o.Say("building supervisord, superctl and the worker")
	binaries, err := rig.Build(ctx, mkdir(dir, "bin"))
	if err != nil {
		return nil, err
	}
	releases, err := rig.BuildReleases(ctx, mkdir(dir, "releases"))
	if err != nil {
		return nil, err
	}
	g := &gauntlet{Options: o, dir: dir, releases: releases, report: newReport(o)}
	return g.report, g.run(ctx, binaries)
}

type gauntlet struct {
	Options
	dir        string
	releases   rig.Releases
	supervisor *rig.Supervisor
	tcp, unix  string
	report     *Report
}

func (g *gauntlet) run(ctx context.Context, binaries rig.Binaries) error {
	if err := g.releases.Deploy(g.Worker); err != nil {
		return err
	}
	configuration, err := g.configuration()
	if err != nil {
		return err
	}
	if g.supervisor, err = rig.Start(ctx, binaries, g.dir, configuration); err != nil {
		return err
	}
	err = g.underLoad(ctx)
	if stop := g.supervisor.Stop(); stop != nil {
		g.report.problem("%v", stop)
	}
	if err != nil {
		return err
	}
	return g.account()
}

// underLoad reloads while all clients of all modes ask, and waits for them.
func (g *gauntlet) underLoad(ctx context.Context) error {
	if _, err := g.supervisor.Must(ctx, "start", "api"); err != nil {
		return err
	}
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var clients sync.WaitGroup
	results := make([]*load.Result, len(g.Modes))
	for i, m := range g.Modes {
		clients.Go(func() { results[i] = load.Run(asking, g.load(m)) })
	}
	start := time.Now()
	err := g.reloads(ctx)
	if err == nil {
		_, err = g.supervisor.Must(ctx, "status", "api")
	}
	enough()
	clients.Wait()
	g.report.Seconds = time.Since(start).Seconds()
	g.report.Modes = results
	return err
}

func (g *gauntlet) load(m load.Mode) load.Options {
	network, address := "tcp", g.tcp
	if m.Unix {
		network, address = "unix", g.unix
	}
	return load.Options{
		Mode: m, Network: network, Address: address,
		Clients: g.Clients, Pause: g.Pause, Body: g.Body, Timeout: requestTimeout,
	}
}

func (g *gauntlet) reloads(ctx context.Context) error {
	for n := range g.Reloads {
		if err := g.reload(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// reload deploys a build, good or broken, and judges what superctl makes of it.
func (g *gauntlet) reload(ctx context.Context, n int) error {
	build, bad := g.broken(n)
	if err := g.releases.Deploy(build); err != nil {
		return err
	}
	answer, err := g.supervisor.Call(ctx, "reload", "api")
	if err != nil {
		return err
	}
	want := 0
	if bad {
		want = 1
	}
	g.report.reload(build, bad, answer.Took)
	if answer.Status != want {
		g.report.problem("reload %d, of build %s: superctl exited with status %d, not %d: %s%s",
			n+1, build, answer.Status, want, answer.Stdout, answer.Stderr)
	}
	if n%10 == 9 {
		g.Say("%d of %d reloads", n+1, g.Reloads)
	}
	return nil
}

func (g *gauntlet) configuration() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	g.tcp, g.unix = port, filepath.Join(g.dir, "api.sock")
	return fmt.Sprintf(`[socket.http]
listen_stream = [%q, %q]

[service.api]
exec_start = [%q, "-ledger", %q]
type = "notify"
sockets = ["http"]
restart = "no"
timeout_start_sec = %q
timeout_stop_sec = "30s"

[service.api.reload]
bake = %q
`, g.tcp, g.unix, g.releases.Current(), g.ledger(), startTimeout, g.Bake), nil
}

func (g *gauntlet) ledger() string { return filepath.Join(g.dir, "ledger") }

func (g *gauntlet) account() error {
	entries, err := ledger.Read(g.ledger())
	if err != nil {
		return err
	}
	g.report.account(entries)
	return nil
}

// freePort is one that was free a moment ago. The clients need to know it
// before the socket is bound.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Parse returns the modes with these names, separated by commas.
func Parse(names string) ([]load.Mode, error) {
	var modes []load.Mode
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(load.Modes, func(m load.Mode) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no mode is called %q", name)
		}
		modes = append(modes, load.Modes[i])
	}
	return modes, nil
}
