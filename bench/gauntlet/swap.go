package gauntlet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A swapper runs bench/swap and gives it one plugin after the other.
type swapper struct {
	Options
	dir, host string
	plugins   []string // one a reload, one to begin with, and the broken one
	address   string
	process   *process
	phase     load.Phase
	report    *Report
}

func (s *swapper) run(ctx context.Context) (grown int64, err error) {
	a, err := addresses(s.dir)
	if err != nil {
		return 0, err
	}
	s.address = a[load.Plain]
	if err := s.start(ctx, s.plugins[0]); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.process.stop()) }()
	asking, enough := context.WithCancel(ctx)
	defer enough()
	s.report.Modes = make([]*load.Result, len(s.Modes))
	var clients sync.WaitGroup
	for i, m := range s.Modes {
		clients.Go(func() {
			s.report.Modes[i] = load.Run(asking, load.Options{
				Mode: m, Network: "tcp", Address: s.address, Clients: s.Clients, Pause: s.Pause, Rate: s.Rate,
				Body: s.Body, Timeout: requestTimeout, Phase: &s.phase,
			})
		})
	}
	grown, err = s.swaps(ctx)
	enough()
	clients.Wait()
	return grown, err
}

// swaps returns by how many KiB a swap lets the process grow.
func (s *swapper) swaps(ctx context.Context) (grown int64, err error) {
	var g growth
	for n := range s.Reloads {
		if err := wait(ctx, s.Gap); err != nil {
			return 0, err
		}
		plugin := s.plugins[n+1]
		_, bad := s.broken(n)
		if bad {
			plugin = s.plugins[len(s.plugins)-1]
		}
		if err := s.swap(ctx, plugin, bad); err != nil {
			return 0, err
		}
		use, err := rig.Use(s.process.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		g.add(s.process.cmd.Process.Pid, use.RSS)
	}
	return g.each(), wait(ctx, s.Gap)
}

// A growth is that of processes which follow each other, from one look to the next.
type growth struct {
	pid            int
	last, total, n int64
}

func (g *growth) add(pid int, kib int64) {
	if pid == g.pid {
		g.total += kib - g.last
		g.n++
	}
	g.pid, g.last = pid, kib
}

func (g *growth) each() int64 {
	if g.n == 0 {
		return 0
	}
	return g.total / g.n
}

func (s *swapper) swap(ctx context.Context, plugin string, bad bool) error {
	s.phase.Begin()
	defer s.phase.End()
	start := time.Now()
	if err := s.link(plugin); err != nil {
		return err
	}
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	err := s.process.wait(ctx)
	s.report.reload("plugin", bad, time.Since(start))
	if bad {
		err = s.again(ctx, err)
	}
	if err != nil {
		return err
	}
	return wait(ctx, s.Drain)
}

// again starts the host anew, as its supervisor would after systemd's RestartSec.
func (s *swapper) again(ctx context.Context, died error) error {
	if died == nil {
		return errors.New("a broken plugin was taken for a good one")
	}
	if err := errors.Join(s.process.stop(), wait(ctx, 100*time.Millisecond)); err != nil {
		return err
	}
	return s.start(ctx, s.plugins[0])
}

func (s *swapper) start(ctx context.Context, plugin string) (err error) {
	if err := s.link(plugin); err != nil {
		return err
	}
	s.process, err = launch(ctx, filepath.Join(s.dir, "ready"), s.host, "-listen", s.address, "-plugin", s.current())
	return err
}

func (s *swapper) current() string { return filepath.Join(s.dir, "current") }

func (s *swapper) link(plugin string) error {
	next := filepath.Join(s.dir, "next")
	if err := os.Symlink(plugin, next); err != nil {
		return err
	}
	return os.Rename(next, s.current())
}
