// Bench reloads a web server hundreds of times, every second time to a broken
// build, while clients ask it without pause, and says what was lost.
//
//	go run ./bench                                   200 reloads, half of them broken
//	go run ./bench -reloads 20 -clients 8            a short one
//	go run ./bench -broken dies-accepting            builds that accept, and die while they bake
//	go run ./bench -worker stock                     a server that calls Shutdown at once
//
// It exits with status 1 if a promise was not kept.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/gauntlet"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/page"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	c, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kept, err := c.run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if !kept {
		os.Exit(1)
	}
}

// A command is what the command line asks for.
type command struct {
	gauntlet.Options
	compare, canary, bare bool
	json, chart, page     string // files for what comes of it, besides stdout
}

func parse(args []string) (c command, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var modes, broken string
	flags.IntVar(&c.Reloads, "reloads", 200, "how many")
	flags.Float64Var(&c.Bad, "bad", 0.5, "`share` of them that is of a broken build")
	flags.StringVar(&c.Worker, "worker", "library", "the good build: library (pkg/worker), plain (its own lame duck), or stock (calls Shutdown at once)")
	flags.BoolVar(&c.Steer, "steer", false, "let supervisord choose who gets a new connection")
	flags.BoolVar(&c.Handover, "handover", false, "let idle connections go from one process to the next")
	flags.StringVar(&broken, "broken", "", "the broken `builds`, by turns, instead of "+strings.Join(gauntlet.Broken, ",")+" and, with -steer, dies-accepting")
	flags.StringVar(&modes, "modes", names(load.Modes), "what clients do")
	flags.IntVar(&c.Clients, "clients", 8, "clients of each mode")
	flags.Float64Var(&c.Rate, "rate", 0, "`requests` of each mode that are due a second; 0: each follows the answer to the last")
	flags.DurationVar(&c.Pause, "pause", 10*time.Millisecond, "of a client between two requests")
	flags.DurationVar(&c.Bake, "bake", 300*time.Millisecond, "for how long a new process must stay ready")
	flags.DurationVar(&c.Drain, "drain", 300*time.Millisecond, "after a reload, for which latencies count as its own")
	flags.DurationVar(&c.Gap, "gap", 400*time.Millisecond, "from there to the next reload")
	flags.IntVar(&c.Rounds, "throughput", 20, "`rounds` of the comparison with bare workers")
	flags.IntVar(&c.Body, "body", 200, "`bytes` of a POST")
	flags.BoolVar(&c.compare, "compare", false, "reloads with the ways that people use today")
	flags.BoolVar(&c.canary, "canary", false, "how many of 20,000 connections a new process gets that is to get 1, 5 and 50 per cent")
	flags.BoolVar(&c.bare, "bare", false, "how many requests a second a worker answers, against one without supervisord, for each kind of socket")
	flags.StringVar(&c.json, "json", "", "`file` to write the figures to")
	flags.StringVar(&c.chart, "svg", "", "`file` to draw the latency of the first minute to")
	flags.StringVar(&c.page, "w", "", "page, a `file`, in whose block the report is to stand")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if broken != "" {
		c.Broken = strings.Split(broken, ",")
	}
	c.Say = log.Printf
	if c.chart != "" {
		c.Trace = time.Minute
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	if !slices.Contains(gauntlet.Workers, c.Worker) {
		return c, fmt.Errorf("no worker is called %q", c.Worker)
	}
	if c.Bad < 0 || c.Bad > 1 {
		return c, fmt.Errorf("-bad %v is no share: it is from 0 to 1", c.Bad)
	}
	if c.bare && c.Rounds < 1 {
		return c, errors.New("-bare needs a -throughput of at least one round")
	}
	c.Modes, err = gauntlet.Parse(modes)
	return c, err
}

// run says whether all promises were kept.
func (c command) run(ctx context.Context) (kept bool, err error) {
	c.Say("building supervisord, superctl and the worker")
	kit, err := gauntlet.Build(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, kit.Remove()) }()
	switch {
	case c.compare:
		return c.runCompare(ctx, kit)
	case c.canary:
		return c.runCanary(ctx, kit)
	case c.bare:
		return c.runBare(ctx, kit)
	}
	report, err := kit.Run(ctx, c.Options)
	if err != nil {
		return false, err
	}
	made := "go run ./bench"
	if c.Rate > 0 {
		made += " -rate"
	}
	err = errors.Join(
		c.write(made, report, report.Print),
		writeTo(c.chart, report.WriteChart),
	)
	return len(report.Problems) == 0, err
}

func (c command) runCompare(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	ways, err := kit.Compare(ctx, c.Options)
	if err != nil {
		return false, err
	}
	return true, c.write("go run ./bench -compare", ways, func(w io.Writer) { gauntlet.PrintWays(w, ways) })
}

func (c command) runCanary(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	all, err := kit.Canaries(ctx, c.Options, []int{1, 5, 50}, 20_000)
	if err != nil {
		return false, err
	}
	kept = !slices.ContainsFunc(all, func(c gauntlet.Canary) bool { return !c.Kept })
	return kept, c.write("go run ./bench -canary", all, func(w io.Writer) { gauntlet.PrintCanaries(w, all) })
}

func (c command) runBare(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	all, err := kit.Throughputs(ctx, c.Options)
	if err != nil {
		return false, err
	}
	return true, c.write("go run ./bench -bare", all, func(w io.Writer) { gauntlet.PrintThroughputs(w, all) })
}

func names(modes []load.Mode) string {
	var s []string
	for _, m := range modes {
		s = append(s, m.Name)
	}
	return strings.Join(s, ",")
}

// write writes what came of it for people, and as JSON if that is asked for.
func (c command) write(made string, figures any, print func(io.Writer)) error {
	var text strings.Builder
	print(io.MultiWriter(os.Stdout, &text))
	var err error
	if c.page != "" {
		err = page.Insert(c.page, made, text.String())
	}
	return errors.Join(err, writeTo(c.json, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(figures)
	}))
}

// writeTo has a file written, if it has a name.
func writeTo(file string, write func(io.Writer) error) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
