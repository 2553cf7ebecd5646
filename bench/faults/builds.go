package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/bench/gauntlet"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// brokenBuilds reloads to every broken build that accepts nothing, under load:
// each is refused, and nothing is lost.
func brokenBuilds(ctx context.Context, _ *bed) (_ string, err error) {
	kit, err := gauntlet.Build(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, kit.Remove()) }()
	broken := slices.Concat(gauntlet.Broken, rig.Files)
	r, err := kit.Run(ctx, gauntlet.Options{
		Worker: "library", Reloads: len(broken), Bad: 1, Broken: broken, Clients: 8, Pause: 5 * time.Millisecond,
	})
	if err != nil {
		return "", err
	}
	var asked int64
	for _, m := range r.Modes {
		asked += m.Attempts
	}
	for _, p := range r.Problems {
		err = errors.Join(err, errors.New(p))
	}
	return fmt.Sprintf("%d reloads refused, p50 %v, max %v; %d of %d requests lost",
		r.Bad, r.BadTook.Quantile(0.5).Round(time.Millisecond), r.BadTook.Max().Round(time.Millisecond), r.Failed(), asked), err
}
