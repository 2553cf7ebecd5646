// Faults does to supervisord and its services what breaks other supervisors, and
// says how long it took to be well again.
//
//	go run ./bench/faults [-rounds 3] [-loops 1m] [-rows R2,R7,R12,R13,R14] [-json FILE]
//
// It exits with status 1 if something was not as it must be. That can be the
// machine's doing where time is what was measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/page"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A row is one kind of fault. Its run returns figures for people; the error says
// what was not as it must be.
type row struct {
	name, fault string
	run         func(context.Context, *bed) (string, error)
}

var rows = []row{
	{"R2", "builds that are broken in every way, under load", brokenBuilds},
	{"R7", "stop of a tree that does not go", stubbornTree},
	{"R12", "a thousand processes end in the same instant", endTogether},
	{"R13", "fifty services crash without end", crashLoops},
	{"R14", "a program that is missing, busy or removed", missingProgram},
}

// A bed is what rows need: a new supervisord each, the same binaries.
type bed struct {
	binaries rig.Binaries
	crowd    string        // the path of bench/crowd
	rounds   int           // of R12
	loops    time.Duration // that R13 looks on
}

// A result is a row of the report.
type result struct {
	Row     string `json:"row"`
	Fault   string `json:"fault"`
	Figures string `json:"figures"`
	Error   string `json:"error,omitempty"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("faults: ")
	rounds := flag.Int("rounds", 3, "how `often` R12 ends a thousand processes; each time takes 20 seconds or so")
	loops := flag.Duration("loops", minute, "for how `long` R13 looks on; what it costs is judged by a minute at least")
	wanted := flag.String("rows", "R2,R7,R12,R13,R14", "which")
	var out outputs
	flag.StringVar(&out.json, "json", "", "`file` to write the results to")
	flag.StringVar(&out.page, "w", "", "page, a `file`, in whose block the results are to stand")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := run(ctx, strings.Split(*wanted, ","), &bed{rounds: *rounds, loops: *loops})
	if err != nil {
		log.Fatal(err)
	}
	if bad := report(results, out); bad != nil {
		log.Fatal(bad)
	}
}

// run fills in what the bed has yet to have.
func run(ctx context.Context, wanted []string, b *bed) ([]result, error) {
	dir, err := rig.TempDir()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	log.Print("building")
	b.crowd = filepath.Join(dir, "crowd")
	if b.binaries, err = rig.Build(ctx, dir); err != nil {
		return nil, err
	}
	if err := rig.BuildPackages(ctx, dir, rig.Module+"/bench/crowd"); err != nil {
		return nil, err
	}
	var results []result
	for _, r := range rows {
		if !slices.Contains(wanted, r.name) {
			continue
		}
		log.Printf("%s: %s", r.name, r.fault)
		figures, err := r.run(ctx, b)
		res := result{Row: r.name, Fault: r.fault, Figures: figures}
		if err != nil {
			res.Error = err.Error()
		}
		results = append(results, res)
	}
	return results, ctx.Err()
}

// outputs are where the results go, besides stdout.
type outputs struct{ json, page string }

func report(results []result, out outputs) (err error) {
	var text strings.Builder
	t := tabwriter.NewWriter(io.MultiWriter(os.Stdout, &text), 0, 0, 2, ' ', 0)
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.Row, r.Fault, r.Figures)
		if r.Error != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", r.Row, r.Error))
		}
	}
	t.Flush()
	if out.page != "" {
		err = errors.Join(err, page.Insert(out.page, "go run ./bench/faults", text.String()))
	}
	if out.json == "" {
		return err
	}
	b, merr := json.MarshalIndent(results, "", "  ")
	if merr == nil {
		merr = os.WriteFile(out.json, append(b, '\n'), 0o644)
	}
	return errors.Join(err, merr)
}

// An engine is a supervisord for one row, with a tally of what it runs.
type engine struct {
	*rig.Supervisor
	dir   string
	tally rig.Tally
}

// with runs a row's work with a supervisord of its own. Whether that ends well
// counts too.
func (b *bed) with(ctx context.Context, configure func(dir string) (string, error), work func(*engine) error) (err error) {
	dir, err := rig.TempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tally, err := rig.ListenTally(filepath.Join(dir, "tally"))
	if err != nil {
		return err
	}
	defer tally.Close()
	configuration, err := configure(dir)
	if err != nil {
		return err
	}
	s, err := rig.Start(ctx, b.binaries, dir, configuration)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	return work(&engine{s, dir, tally})
}
