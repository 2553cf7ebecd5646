package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"path/filepath"
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

// keeps runs a gauntlet that must keep its promises.
func keeps(t *testing.T, o gauntlet.Options) *gauntlet.Report {
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
	keeps(t, gauntlet.Options{
		Worker: "library", Steer: true, Handover: true,
		Reloads: 12, Bad: 0.6, Broken: slices.Concat([]string{"exits-at-start", "exits-in-bake", "dies-accepting"}, rig.Files),
		Clients: 4, Pause: 20 * time.Millisecond, Rounds: 1,
	})
}

// TestBuildsThatDieInBakeLoseWhatTheyAccepted is the most that a shared socket
// allows, and no request more.
func TestBuildsThatDieInBakeLoseWhatTheyAccepted(t *testing.T) {
	keeps(t, gauntlet.Options{
		Reloads: 4, Bad: 0.5, Broken: []string{"dies-accepting"}, Modes: load.Modes[:3],
		Clients: 4, Pause: 20 * time.Millisecond,
	})
}

// The comparison with bare workers replaces the worker between its blocks, also when
// the last build that was deployed is a broken one.
func TestComparisonAfterABrokenBuild(t *testing.T) {
	r := keeps(t, gauntlet.Options{Reloads: 2, Bad: 0.5, Broken: []string{"exits-at-start"}, Modes: load.Modes[:1], Clients: 1, Rounds: 11})
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

// Whoever hangs is cured by a reload: who waited meanwhile is answered by the new
// process.
func TestReloadCuresAWorkerThatHangs(t *testing.T) {
	modes, _ := gauntlet.Parse("new,unix-new,tls-new,keepalive-post")
	keeps(t, gauntlet.Options{Worker: "library", Stall: true, Reloads: 3, Bad: 0.5, Broken: []string{"exits-at-start"}, Modes: modes, Clients: 4, Pause: 10 * time.Millisecond})
}

// A queue that is never empty loses nothing when the process that empties it is another.
func TestReloadWithConnectionsThatWait(t *testing.T) {
	modes, _ := gauntlet.Parse("new,unix-new")
	for _, steer := range []bool{false, true} {
		keeps(t, gauntlet.Options{Worker: "library", Steer: steer, Pace: 5 * time.Millisecond, Reloads: 3, Modes: modes, Clients: 8})
	}
}

// A server that shuts its sockets down when it leaves is one that steering can replace:
// the next process has sockets of its own.
func TestReloadsOfAServerThatShutsItsSocketDown(t *testing.T) {
	modes, _ := gauntlet.Parse("new,keepalive-post,tls-new")
	keeps(t, gauntlet.Options{
		Worker: "cstyle", Steer: true, Reloads: 6, Bad: 0.5, Broken: []string{"dies-with-queue"}, Canary: 50,
		Modes: modes, Clients: 4, Pause: 20 * time.Millisecond,
	})
}

// A crowd that waits for a process that hangs is counted, and when it was served.
func TestACrowdIsServedAfterTheSwitch(t *testing.T) {
	for _, steer := range []bool{false, true} {
		r := keeps(t, gauntlet.Options{
			Worker: "stock", Steer: steer, Stall: true, Crowd: 20, Late: 600 * time.Millisecond, Reloads: 2, Modes: load.Modes[1:2], Clients: 4, Pause: 20 * time.Millisecond,
		})
		if c := r.Crowd; c.Clients != 40 || c.Served.Count() != 40-c.Failed || c.Hanging != 0 || steer && c.Failed != 0 {
			t.Errorf("steered %v: of %d clients %d were served, %d hang", steer, c.Clients, c.Served.Count(), c.Hanging)
		}
	}
}

// Rows have their turns, steered and shared, and the table has them all.
func TestRowsByTurns(t *testing.T) {
	rows, err := kit.Steered(t.Context(), gauntlet.Steering{
		Reloads: 3, Turn: 2, Rows: []string{"steady"}, Workers: []string{"library"}, Say: t.Logf,
	})
	var text strings.Builder
	gauntlet.PrintRows(&text, rows)
	if err != nil || !gauntlet.Kept(rows) || len(rows) != 2 {
		t.Errorf("%v\n%s", err, &text)
	}
	for _, r := range rows {
		if r.Reloads != 3 || r.Connections == 0 || r.Lost > 0 || r.Queue.Looks == 0 {
			t.Errorf("%s: %+v", r, r)
		}
	}
}

// When its time is over, no turn begins.
func TestRowsEndWithTheirTime(t *testing.T) {
	rows, err := kit.Steered(t.Context(), gauntlet.Steering{
		Reloads: 1000, Turn: 1, Rows: []string{"steady"}, Workers: []string{"library"}, Limit: time.Nanosecond, Say: t.Logf,
	})
	if err != nil || rows[0].Reloads != 0 {
		t.Errorf("%v, %d reloads", err, rows[0].Reloads)
	}
}

// Large bodies are no reason to reconnect.
func TestLargeBodiesAreHandedOver(t *testing.T) {
	modes, _ := gauntlet.Parse("large-post,large-chunked")
	keeps(t, gauntlet.Options{Worker: "library", Handover: true, Reloads: 3, Modes: modes, Clients: 4, Pause: 5 * time.Millisecond})
}

func TestCommandLine(t *testing.T) {
	r, err := parse(strings.Fields("reloads -reloads 7 -bad 0.25 -modes new,unix-keepalive-post -json f"), io.Discard)
	if err != nil || r.Reloads != 7 || r.Bad != 0.25 || len(r.Modes) != 2 || r.Modes[1].Socket != load.Unix || r.json != "f" {
		t.Errorf("got %+v, %v", r, err)
	}
	if b := r.Fill().Broken; !slices.Equal(b, gauntlet.Broken) {
		t.Errorf("broken builds %q by default", b)
	}
	r, err = parse(strings.Fields("starts -n 7 -sizes 15,20 -at-once 4 -program p -check=false"), io.Discard)
	if o := r.start; err != nil || o.Starts != 7 || !slices.Equal(o.Sizes, []int{15, 20}) || !slices.Equal(o.AtOnce, []int{4}) || o.Program != "p" || r.judge {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, _ := parse([]string{"reloads", "-steer"}, io.Discard); !slices.Contains(r.Fill().Broken, "dies-accepting") {
		t.Error("with -steer, no build accepts and dies")
	}
	r, err = parse(strings.Fields("steer -reloads 7 -turn 3 -rows flood,hang -workers cstyle -limit 5m"), io.Discard)
	if o := r.steering; err != nil || o.Reloads != 7 || o.Turn != 3 || !slices.Equal(o.Rows, []string{"flood", "hang"}) || !slices.Equal(o.Workers, []string{"cstyle"}) || o.Limit != 5*time.Minute {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, _ := parse(strings.Fields("reloads -steer -canary 20 -worker cstyle"), io.Discard); !slices.Contains(r.Fill().Broken, "dies-with-queue") ||
		slices.ContainsFunc(r.Modes, func(m load.Mode) bool { return m.Socket == load.Unix }) {
		t.Errorf("a server that shuts its sockets down: broken builds %q, modes %v", r.Fill().Broken, r.Modes)
	}
	for name, has := range map[string]string{"reloads": "-clients", "steer": "-limit", "canary": "-clients", "bare": "-clients", "compare": "-clients", "starts": "-at-once"} {
		if _, err := parse([]string{name}, io.Discard); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var help strings.Builder
		if _, err := parse([]string{name, "-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), has) {
			t.Errorf("%s -h: %v, %q", name, err, &help)
		}
	}
}

// What cannot be meant is refused before anything is built.
func TestCommandLineThatIsWrong(t *testing.T) {
	for line, want := range map[string]string{
		"":                                  "no command is given",
		"reload":                            `no command is called "reload"`,
		"reloads now":                       `"now" is no flag`,
		"reloads -reloads 0":                "one is the least",
		"reloads -reloads many":             "many",
		"reloads -bad 2":                    "no share",
		"reloads -bad NaN":                  "no share",
		"reloads -modes carrier-pigeon":     "no mode",
		"reloads -worker deaf":              "no worker",
		"reloads -broken typo":              `no broken build is called "typo"`,
		"reloads -rate -5":                  "no number",
		"reloads -rate NaN":                 "no number",
		"reloads -clients -1":               "one of each mode is the least",
		"reloads -bake 10ms":                "100ms is the least",
		"reloads -gap -1s":                  "no time",
		"reloads -body 0":                   "bytes",
		"reloads -body 99999999":            "bytes",
		"reloads -throughput -1":            "no number",
		"reloads -canary 20":                "only with -steer",
		"reloads -steer -canary 101":        "0 to 100 per cent",
		"reloads -crowd 60":                 "only with -stall",
		"reloads -stall -crowd 9999":        "0 to 1000 clients",
		"reloads -late 600ms":               "pkg/worker notices SIGTERM by itself",
		"reloads -worker stock -late -1s":   "no time",
		"reloads -timeout -1s":              "no time",
		"reloads -settle -1s":               "no time",
		"reloads -connections 5":            "not defined",
		"steer -reloads 0":                  "one is the least",
		"steer -turn 0":                     "one reload is the least",
		"steer -limit -1s":                  "no time",
		"steer -rows flood,typo":            `no row is called "typo"`,
		"steer -workers deaf":               `no worker is called "deaf"`,
		"steer -rows late -workers library": "choose other -workers",
		"compare -worker stock":             "not defined",
		"compare -reloads 0":                "one is the least",
		"bare -rounds 0":                    "one is the least",
		"canary -connections 3 -clients 4":  "each of the 4 clients",
		"starts -n 0":                       "one start of each row is the least",
		"starts -turn 0":                    "one start is the least",
		"starts -sizes 15,big":              `"big" is no number`,
		"starts -sizes 0":                   "1 to 4096 megabytes",
		"starts -sizes 99999":               "1 to 4096 megabytes",
		"starts -at-once=":                  "is no number",
		"starts -at-once 1,0":               "1 to 256",
		"starts -at-once 1000":              "1 to 256",
		"starts -clients 3":                 "not defined",
	} {
		if _, err := parse(strings.Fields(line), io.Discard); err == nil || errors.Is(err, flag.ErrHelp) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want one with %q", line, err, want)
		}
	}
}

// What the starts came to gets into a page and a file, and with -check=false is a
// success whatever it is.
func TestStartsAreWritten(t *testing.T) {
	dir := t.TempDir()
	page, file := filepath.Join(dir, "page.md"), filepath.Join(dir, "json")
	if err := os.WriteFile(page, []byte("<!-- made by go run ./bench starts -->\n```\n```\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := parse([]string{"starts", "-n", "2", "-sizes", "1", "-at-once", "1", "-check=false", "-w", page, "-json", file}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := r.command.run(r, t.Context()); err != nil || !kept {
		t.Errorf("kept: %v, %v", kept, err)
	}
	text, _ := os.ReadFile(page)
	if !strings.Contains(string(text), "2 starts of each row") || !strings.Contains(string(text), "launcher, no cgroups") {
		t.Errorf("the page has\n%s", text)
	}
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), `"p50_us"`) {
		t.Errorf("the file has\n%s", text)
	}
}
