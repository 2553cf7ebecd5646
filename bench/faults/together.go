package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

const crowdSize = 1000

// endTogether has a thousand processes wait for one lock and lets go of it, again
// and again. Each end is seen once, so that each service has one new process in
// each round, and no zombie is left.
func endTogether(ctx context.Context, b *bed) (figures string, err error) {
	var lock *os.File
	configure := func(dir string) (string, error) {
		lock, err = nextRound(dir, 0)
		return crowdOf(crowdSize, b.crowd, dir), err
	}
	err = b.with(ctx, configure, func(e *engine) error {
		if _, err := e.tally.Next(ctx, crowdSize, 2*rig.Patience); err != nil {
			return err
		}
		took := make([]time.Duration, 0, b.rounds)
		for n := range b.rounds {
			next, err := nextRound(e.dir, n+1)
			if err != nil {
				return err
			}
			start := time.Now()
			lock.Close()
			lock = next
			if _, err := e.tally.Next(ctx, crowdSize, 2*rig.Patience); err != nil {
				return fmt.Errorf("round %d: %w", n+1, err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		figures = fmt.Sprintf("%d times %d; until all run again p50 %v, max %v", b.rounds, crowdSize,
			took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
		return seenOnce(ctx, e, b.rounds)
	})
	if lock != nil {
		lock.Close()
	}
	return figures, err
}

func crowdOf(n int, crowd, dir string) string {
	var c strings.Builder
	for i := range n {
		fmt.Fprintf(&c, "[service.s%04d]\nexec_start = [%q, \"together\", %q]\ntype = \"notify\"\n", i, crowd, dir)
		c.WriteString("restart = \"always\"\nrestart_sec = \"10ms\"\nrestart_max_delay_sec = \"10ms\"\n\n")
	}
	return c.String()
}

// nextRound locks the lock of a round and then says that this is the round.
func nextRound(dir string, n int) (*os.File, error) {
	lock, err := os.Create(filepath.Join(dir, "lock"+strconv.Itoa(n)))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return lock, err
	}
	next := filepath.Join(dir, "round.next")
	if err := os.WriteFile(next, []byte(strconv.Itoa(n)), 0o644); err != nil {
		return lock, err
	}
	return lock, os.Rename(next, filepath.Join(dir, "round"))
}

// seenOnce compares what supervisord counted with what was done.
func seenOnce(ctx context.Context, e *engine, rounds int) error {
	units, err := e.Units(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for _, u := range units {
		if u.Restarts != rounds {
			wrong = append(wrong, fmt.Errorf("%s was restarted %d times in %d rounds", u.Name, u.Restarts, rounds))
		}
	}
	if len(units) != crowdSize {
		wrong = append(wrong, fmt.Errorf("status has %d units", len(units)))
	}
	if n := rig.Zombies(e.PID()); n > 0 {
		wrong = append(wrong, fmt.Errorf("%d zombies", n))
	}
	return errors.Join(wrong[:min(len(wrong), 10)]...)
}
