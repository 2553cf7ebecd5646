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
	loops = 50
	watch = 10 * time.Second
	burst = 5 // start_limit_burst: automatic restarts, after the first start
)

// crashLoops has fifty services that crash as soon as they run, first without a
// limit and then with one.
func crashLoops(ctx context.Context, b *bed) (string, error) {
	free, err := endlessLoops(ctx, b)
	bound, berr := boundLoops(ctx, b)
	return free + "; " + bound, errors.Join(err, berr)
}

// endlessLoops looks at what they cost, and whether they go on in step.
func endlessLoops(ctx context.Context, b *bed) (figures string, err error) {
	err = b.with(ctx, loopsWith(b.crowd, ""), func(e *engine) error {
		before, err := rig.Use(e.PID())
		if err != nil {
			return err
		}
		starts, err := e.tally.Within(ctx, 1<<20, watch)
		if err != nil {
			return err
		}
		after, err := rig.Use(e.PID())
		if err != nil {
			return err
		}
		share := (after.CPU - before.CPU).Seconds() / watch.Seconds()
		last := starts[len(starts)/2:]
		figures = fmt.Sprintf("%d starts in %v for %.1f %% of a core, at most %d in 10 ms later on",
			len(starts), watch, 100*share, busiest(last, 10*time.Millisecond))
		if share > 0.05 {
			return fmt.Errorf("%d crash loops take %.1f %% of a core", loops, 100*share)
		}
		return nil
	})
	return figures, err
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
