package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// Steering says which rows of a table are run that has steered sockets next to shared
// ones.
type Steering struct {
	Reloads int           // of each row
	Turn    int           // reloads of a row before the next one has its turn
	Rows    []string      // of RowNames; nil: all
	Workers []string      // of Workers; nil: all
	Limit   time.Duration // after which no turn begins; 0: none
	Say     func(format string, args ...any)
}

// A scenario is what is done to a worker.
type scenario struct {
	name   string
	change func(*Options)
}

// scenarios are all rows, in their order. What is said of a canary is only for steered
// sockets.
var scenarios = []scenario{
	{"steady", func(o *Options) { o.Bad = 0 }},
	{"dies-accepting", func(o *Options) { o.Broken = []string{diesAccepting} }},
	{"dies-with-queue", func(o *Options) { o.Broken, o.Canary = []string{diesWithQueue}, 50 }},
	{"hang", func(o *Options) { o.Bad, o.Stall, o.Crowd = 0, true, 60; o.late(600 * time.Millisecond) }},
	{"flood", func(o *Options) { o.flood(time.Millisecond, 64) }},
	{"flood-canary", func(o *Options) { o.flood(time.Millisecond, 64); o.Canary = 20 }},
	{"late", func(o *Options) { o.Bad = 0; o.flood(50*time.Millisecond, 16); o.late(600 * time.Millisecond) }},
	{"restart", func(o *Options) {
		o.Bad, o.Restart = 0, true
		o.flood(50*time.Millisecond, 16)
		o.late(600 * time.Millisecond)
	}},
}

// RowNames are the scenarios that there are.
func RowNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// flood has clients come faster than a process accepts them.
func (o *Options) flood(pace time.Duration, clients int) {
	o.Pace, o.Clients, o.Pause = pace, clients, 0
}

// late is not for pkg/worker, which notices SIGTERM by itself.
func (o *Options) late(by time.Duration) {
	if o.Worker != "library" {
		o.Late = by
	}
}

// options are those of a row. Clients make a connection for each request: kept ones
// gain nothing by steering. Broken builds live for 50 ms; on a machine that is
// busy with all this some live longer, and are to die while they bake.
func (s scenario) options(worker string, steer bool) Options {
	o := Options{
		Worker: worker, Steer: steer, Bad: 0.5, Broken: []string{diesAccepting, diesWithQueue},
		Modes: []load.Mode{fresh}, Clients: 16, Pause: 10 * time.Millisecond, Timeout: 8 * time.Second,
		Bake: time.Second, Settle: 200 * time.Millisecond, Drain: 100 * time.Millisecond, Gap: 100 * time.Millisecond,
	}
	if worker == "stock" {
		o.Settle = 0 // as long as it needs
	}
	s.change(&o)
	if !steer {
		o.Canary = 0
	}
	return o
}

// of says whether there is such a row for a worker: pkg/worker is never late, and one that
// calls Shutdown at once may lose whom it has just accepted, unless it is given time first,
// which a restart does not do.
func (s scenario) of(worker string) bool {
	switch s.name {
	case "late":
		return worker != "library"
	case "restart":
		return worker != "library" && worker != "stock"
	}
	return true
}

// Check says what is wrong with it, by the names that it has on the command line.
func (s Steering) Check() error {
	switch {
	case s.Reloads < 1:
		return fmt.Errorf("-reloads %d: one is the least", s.Reloads)
	case s.Turn < 1:
		return fmt.Errorf("-turn %d: one reload is the least", s.Turn)
	case s.Limit < 0:
		return fmt.Errorf("-limit %v is no time", s.Limit)
	}
	for _, name := range s.Rows {
		if !slices.Contains(RowNames(), name) {
			return fmt.Errorf("no row is called %q: there are %s", name, strings.Join(RowNames(), ", "))
		}
	}
	for _, name := range s.Workers {
		if !slices.Contains(Workers, name) {
			return fmt.Errorf("no worker is called %q: there are %s", name, strings.Join(Workers, ", "))
		}
	}
	if len(s.rows()) == 0 {
		return errors.New("no such row has such a worker: late is not for library, nor restart for library and stock; choose other -workers")
	}
	return nil
}

// rows are those to be run, each steered and then shared.
func (s Steering) rows() (rows []*Row) {
	wanted := func(list []string, name string) bool { return list == nil || slices.Contains(list, name) }
	for _, x := range scenarios {
		for _, worker := range Workers {
			if !wanted(s.Rows, x.name) || !wanted(s.Workers, worker) || !x.of(worker) {
				continue
			}
			for _, steer := range []bool{true, false} {
				rows = append(rows, newRow(x, worker, steer))
			}
		}
	}
	return rows
}

// Steered runs all rows by turns, so that whatever else the machine does is done to all
// of them. The rows have what was found, even when the error says that it was not all.
func (k *Kit) Steered(ctx context.Context, s Steering) ([]*Row, error) {
	rows, start := s.rows(), time.Now()
	for round := 0; ; round++ {
		left := false
		for i := range rows {
			r := rows[i^round&1] // who comes second may have it easier
			n := min(s.Turn, s.Reloads-r.Reloads)
			if n <= 0 {
				continue
			}
			if s.Limit > 0 && time.Since(start) >= s.Limit {
				s.Say("the time is over: not all rows have %d reloads", s.Reloads)
				return rows, nil
			}
			s.Say("%s: reloads %d to %d of %d", r, r.Reloads+1, r.Reloads+n, s.Reloads)
			o := r.options
			o.Reloads = n
			report, err := k.Run(ctx, o)
			r.add(report)
			if err != nil {
				return rows, fmt.Errorf("%s: %w", r, err)
			}
			left = left || r.Reloads < s.Reloads
		}
		if !left {
			return rows, nil
		}
	}
}
