package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

const (
	absence = 10 * time.Second
	// A service waits at most this long between two tries, and a quarter more by
	// its jitter; what is above that is for the machine.
	cap14  = time.Second
	bar14  = 2 * cap14
	busy14 = 3 * time.Second
)

// missingProgram starts a service whose program is not there, or is being
// written, and one whose program is removed when it has baked.
func missingProgram(ctx context.Context, b *bed) (string, error) {
	missing, err := returns(ctx, b, absence, func(path string) (undo func() error) {
		os.Rename(path, path+".away")
		return func() error { return os.Rename(path+".away", path) }
	})
	busy, berr := returns(ctx, b, busy14, func(path string) (undo func() error) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return func() error { return err }
		}
		return f.Close
	})
	removed, rerr := pinned(ctx, b)
	figures := fmt.Sprintf("missing for %v: runs %v after it is back; busy for %v: %v after; removed and killed: runs again after %v",
		absence, missing.Round(time.Millisecond), busy14, busy.Round(time.Millisecond), removed.Round(time.Millisecond))
	return figures, errors.Join(err, berr, rerr)
}

// returns starts a service whose program is spoilt, mends it after a time, and
// measures how long it then takes to run.
func returns(ctx context.Context, b *bed, after time.Duration, spoil func(path string) func() error) (took time.Duration, err error) {
	var mend func() error
	configure := func(dir string) (string, error) {
		configuration, err := one(b, dir)
		mend = spoil(filepath.Join(dir, "program"))
		return configuration, err
	}
	err = b.with(ctx, configure, func(e *engine) error {
		early, err := e.tally.Within(ctx, 1, after)
		if err != nil || len(early) > 0 {
			return errors.Join(err, mend(), fmt.Errorf("it ran without its program: %v", early))
		}
		if err := mend(); err != nil {
			return err
		}
		start := time.Now()
		if _, err := e.tally.Next(ctx, 1, rig.Patience); err != nil {
			return err
		}
		if took = time.Since(start); took > bar14 {
			return fmt.Errorf("it took %v to run again, with at most %v between two tries", took, cap14)
		}
		return nil
	})
	return took, err
}

// pinned removes the program of a service that has baked, and kills it.
func pinned(ctx context.Context, b *bed) (took time.Duration, err error) {
	err = b.with(ctx, func(dir string) (string, error) { return one(b, dir) }, func(e *engine) error {
		if _, err := e.tally.Next(ctx, 1, rig.Patience); err != nil {
			return err
		}
		if _, err := e.Must(ctx, "reload", "one"); err != nil { // one that has baked, for sure
			return err
		}
		marks, err := e.tally.Next(ctx, 1, rig.Patience)
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(e.dir, "program")); err != nil {
			return err
		}
		start := time.Now()
		if err := syscall.Kill(marks[0].PID, syscall.SIGKILL); err != nil {
			return err
		}
		if _, err := e.tally.Next(ctx, 1, rig.Patience); err != nil {
			return err
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

// one is a configuration with a service that has a program of its own.
func one(b *bed, dir string) (string, error) {
	program, err := os.ReadFile(b.crowd)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "program")
	configuration := fmt.Sprintf("[service.one]\nexec_start = [%q, \"idle\", %q]\ntype = \"notify\"\nrestart_max_delay_sec = %q\n"+
		"[service.one.reload]\nmode = \"overlap\"\nbake = \"100ms\"\n", path, dir+"/tally", cap14)
	return configuration, os.WriteFile(path, program, 0o755)
}
