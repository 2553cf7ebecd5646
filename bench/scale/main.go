// Scale starts a thousand services and says what that takes: the time until all
// are ready, and the threads, memory, descriptors, wake-ups and answers of
// supervisord then.
//
//	go run ./bench/scale [-services 1000] [-shared|-steer] [-idle 10s] [-json FILE]
//
// The services have no socket, or a TCP socket each: shared, or steered.
//
// It exits with status 1 if supervisord has 30 threads or more.
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

// mostThreads is how many threads supervisord may have, whatever it runs.
const mostThreads = 30

func main() {
	log.SetFlags(0)
	log.SetPrefix("scale: ")
	services := flag.Int("services", 1000, "how many")
	steer := flag.Bool("steer", false, "give each service a steered TCP socket")
	shared := flag.Bool("shared", false, "give each service a shared TCP socket")
	idle := flag.Duration("idle", 10*time.Second, "for how long wake-ups are counted")
	file := flag.String("json", "", "`file` to write the figures to")
	into := flag.String("w", "", "page, a `file`, in whose block the figures are to stand")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kind, err := kindOf(*shared, *steer)
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	figures, err := measure(ctx, *services, kind, *idle)
	if err != nil {
		log.Fatal(err)
	}
	var text strings.Builder
	figures.print(io.MultiWriter(os.Stdout, &text))
	if err := figures.write(*file); err != nil {
		log.Fatal(err)
	}
	if *into != "" {
		if err := page.Insert(*into, "go run ./bench/scale"+kind.flag(), text.String()); err != nil {
			log.Fatal(err)
		}
	}
	if figures.Threads >= mostThreads {
		log.Fatalf("supervisord has %d threads, and may have fewer than %d", figures.Threads, mostThreads)
	}
}

// A kind is what sockets the services have.
type kind string

const (
	none    kind = "none"
	shared  kind = "shared"
	steered kind = "steered"
)

func kindOf(isShared, isSteered bool) (kind, error) {
	switch {
	case isShared && isSteered:
		return "", errors.New("a socket is -shared or it is -steer, not both")
	case isShared:
		return shared, nil
	case isSteered:
		return steered, nil
	}
	return none, nil
}

// flag is what asks for the kind, as it stands on a command line.
func (k kind) flag() string { return map[kind]string{shared: " -shared", steered: " -steer"}[k] }

// Figures are what is measured. Times are in seconds and milliseconds.
type Figures struct {
	Services int     `json:"services"`
	Sockets  kind    `json:"sockets"`
	Start    float64 `json:"start_to_ready_s"`
	rig.Usage
	BPF       int64   `json:"bpf_kib"`     // memory of the kernel's for BPF maps and programs that supervisord has
	StartCPU  float64 `json:"start_cpu_s"` // of supervisord alone
	Idle      float64 `json:"idle_s"`
	Wakeups   int64   `json:"idle_wakeups"`
	IdleCPU   float64 `json:"idle_cpu_s"`
	StatusP50 float64 `json:"status_p50_ms"` // of superctl status, its own start included
	StatusMax float64 `json:"status_max_ms"`
	Stop      float64 `json:"stop_s"`
}

func measure(ctx context.Context, services int, sockets kind, idle time.Duration) (f Figures, err error) {
	dir, err := rig.TempDir()
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	log.Print("building")
	binaries, err := rig.Build(ctx, filepath.Join(dir, "bin"))
	if err != nil {
		return f, err
	}
	if err := rig.BuildPackages(ctx, filepath.Join(dir, "bin"), rig.Module+"/bench/crowd"); err != nil {
		return f, err
	}
	names, configuration := configure(services, sockets, filepath.Join(dir, "bin", "crowd"))
	f.Services, f.Sockets, f.Idle = services, sockets, idle.Seconds()

	log.Printf("starting %d services", services)
	start := time.Now()
	s, err := rig.Start(ctx, binaries, dir, configuration)
	if err != nil {
		return f, err
	}
	err = f.running(ctx, s, names, start, idle)
	log.Print("stopping")
	stop := time.Now()
	err = errors.Join(err, s.Stop())
	f.Stop = time.Since(stop).Seconds()
	return f, err
}

func configure(services int, sockets kind, crowd string) (names []string, configuration string) {
	var b strings.Builder
	for i := range services {
		name := fmt.Sprintf("s%04d", i)
		names = append(names, name)
		fmt.Fprintf(&b, "[service.%s]\nexec_start = [%q, \"idle\", \"-\"]\ntype = \"notify\"\n", name, crowd)
		b.WriteString(socket(name, sockets) + "\n")
	}
	return names, b.String()
}

// socket is the service's key for its socket, and the section of that.
func socket(name string, sockets kind) string {
	if sockets == none {
		return ""
	}
	s := fmt.Sprintf("sockets = [%q]\n\n[socket.%s]\nlisten_stream = [\"127.0.0.1:0\"]\n", name, name)
	return s + fmt.Sprintf("steer = %q\n", map[kind]string{shared: "off", steered: "connections"}[sockets])
}

// running measures from the moment when all are ready.
func (f *Figures) running(ctx context.Context, s *rig.Supervisor, names []string, start time.Time, idle time.Duration) error {
	// Start of what is up is done at once, so this waits for those that are not.
	if _, err := s.Must(ctx, append([]string{"start"}, names...)...); err != nil {
		return err
	}
	f.Start = time.Since(start).Seconds()
	if err := f.status(ctx, s); err != nil {
		return err
	}
	if err := pause(ctx, bake); err != nil { // what has just started is not idle
		return err
	}
	before, err := rig.Use(s.PID())
	if err != nil {
		return err
	}
	f.Usage, f.StartCPU = before, before.CPU.Seconds()
	if f.BPF, err = rig.BPF(s.PID()); err != nil {
		return err
	}
	log.Printf("idle for %v", idle)
	if err := pause(ctx, idle); err != nil {
		return err
	}
	after, err := rig.Use(s.PID())
	f.Wakeups, f.IdleCPU = after.Wakeups-before.Wakeups, (after.CPU - before.CPU).Seconds()
	return err
}

// bake is for how long a service is watched after its start, and some more.
const bake = 3 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (f *Figures) status(ctx context.Context, s *rig.Supervisor) error {
	var took []time.Duration
	for range 20 {
		a, err := s.Must(ctx, "status")
		if err != nil {
			return err
		}
		took = append(took, a.Took)
	}
	slices.Sort(took)
	f.StatusP50 = took[len(took)/2].Seconds() * 1000
	f.StatusMax = took[len(took)-1].Seconds() * 1000
	return nil
}

func (f Figures) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{what}, args...)...)
	}
	line("services", "%d%s", f.Services, f.with())
	line("start to all ready", "%.2f s", f.Start)
	line("supervisord's CPU time for that", "%.2f s", f.StartCPU)
	line("supervisord's threads", "%d", f.Threads)
	line("resident memory", "%.1f MiB", float64(f.RSS)/1024)
	if f.BPF > 0 {
		line("BPF maps and programs", "%.1f MiB of the kernel's memory (%.1f KiB a service)", float64(f.BPF)/1024, float64(f.BPF)/float64(f.Services))
	}
	line("descriptors", "%d (%.1f a service)", f.Files, float64(f.Files)/float64(f.Services))
	line("wake-ups when idle", "%d in %.0f s, %.2f s of CPU time", f.Wakeups, f.Idle, f.IdleCPU)
	line("superctl status", "p50 %.0f ms, max %.0f ms", f.StatusP50, f.StatusMax)
	line("stop of all", "%.2f s", f.Stop)
	t.Flush()
}

// with is what sockets they have.
func (f Figures) with() string {
	if f.Sockets == none {
		return ""
	}
	return fmt.Sprintf(", each with a %s TCP socket", f.Sockets)
}

func (f Figures) write(file string) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
