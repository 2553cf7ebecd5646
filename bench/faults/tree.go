package main

import (
	"context"
	"fmt"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

const (
	treeSize    = 5 // see bench/crowd
	timeoutStop = 2 * time.Second
)

// stubbornTree stops a service whose children ignore SIGTERM, have sessions of
// their own, are orphans, or are stopped. None is left when stop returns.
func stubbornTree(ctx context.Context, b *bed) (figures string, err error) {
	configure := func(dir string) (string, error) {
		return fmt.Sprintf("[service.tree]\nexec_start = [%q, \"tree\", %q]\ntype = \"notify\"\ntimeout_stop_sec = %q\n",
			b.crowd, dir+"/tally", timeoutStop), nil
	}
	err = b.with(ctx, configure, func(e *engine) error {
		tree, err := e.tally.Next(ctx, treeSize, rig.Patience)
		if err != nil {
			return err
		}
		stop, err := e.Must(ctx, "stop", "tree")
		if err != nil {
			return err
		}
		figures = fmt.Sprintf("%d processes gone in %v, timeout_stop_sec %v", treeSize, stop.Took.Round(time.Millisecond), timeoutStop)
		for _, p := range tree {
			if rig.Alive(p.PID) {
				return fmt.Errorf("process %d is still there after the stop", p.PID)
			}
		}
		if stop.Took > timeoutStop+time.Second {
			return fmt.Errorf("the stop took %v", stop.Took)
		}
		return nil
	})
	return figures, err
}
