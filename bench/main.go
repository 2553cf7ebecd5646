// Bench measures what this project promises: it reloads a web server hundreds of
// times, every second time to a broken build, while clients ask it without pause, and
// says what was lost.
//
//	go run ./bench reloads                    200 of them, half of broken builds
//	go run ./bench reloads -reloads 20        a short one
//	go run ./bench reloads -worker stock      of a server that calls Shutdown at once
//	go run ./bench steer                      what steered sockets lose, and shared ones
//	go run ./bench canary                     how many connections a canary gets
//	go run ./bench bare                       throughput, against no supervisord
//	go run ./bench compare                    the ways that people use today
//	go run ./bench starts                     what it takes to start a process
//
// It exits with status 1 if a promise was not kept or it could not be run to its end,
// and with status 2 if the command line is wrong.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/gauntlet"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/page"
	"github.com/supervisord-go/supervisord/bench/starts"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	r, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kept, err := r.command.run(r, ctx)
	if err != nil {
		log.Print(err)
	}
	if err != nil || !kept {
		os.Exit(1)
	}
}

// A command is one of those that bench has.
type command struct {
	name, about string
	flags       func(*run, *flag.FlagSet)
	check       func(*run) error // fills in what stands in lists, and looks at all
	run         func(*run, context.Context) (kept bool, err error)
}

var commands = []command{
	{"reloads", "good and broken builds under load, and what was lost", (*run).reloadsFlags, (*run).checkLoad, withKit((*run).reloads)},
	{"steer", "what is lost with steered sockets and with shared ones, by turns, in all that steering is for", (*run).steerFlags, (*run).checkSteer, withKit((*run).steer)},
	{"canary", "how many of many connections a new process gets that is to get some per cent", (*run).canaryFlags, (*run).checkLoad, withKit((*run).canary)},
	{"bare", "how many requests a second a worker answers, against one without supervisord", (*run).bareFlags, (*run).checkLoad, withKit((*run).bare)},
	{"compare", "reloads with the ways that people use today", (*run).compareFlags, (*run).checkLoad, withKit((*run).compare)},
	{"starts", "what it takes to start a process, against fork and exec", (*run).startsFlags, (*run).checkStarts, (*run).starts},
}

// A run is what the command line asks for.
type run struct {
	gauntlet.Options
	command
	modes, broken     string
	connections       int64
	steering          gauntlet.Steering
	rows, workers     string
	start             starts.Options
	sizes, atOnce     string
	judge             bool
	json, chart, page string // files for what comes of it, besides stdout
}

// parse writes what it has to say besides an error to out.
func parse(args []string, out io.Writer) (*run, error) {
	if len(args) == 0 {
		usage(out)
		return nil, errors.New("no command is given")
	}
	if slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
		usage(out)
		return nil, flag.ErrHelp
	}
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		usage(out)
		return nil, fmt.Errorf("no command is called %q", args[0])
	}
	r := &run{command: commands[i]}
	r.Options = gauntlet.Options{
		Reloads: 1, Worker: "library", Bake: 300 * time.Millisecond, Drain: 300 * time.Millisecond,
		Gap: 400 * time.Millisecond, Pause: 10 * time.Millisecond, Body: 200, Say: log.Printf,
	}
	return r, r.parse(args[1:], out)
}

func usage(out io.Writer) {
	fmt.Fprint(out, "Usage: go run ./bench COMMAND [-h]\n\n")
	for _, c := range commands {
		fmt.Fprintf(out, "  %-8s  %s\n", c.name, c.about)
	}
	fmt.Fprintln(out)
}

func (r *run) parse(args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench "+r.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its errors are told once, by main
	r.command.flags(r, flags)
	flags.StringVar(&r.json, "json", "", "`file` to write the figures to")
	flags.StringVar(&r.page, "w", "", "page, a `file`, in whose block the report is to stand")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(out, "Usage: go run ./bench %s [FLAG]…\n\n%s\n\n", r.name, r.about)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return err
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	return r.command.check(r)
}

func (r *run) checkLoad() (err error) {
	if r.name == "bare" && r.Rounds < 1 {
		return fmt.Errorf("-rounds %d: one is the least", r.Rounds)
	}
	if r.name == "canary" && r.connections < int64(r.Clients) {
		return fmt.Errorf("-connections %d: each of the %d clients makes one at least", r.connections, r.Clients)
	}
	if r.broken != "" {
		r.Broken = strings.Split(r.broken, ",")
	}
	if r.modes == names(load.Modes) && r.Worker == "cstyle" {
		r.modes = names(slices.DeleteFunc(slices.Clone(load.Modes), func(m load.Mode) bool { return m.Socket == load.Unix }))
	}
	if r.modes != "" {
		if r.Modes, err = gauntlet.Parse(r.modes); err != nil {
			return err
		}
	}
	if r.chart != "" {
		r.Trace = time.Minute
	}
	return r.Options.Check()
}

// withKit has a command run with what it reloads. It says whether all promises were
// kept.
func withKit(command func(*run, context.Context, *gauntlet.Kit) (bool, error)) func(*run, context.Context) (bool, error) {
	return func(r *run, ctx context.Context) (kept bool, err error) {
		r.Say("building supervisord, superctl and the worker")
		kit, err := gauntlet.Build(ctx)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, kit.Remove()) }()
		return command(r, ctx, kit)
	}
}

// clientsFlag is of all that have clients.
func (r *run) clientsFlag(flags *flag.FlagSet) {
	flags.IntVar(&r.Clients, "clients", 8, "of each mode")
}

func (r *run) reloadsFlags(flags *flag.FlagSet) {
	flags.IntVar(&r.Reloads, "reloads", 200, "how many")
	flags.Float64Var(&r.Bad, "bad", 0.5, "`share` of them that is of a broken build")
	flags.StringVar(&r.Worker, "worker", "library", "the good build: library (pkg/worker), plain (its own lame duck), stock (calls Shutdown at once), or cstyle (shuts its sockets down; has no unix socket by default, since that is shared)")
	flags.BoolVar(&r.Steer, "steer", false, "let supervisord choose who gets a new connection")
	flags.BoolVar(&r.Handover, "handover", false, "let idle connections go from one process to the next")
	flags.BoolVar(&r.Stall, "stall", false, "let the process that serves stop accepting before each reload, which is to cure it")
	flags.IntVar(&r.Crowd, "crowd", 0, "`clients` that come then, and wait; -stall only, before each reload of a good build")
	flags.DurationVar(&r.Pace, "pace", 0, "`time` that a process takes to accept a connection, so that some wait at all times")
	flags.DurationVar(&r.Late, "late", 0, "`time` from SIGTERM until a process notices it; not of the worker library")
	flags.IntVar(&r.Canary, "canary", 0, "share of new connections, in `per cent`, for a process that bakes; -steer only")
	flags.DurationVar(&r.Settle, "settle", 0, "how long an old process has before it is told to leave; 0: 1s for the worker stock, 50ms for others")
	flags.DurationVar(&r.Timeout, "timeout", 0, "`time` in which a request must have its answer; 0: 30s")
	flags.StringVar(&r.broken, "broken", "", "the broken `builds`, by turns, instead of "+strings.Join(gauntlet.Broken, ",")+"; with -steer, dies-accepting besides; with -canary, dies-with-queue")
	flags.StringVar(&r.modes, "modes", names(load.Modes), "what clients do")
	r.loadFlags(flags)
	flags.IntVar(&r.Rounds, "throughput", 20, "`rounds` of the comparison with bare workers; 0: none")
	flags.StringVar(&r.chart, "svg", "", "`file` to draw the latency of the first minute to")
}

// loadFlags are of what reloads under load.
func (r *run) loadFlags(flags *flag.FlagSet) {
	r.clientsFlag(flags)
	flags.Float64Var(&r.Rate, "rate", 0, "`requests` of each mode that are due a second; 0: each follows the answer to the last")
	flags.DurationVar(&r.Pause, "pause", r.Pause, "of a client between two requests")
	flags.DurationVar(&r.Bake, "bake", r.Bake, "for how long a new process must stay ready")
	flags.DurationVar(&r.Drain, "drain", r.Drain, "after a reload, for which latencies count as its own")
	flags.DurationVar(&r.Gap, "gap", r.Gap, "from there to the next reload")
	flags.IntVar(&r.Body, "body", r.Body, "`bytes` of a POST, where the mode does not say")
}

// reloads prints what was found also when it could not go on.
func (r *run) reloads(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	report, err := kit.Run(ctx, r.Options)
	made := "go run ./bench reloads"
	if r.Rate > 0 {
		made += " -rate"
	}
	err = r.write(err, made, report, report.Print)
	if report.Whole {
		err = errors.Join(err, writeTo(r.chart, report.WriteChart))
	}
	return len(report.Problems) == 0, err
}

func (r *run) steerFlags(flags *flag.FlagSet) {
	flags.IntVar(&r.steering.Reloads, "reloads", 200, "of each row")
	flags.IntVar(&r.steering.Turn, "turn", 10, "`reloads` of a row before the next row has its turn")
	flags.StringVar(&r.rows, "rows", strings.Join(gauntlet.RowNames(), ","), "what is done to the worker")
	flags.StringVar(&r.workers, "workers", strings.Join(gauntlet.Workers, ","), "good builds")
	flags.DurationVar(&r.steering.Limit, "limit", 0, "`time` after which no turn begins; 0: none. All rows with 200 reloads take hours")
}

func (r *run) checkSteer() error {
	r.steering.Rows, r.steering.Workers = strings.Split(r.rows, ","), strings.Split(r.workers, ",")
	r.steering.Say = r.Say
	return r.steering.Check()
}

// steer prints what was found also when it could not go on.
func (r *run) steer(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	rows, err := kit.Steered(ctx, r.steering)
	made := "go run ./bench steer"
	if len(r.steering.Workers) == 1 {
		made += " -workers " + r.workers
	}
	return gauntlet.Kept(rows), r.write(err, made, rows, func(w io.Writer) { gauntlet.PrintRows(w, rows) })
}

func (r *run) compareFlags(flags *flag.FlagSet) {
	flags.IntVar(&r.Reloads, "reloads", 20, "how many, each way")
	r.loadFlags(flags)
}

func (r *run) compare(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	ways, err := kit.Compare(ctx, r.Options)
	return true, r.write(err, "go run ./bench compare", ways, func(w io.Writer) { gauntlet.PrintWays(w, ways) })
}

func (r *run) canaryFlags(flags *flag.FlagSet) {
	r.clientsFlag(flags)
	flags.Int64Var(&r.connections, "connections", 20_000, "for each of 1, 5 and 50 per cent")
}

func (r *run) canary(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	all, err := kit.Canaries(ctx, r.Options, []int{1, 5, 50}, r.connections)
	kept = !slices.ContainsFunc(all, func(c gauntlet.Canary) bool { return !c.Kept })
	return kept, r.write(err, "go run ./bench canary", all, func(w io.Writer) { gauntlet.PrintCanaries(w, all) })
}

func (r *run) bareFlags(flags *flag.FlagSet) {
	r.clientsFlag(flags)
	flags.IntVar(&r.Rounds, "rounds", 20, "of each way, in each of which all are asked for 200 ms")
}

func (r *run) bare(ctx context.Context, kit *gauntlet.Kit) (kept bool, err error) {
	all, err := kit.Throughputs(ctx, r.Options)
	return true, r.write(err, "go run ./bench bare", all, func(w io.Writer) { gauntlet.PrintThroughputs(w, all) })
}

func (r *run) startsFlags(flags *flag.FlagSet) {
	flags.IntVar(&r.start.Starts, "n", 2000, "starts of each row")
	flags.IntVar(&r.start.Turn, "turn", 50, "`starts` of a row before the next row has its turn")
	flags.StringVar(&r.sizes, "sizes", "15,100,300", "of the process that starts others, in `megabytes`; all take memory at a time, four of each")
	flags.StringVar(&r.atOnce, "at-once", "1,8", "`starts` that are under way at a time")
	flags.StringVar(&r.start.Program, "program", "", "ELF `file` to start, which must end by itself; otherwise one that only exits")
	flags.BoolVar(&r.judge, "check", true, "exit with status 1 if the template costs more than it may")
}

func (r *run) checkStarts() (err error) {
	if r.start.Sizes, err = numbers("-sizes", r.sizes); err != nil {
		return err
	}
	if r.start.AtOnce, err = numbers("-at-once", r.atOnce); err != nil {
		return err
	}
	r.start.Say = r.Say
	return r.start.Check()
}

func numbers(flag, list string) (all []int, err error) {
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %q is no number", flag, list, word)
		}
		all = append(all, n)
	}
	return all, nil
}

// starts prints what was found also when it could not go on.
func (r *run) starts(ctx context.Context) (kept bool, err error) {
	r.Say("building the process that starts others")
	kit, err := starts.Build(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, kit.Remove()) }()
	report, err := kit.Run(ctx, r.start)
	err = r.write(err, "go run ./bench starts", report, report.Print)
	return !r.judge || report.Kept(), err
}

func names(modes []load.Mode) string {
	var s []string
	for _, m := range modes {
		s = append(s, m.Name)
	}
	return strings.Join(s, ",")
}

// write writes what came of it for people, and as JSON if that is asked for. What ended
// with an error does not get into a page. It returns that error and its own.
func (r *run) write(err error, made string, figures any, print func(io.Writer)) error {
	var text strings.Builder
	print(io.MultiWriter(os.Stdout, &text))
	if r.page != "" && err == nil {
		err = page.Insert(r.page, made, text.String())
	}
	return errors.Join(err, writeTo(r.json, func(w io.Writer) error {
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
