// Supervisord starts services, owns their listening sockets, and replaces a
// running service by a new build of it without losing a connection.
//
// main only wires: flags, configuration, sockets, Manager, control socket. What
// is decided is decided in pkg/supervisor.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/term"

	"github.com/supervisord-go/supervisord/pkg/supervisor"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
)

// Exit statuses.
const (
	exitOK      = 0 // an orderly stop
	exitFailure = 1 // it could not start
	exitUsage   = 2
)

// The first thread is main's alone. A signal to a process goes to its first thread, if that
// does not block it (complete_signal in the kernel's signal.c); and if that thread waits for
// a disk that does not answer, it is heard by nobody.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == demoServiceArg {
		os.Exit(demoService())
	}
	os.Exit(run(os.Args[1:]))
}

// flags are the command line.
type flags struct {
	config  string
	check   bool
	demo    bool
	version bool
}

func run(args []string) int {
	f, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
		return exitOK
	case err != nil:
		fmt.Fprintf(os.Stderr, "supervisord: %v\n", err)
		fmt.Fprintln(os.Stderr, "hint: supervisord --help")
		return exitUsage
	case f.version:
		fmt.Println("supervisord", version())
		return exitOK
	case f.check:
		return check(f.config)
	}
	if err := serve(f); err != nil {
		complain(os.Stderr, err)
		return exitFailure
	}
	return exitOK
}

func parse(args []string) (f flags, err error) {
	set := flag.NewFlagSet("supervisord", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.config, "c", "", "")
	set.StringVar(&f.config, "config", "", "")
	set.BoolVar(&f.check, "check", false, "")
	set.BoolVar(&f.demo, "demo", false, "")
	set.BoolVar(&f.version, "version", false, "")
	if err := set.Parse(args); err != nil {
		return f, misuse(err, args)
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("unexpected argument %q: name the configuration with -c", set.Arg(0))
	}
	set.Visit(func(x *flag.Flag) {
		if x.Value.String() == "" {
			err = fmt.Errorf("%s is empty: name a file, or leave it out", typed(x.Name, args))
		}
	})
	if err != nil {
		return f, err
	}
	if f.demo && f.config != "" {
		return f, errors.New("--demo brings its own configuration: leave -c out")
	}
	return f, nil
}

// misuse says in our words what package flag says in Go's.
func misuse(err error, args []string) error {
	text := err.Error()
	for _, c := range []struct{ theirs, ours string }{
		{"flag provided but not defined: -", "unknown flag %s: use -c FILE, --check, --demo or --version"},
		{"flag needs an argument: -", "%[1]s needs a value: %[1]s FILE"},
		{"bad flag syntax: ", "unknown flag %s"},
	} {
		if name, ok := strings.CutPrefix(text, c.theirs); ok {
			return fmt.Errorf(c.ours, typed(name, args))
		}
	}
	if strings.HasPrefix(text, "invalid boolean value") {
		return errors.New("--check, --demo and --version take no value")
	}
	return err
}

// typed is the flag of that name as the user has typed it, with one dash or two.
func typed(name string, args []string) string {
	for _, a := range args {
		if a, _, _ = strings.Cut(a, "="); a == "-"+name || a == "--"+name {
			return a
		}
	}
	return fmt.Sprintf("%q", name)
}

// version is what the binary was built from.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

// check is --check: the same code as a start, and as superctl verify.
func check(path string) int {
	o := options()
	o.Check = true
	_, problems := config.Load(path, o)
	failed := report(os.Stderr, problems)
	if failed {
		return exitFailure
	}
	return exitOK
}

func load(path string) (*config.Config, []config.Problem) {
	return config.Load(path, options())
}

// options say for whom the configuration is read.
func options() config.Options {
	return config.Options{
		Root: os.Geteuid() == 0, PID1: os.Getpid() == 1, Environ: os.Environ(), Terminal: term.IsTerminal(int(os.Stdout.Fd())),
		Unsteerable: supervisor.Unsteerable(),
	}
}

// report prints problems and says whether one of them is more than a warning. Those of
// a file as a whole say who speaks: there is no line that an editor could go to.
func report(w io.Writer, problems []config.Problem) (failed bool) {
	for _, p := range problems {
		who := ""
		if p.Line == 0 {
			who = "supervisord: "
		}
		fmt.Fprintf(w, "%s%s\n", who, p)
		failed = failed || !p.Warning
	}
	return failed
}

// complain prints an error with what to do about it, if it knows that.
func complain(w io.Writer, err error) {
	var shown *reported
	if errors.As(err, &shown) {
		return
	}
	fmt.Fprintf(w, "supervisord: %v\n", err)
	if hint := process.HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// reported is an error that the user has been told already.
type reported struct{}

func (*reported) Error() string { return "it was said" }
