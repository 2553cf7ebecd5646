package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/gauntlet"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

var kit *gauntlet.Kit

func TestMain(m *testing.M) {
	var err error
	if kit, err = gauntlet.Build(context.Background()); err != nil {
		log.Fatal(err)
	}
	status := m.Run()
	if err := kit.Remove(); err != nil {
		log.Fatal(err)
	}
	os.Exit(status)
}

// run is a gauntlet that must keep its promises.
func run(t *testing.T, o gauntlet.Options) *gauntlet.Report {
	t.Helper()
	report, err := kit.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
	report.Print(t.Output())
	return report
}

// TestReloadsUnderLoadLoseNothing is the main promise, in little: most builds are
// broken, each in another way, and nobody notices.
func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	run(t, gauntlet.Options{
		Worker: "library", Steer: true, Handover: true,
		Reloads: 12, Bad: 0.6, Broken: slices.Concat([]string{"exits-at-start", "exits-in-bake", "dies-accepting"}, rig.Files),
		Clients: 4, Pause: 20 * time.Millisecond, Rounds: 1,
	})
}

// TestBuildsThatDieInBakeLoseWhatTheyAccepted is the most that a shared socket
// allows, and no request more.
func TestBuildsThatDieInBakeLoseWhatTheyAccepted(t *testing.T) {
	run(t, gauntlet.Options{
		Reloads: 4, Bad: 0.5, Broken: []string{"dies-accepting"}, Modes: load.Modes[:3],
		Clients: 4, Pause: 20 * time.Millisecond,
	})
}

// The comparison with bare workers replaces the worker between its blocks, also when
// the last build that was deployed is a broken one.
func TestComparisonAfterABrokenBuild(t *testing.T) {
	r := run(t, gauntlet.Options{Reloads: 2, Bad: 0.5, Broken: []string{"exits-at-start"}, Modes: load.Modes[:1], Clients: 1, Rounds: 11})
	if r.Throughput == nil || r.Throughput.Rounds != 11 {
		t.Errorf("compared: %+v", r.Throughput)
	}
}

// A gauntlet that could not be run to its end says what it found until then, and
// leaves nothing behind.
func TestReportOfHalfAGauntlet(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	said := 0
	report, err := kit.Run(ctx, gauntlet.Options{
		Reloads: 1000, Modes: load.Modes[:2], Clients: 2, Worker: "library",
		Say: func(string, ...any) {
			if said++; said == 1 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || report.Reloads != 10 || len(report.Problems) > 0 {
		t.Errorf("%v; %d reloads, problems %q", err, report.Reloads, report.Problems)
	}
	var text strings.Builder
	report.Print(&text)
	if !strings.Contains(text.String(), "keepalive-get") || !strings.Contains(text.String(), "0 requests were lost") {
		t.Errorf("it says:\n%s", &text)
	}
	if report.Modes[0].OK == 0 || report.Processes != 11 {
		t.Errorf("%d requests, %d processes", report.Modes[0].OK, report.Processes)
	}
}

func TestCanaryGetsItsShare(t *testing.T) {
	all, err := kit.Canaries(t.Context(), gauntlet.Options{Clients: 4}, []int{20}, 2000)
	if err != nil {
		t.Fatal(err)
	}
	if c := all[0]; !c.Kept || c.Connections != 2000 {
		t.Errorf("of %d connections, %d lost, it got %d; %d were asked for", c.Connections, c.Failed, c.Got, c.Asked)
	}
}

func TestCommandLine(t *testing.T) {
	o, err := parse([]string{"-reloads", "7", "-bad", "0.25", "-modes", "new,unix-keepalive-post", "-json", "f"})
	if err != nil || o.Reloads != 7 || o.Bad != 0.25 || len(o.Modes) != 2 || o.Modes[1].Socket != load.Unix || o.json != "f" {
		t.Errorf("got %+v, %v", o, err)
	}
	if b := o.Fill().Broken; !slices.Equal(b, gauntlet.Broken) {
		t.Errorf("broken builds %q by default", b)
	}
	if o, _ := parse([]string{"-steer"}); !slices.Contains(o.Fill().Broken, "dies-accepting") {
		t.Error("with -steer, no build accepts and dies")
	}
	stderr := os.Stderr
	os.Stderr = nil // package flag says what is wrong there as well
	defer func() { os.Stderr = stderr }()
	for _, args := range [][]string{{"-bad", "2"}, {"-modes", "carrier-pigeon"}, {"now"}, {"-worker", "deaf"}, {"-reloads", "many"}, {"-bare", "-throughput", "0"}} {
		if _, err := parse(args); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
