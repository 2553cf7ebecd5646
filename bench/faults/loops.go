package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

const (
	loops  = 50
	watch  = 10 * time.Second
	minute = time.Minute
	burst  = 5 // start_limit_burst: automatic restarts, after the first start
)

// crashLoops has fifty services that crash as soon as they run, first without a
// limit and then with one.
func crashLoops(ctx context.Context, b *bed) (string, error) {
	free, err := endlessLoops(ctx, b)
	bound, berr := boundLoops(ctx, b)
	return free + "; " + bound, errors.Join(err, berr)
}

// endlessLoops looks at what they cost in their first minute, in which they slow
// down, and whether they go on in step.
func endlessLoops(ctx context.Context, b *bed) (figures string, err error) {
	err = b.with(ctx, loopsWith(b.crowd, ""), func(e *engine) error {
		var starts []rig.Mark
		var shares []float64
		var mean float64
		spans := max(1, b.loops/watch)
		for range spans {
			marks, share, err := e.watch(ctx)
			if err != nil {
				return err
			}
			starts, shares = append(starts, marks...), append(shares, share)
			mean += share / float64(spans)
		}
		late := starts[len(starts)/2:]
		figures = fmt.Sprintf("%d starts in the first %v for %.1f %% of a core (%.1f %% in its first %v, %.1f %% in its last), at most %d of the later half in 10 ms",
			len(starts), spans*watch, 100*mean, 100*shares[0], watch, 100*shares[len(shares)-1], busiest(late, 10*time.Millisecond))
		if mean > 0.05 && b.loops >= minute {
			return fmt.Errorf("%d crash loops take %.1f %% of a core", loops, 100*mean)
		}
		return nil
	})
	return figures, err
}

// watch returns the starts in a span of time, and the share of a core that
// supervisord took.
func (e *engine) watch(ctx context.Context) (starts []rig.Mark, share float64, err error) {
	before, err := rig.Use(e.PID())
	if err != nil {
		return nil, 0, err
	}
	if starts, err = e.tally.Within(ctx, 1<<20, watch); err != nil {
		return nil, 0, err
	}
	after, err := rig.Use(e.PID())
	return starts, (after.CPU - before.CPU).Seconds() / watch.Seconds(), err
}

// boundLoops counts the starts until each service gives up.
func boundLoops(ctx context.Context, b *bed) (figures string, err error) {
	limit := fmt.Sprintf("restart_sec = \"10ms\"\nrestart_max_delay_sec = \"50ms\"\nstart_limit_burst = %d\nstart_limit_interval_sec = \"10min\"\n", burst)
	err = b.with(ctx, loopsWith(b.crowd, limit), func(e *engine) error {
		want := loops * (burst + 1)
		if _, err := e.tally.Next(ctx, want, rig.Patience); err != nil {
			return err
		}
		more, err := e.tally.Within(ctx, 1, 2*time.Second)
		if err != nil {
			return err
		}
		figures = fmt.Sprintf("with start_limit_burst %d each ran %d times", burst, burst+1)
		if len(more) > 0 {
			return fmt.Errorf("a service was started again after its limit of %d", burst)
		}
		return nil
	})
	return figures, err
}

func loopsWith(crowd, limit string) func(string) (string, error) {
	return func(dir string) (string, error) {
		var c strings.Builder
		for i := range loops {
			fmt.Fprintf(&c, "[service.loop%02d]\nexec_start = [%q, \"crash\", %q]\n%s\n", i, crowd, dir+"/tally", limit)
		}
		return c.String(), nil
	}
}

// busiest is the greatest number of marks in any span of time.
func busiest(marks []rig.Mark, span time.Duration) (most int) {
	first := 0
	for i, m := range marks {
		for m.At.Sub(marks[first].At) > span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
