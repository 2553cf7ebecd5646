package gauntlet

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

func scenarioNamed(t *testing.T, name string) scenario {
	t.Helper()
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("no scenario is called %q", name)
	return scenario{}
}

// turnOf is a turn of so many connections, of which some were lost or hung.
func turnOf(attempts, failed, hanging, accepted int64) *Report {
	r := newReport(Options{})
	r.Reloads = 10
	m := &load.Result{Attempts: attempts, OK: attempts - failed, Failed: failed, Hanging: hanging, First: "reset: x"}
	m.Steady.Record(3 * time.Millisecond)
	r.Modes = []*load.Result{m}
	r.Accepted["http"] = accepted
	r.Queue = newQueue([]int{0, 4})
	return r
}

// What is lost is laid to processes that died in the same turn: those of one turn
// cannot excuse what another lost.
func TestLossesAreLaidToWhoDiedInTheSameTurn(t *testing.T) {
	r := newRow(scenarioNamed(t, "flood"), "stock", true)
	r.add(turnOf(100, 3, 0, 5))
	if r.Lost != 3 || r.Accepted != 3 || len(r.Broken()) != 0 {
		t.Errorf("3 lost of 5 that were accepted: %d, %d, %q", r.Lost, r.Accepted, r.Broken())
	}
	r.add(turnOf(100, 2, 0, 1))
	if b := r.Broken(); r.Reloads != 20 || r.Connections != 200 || r.Lost != 5 || r.Accepted != 4 || len(b) != 1 || !strings.HasPrefix(b[0], "1 lost, and no process") {
		t.Errorf("2 lost of 1 that was accepted: %+v, %q", r, b)
	}
}

// Whoever hangs is not counted as lost a second time, also in a crowd.
func TestHangingIsAFigureOfItsOwn(t *testing.T) {
	r := newRow(scenarioNamed(t, "hang"), "stock", true)
	turn := turnOf(100, 5, 4, 0)
	turn.Crowd = Crowd{Clients: 60, Failed: 10, Hanging: 10}
	turn.Crowd.Served.Record(770 * time.Millisecond)
	r.add(turn)
	if r.Connections != 160 || r.Lost != 1 || r.Hanging != 14 || len(r.Broken()) != 2 {
		t.Errorf("%+v, %q", r, r.Broken())
	}
	if got := r.Crowd.after(); got != "770ms, max 770ms" {
		t.Errorf("served after %s", got)
	}
}

// Each promise of a steered row makes the whole fail; a shared one has none.
func TestOnlySteeredRowsHavePromises(t *testing.T) {
	for _, steered := range []bool{true, false} {
		for name, change := range map[string]func(*Report){
			"nothing":             func(*Report) {},
			"lost":                func(p *Report) { p.Modes[0].Failed = 1 },
			"hanging":             func(p *Report) { p.Modes[0].Failed, p.Modes[0].Hanging = 1, 1 },
			"errors of accept":    func(p *Report) { p.AcceptErrors = 1 },
			"of a good build":     func(p *Report) { p.Refused = 1 },
			"lost with its crowd": func(p *Report) { p.Crowd.Clients, p.Crowd.Failed = 1, 1 },
		} {
			r, turn := newRow(scenarioNamed(t, "steady"), "plain", steered), turnOf(100, 0, 0, 0)
			change(turn)
			r.add(turn)
			if want := !steered || name == "nothing"; Kept([]*Row{r}) != want {
				t.Errorf("steered %v, %s: promises kept: %v; %q", steered, name, !want, r.Broken())
			}
		}
	}
}

func TestTableOfRows(t *testing.T) {
	good, bad := newRow(scenarioNamed(t, "flood-canary"), "cstyle", true), newRow(scenarioNamed(t, "late"), "stock", true)
	none := newRow(scenarioNamed(t, "hang"), "library", false)
	quiet := turnOf(100, 0, 0, 0)
	quiet.Queued["http"] = 777
	good.add(quiet)
	turn := turnOf(100, 1, 0, 0)
	turn.Problems = []string{"a", "b", "c", "d"}
	bad.add(turn)
	rows := []*Row{good, bad, none}
	var out strings.Builder
	PrintRows(&out, rows)
	for _, want := range []string{
		"flood-canary  cstyle  steered", "50.0%", "3.00ms", "777", "PROBLEM: late, stock, steered: 1 lost", "  c\n", "and 2 more, see -json",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "library") {
		t.Errorf("a row without a turn is in the table:\n%s", &out)
	}
	b, err := json.Marshal(rows)
	for _, want := range []string{`"row":"late"`, `"p50_ms"`, `"broken":["1 lost`, `"broken":[]`, `"problems":["a"`} {
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("the JSON does not have %s: %v\n%s", want, err, b)
		}
	}
}

// A shared socket can give nobody a share, and not all rows are of all workers; else a row is
// the same for both kinds of socket.
func TestRowsDifferByTheirSocketOnly(t *testing.T) {
	for _, s := range scenarios {
		for _, worker := range Workers {
			if !s.of(worker) {
				continue
			}
			steered, shared := s.options(worker, true), s.options(worker, false)
			for _, o := range []Options{steered, shared} {
				o = o.Fill()
				o.Reloads = 1
				if err := o.Check(); err != nil {
					t.Errorf("%s, %s: %v", s.name, worker, err)
				}
			}
			if shared.Canary != 0 || shared.Bad != steered.Bad || shared.Clients != steered.Clients || shared.Late != steered.Late || shared.Pace != steered.Pace {
				t.Errorf("%s, %s: steered %+v, shared %+v", s.name, worker, steered, shared)
			}
		}
	}
	if n := len((Steering{}).rows()); n != 2*(len(scenarios)*len(Workers)-3) {
		t.Errorf("%d rows", n)
	}
	if n := len((Steering{Rows: []string{"flood"}, Workers: []string{"stock", "plain"}}).rows()); n != 4 {
		t.Errorf("%d rows of two workers in a flood, want 4", n)
	}
}

func TestQueues(t *testing.T) {
	if q := newQueue(nil); q.empty() != "-" || q.P50 != 0 {
		t.Errorf("nobody looked: %+v", q)
	}
	q := newQueue([]int{5, 0, 9}).add(newQueue([]int{0, 7})).add(nil)
	if q.Looks != 5 || q.Empty != 2 || q.P50 != 5 || q.Max != 9 || q.empty() != "40.0%" {
		t.Errorf("0 0 5 7 9 is %+v, empty at %s", q, q.empty())
	}
	var out strings.Builder
	if q.print(&out); !strings.Contains(out.String(), "p50 5, max 9; it was empty at 40.0% of 5 looks\nhint: more -clients") {
		t.Errorf("it says %q", &out)
	}
	full := append(make([]int, 2), slices.Repeat([]int{3}, 38)...)
	if newQueue(full).drained() || !newQueue(full[:39]).drained() {
		t.Error("2 looks at an empty queue are few of 40 and many of 39")
	}
}

// The time that a crowd was served at counts from the switch; who was served before
// that did not wait for it.
func TestCrowdsAreTimedFromTheSwitch(t *testing.T) {
	var c Crowd
	samples := []load.Sample{
		{At: time.Second, Took: 500 * time.Millisecond}, // before
		{At: time.Second, Took: 1700 * time.Millisecond},
	}
	c.add(&load.Result{Attempts: 4, OK: 2, Failed: 2, Hanging: 1, First: "reset: x"}, samples, 2*time.Second)
	if c.Clients != 4 || c.Failed != 2 || c.Hanging != 1 || c.Served.Count() != 2 || c.Served.Max() != 700*time.Millisecond || c.Served.Quantile(0.5) != 0 || c.First != "reset: x" {
		t.Errorf("%+v, p50 %v, max %v", c, c.Served.Quantile(0.5), c.Served.Max())
	}
	var sum Crowd
	sum.merge(&c)
	sum.merge(&c)
	if sum.Clients != 8 || sum.Failed != 4 || sum.Hanging != 2 || sum.Served.Count() != 4 {
		t.Errorf("two of them are %+v", sum)
	}
	var out strings.Builder
	if sum.print(&out); !strings.Contains(out.String(), "8 clients waited for processes that hung; 4 of them were served") {
		t.Errorf("it says %q", &out)
	}
}
