package gauntlet

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// least is the shortest bake in which a build that dies while it bakes has died, on a
// machine that is busy with this.
const least = 100 * time.Millisecond

// mostCrowd is what the queue of a socket has room for on most machines.
const mostCrowd = 1000

// most is how many bytes a POST may have, of which the worker answers all.
const most = 1 << 19

// Check says what is wrong with options as somebody gave them, by the names that they
// have on the command line.
func (o Options) Check() error {
	for _, c := range []struct {
		ok    bool
		wrong string
	}{
		{o.Reloads >= 1, fmt.Sprintf("-reloads %d: one is the least", o.Reloads)},
		{o.Bad >= 0 && o.Bad <= 1, fmt.Sprintf("-bad %v is no share: it is from 0 to 1", o.Bad)},
		{slices.Contains(Workers, o.Worker), fmt.Sprintf("no worker is called %q: there are %s", o.Worker, strings.Join(Workers, ", "))},
		{o.Clients >= 1, fmt.Sprintf("-clients %d: one of each mode is the least", o.Clients)},
		{o.Rate >= 0 && !math.IsInf(o.Rate, 0), fmt.Sprintf("-rate %v is no number of requests a second", o.Rate)},
		{o.Pause >= 0, fmt.Sprintf("-pause %v is no time to wait", o.Pause)},
		{o.Drain >= 0, fmt.Sprintf("-drain %v is no time to wait", o.Drain)},
		{o.Gap >= 0, fmt.Sprintf("-gap %v is no time to wait", o.Gap)},
		{o.Bake >= least, fmt.Sprintf("-bake %v: a broken build lives for some of it; %v is the least", o.Bake, least)},
		{o.Body >= 1 && o.Body <= most, fmt.Sprintf("-body %d: it is from 1 to %d bytes", o.Body, most)},
		{o.Canary >= 0 && o.Canary <= 100, fmt.Sprintf("-canary %d is no share: it is from 0 to 100 per cent", o.Canary)},
		{o.Canary == 0 || o.Steer, "-canary: only with -steer can a process get a share"},
		{o.Crowd >= 0 && o.Crowd <= mostCrowd, fmt.Sprintf("-crowd %d: it is from 0 to %d clients", o.Crowd, mostCrowd)},
		{o.Crowd == 0 || o.Stall, "-crowd: only with -stall does anybody wait"},
		{o.Timeout >= 0, fmt.Sprintf("-timeout %v is no time to wait", o.Timeout)},
		{o.Settle >= 0, fmt.Sprintf("-settle %v is no time to wait", o.Settle)},
		{o.Late >= 0, fmt.Sprintf("-late %v is no time to wait", o.Late)},
		{o.Late == 0 || o.Worker != "library", "-late: pkg/worker notices SIGTERM by itself; choose another -worker"},
		{o.Pace >= 0, fmt.Sprintf("-pace %v is no time to wait", o.Pace)},
		{o.Rounds >= 0, fmt.Sprintf("-throughput %d is no number of rounds", o.Rounds)},
	} {
		if !c.ok {
			return errors.New(c.wrong)
		}
	}
	return o.checkBroken()
}

func (o Options) checkBroken() error {
	known := slices.Concat(Broken, []string{diesAccepting, diesWithQueue}, rig.Files)
	for _, build := range o.Broken {
		if !slices.Contains(known, build) {
			return fmt.Errorf("no broken build is called %q: there are %s", build, strings.Join(known, ", "))
		}
	}
	return nil
}
