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
	o, out, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := gauntlet.Run(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	if err := out.write(report); err != nil {
		log.Fatal(err)
	}
	if len(report.Problems) > 0 {
		os.Exit(1)
	}
}

// outputs are where the report goes, besides stdout.
type outputs struct{ json, chart, page string }

func parse(args []string) (o gauntlet.Options, out outputs, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var modes, broken string
	flags.IntVar(&o.Reloads, "reloads", 200, "how many")
	flags.Float64Var(&o.Bad, "bad", 0.5, "`share` of them that is of a broken build")
	flags.StringVar(&o.Worker, "worker", "library", "the good build: library (pkg/worker), plain (its own lame duck), or stock (calls Shutdown at once)")
	flags.StringVar(&broken, "broken", strings.Join(gauntlet.Broken, ","), "the broken `builds`, by turns; also dies-accepting")
	flags.StringVar(&modes, "modes", names(load.Modes), "what clients do")
	flags.IntVar(&o.Clients, "clients", 8, "clients of each mode")
	flags.Float64Var(&o.Rate, "rate", 0, "`requests` of each mode that are due a second; 0: each follows the answer to the last")
	flags.DurationVar(&o.Pause, "pause", 10*time.Millisecond, "of a client between two requests")
	flags.DurationVar(&o.Bake, "bake", 300*time.Millisecond, "for how long a new process must stay ready")
	flags.DurationVar(&o.Drain, "drain", 300*time.Millisecond, "after a reload, for which latencies count as its own")
	flags.DurationVar(&o.Gap, "gap", 400*time.Millisecond, "from there to the next reload")
	flags.IntVar(&o.Rounds, "throughput", 10, "`rounds` of the comparison with a bare worker")
	flags.IntVar(&o.Body, "body", 200, "`bytes` of a POST")
	flags.StringVar(&out.json, "json", "", "`file` to write the figures to")
	flags.StringVar(&out.chart, "svg", "", "`file` to draw the latency of the first minute to")
	flags.StringVar(&out.page, "w", "", "page, a `file`, in whose block the report is to stand")
	if err := flags.Parse(args); err != nil {
		return o, out, err
	}
	o.Broken = strings.Split(broken, ",")
	o.Say = log.Printf
	if out.chart != "" {
		o.Trace = time.Minute
	}
	if flags.NArg() > 0 {
		return o, out, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	if !slices.Contains(gauntlet.Workers, o.Worker) {
		return o, out, fmt.Errorf("no worker is called %q", o.Worker)
	}
	if o.Bad < 0 || o.Bad > 1 {
		return o, out, fmt.Errorf("-bad %v is no share: it is from 0 to 1", o.Bad)
	}
	o.Modes, err = gauntlet.Parse(modes)
	return o, out, err
}

func names(modes []load.Mode) string {
	var s []string
	for _, m := range modes {
		s = append(s, m.Name)
	}
	return strings.Join(s, ",")
}

func (o outputs) write(report *gauntlet.Report) error {
	var text strings.Builder
	report.Print(io.MultiWriter(os.Stdout, &text))
	return errors.Join(
		o.writePage(text.String()),
		writeTo(o.json, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(report)
		}),
		writeTo(o.chart, report.WriteChart),
	)
}

func (o outputs) writePage(text string) error {
	if o.page == "" {
		return nil
	}
	return page.Insert(o.page, "go run ./bench", text)
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
