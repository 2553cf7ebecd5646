package gauntlet

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/ledger"
	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

func TestBrokenBuildsAreSpreadAndTakeTurns(t *testing.T) {
	for _, test := range []struct {
		share float64
		want  string
	}{
		{0, "gggggg"},
		{0.5, "gagbga"},
		{1, "ababab"},
	} {
		o := Options{Worker: "g", Broken: []string{"a", "b"}, Bad: test.share}
		var got strings.Builder
		for n := range 6 {
			build, bad := o.broken(n)
			if bad != (build != "g") {
				t.Errorf("share %v, reload %d: build %s, bad %v", test.share, n, build, bad)
			}
			got.WriteString(build)
		}
		if got.String() != test.want {
			t.Errorf("share %v: got %s, want %s", test.share, &got, test.want)
		}
	}
}

// A report with one start and one reload, of which nothing is missing.
func whole() (*Report, []ledger.Entry) {
	r := newReport(Options{Worker: "plain", Modes: load.Modes[:1]})
	r.Whole = true
	r.reload("plain", false, 1)
	r.Modes = []*load.Result{{Mode: "new", Attempts: 5, OK: 5}}
	var entries []ledger.Entry
	for pid := 1; pid <= 2; pid++ {
		entries = append(entries,
			ledger.Entry{PID: pid, Build: "plain", Event: ledger.Began},
			ledger.Entry{PID: pid, Build: "plain", Event: ledger.Ready},
			ledger.Entry{PID: pid, Build: "plain", Event: ledger.Left})
	}
	return r, entries
}

func TestNothingMissingIsNoProblem(t *testing.T) {
	r, entries := whole()
	if r.account(entries); len(r.Problems) != 0 {
		t.Errorf("problems: %q", r.Problems)
	}
}

func TestEachBrokenPromiseIsAProblem(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*Report, []ledger.Entry) []ledger.Entry
	}{
		{"a process was killed", "did not leave by their own Shutdown: [2]", func(_ *Report, e []ledger.Entry) []ledger.Entry { return e[:5] }},
		{"a Shutdown hung", "gave up on its Shutdown: deadline", func(_ *Report, e []ledger.Entry) []ledger.Entry {
			e[5].Error = "deadline"
			return e
		}},
		{"a second copy ran", "3 processes of the good build ran, for one start and 1 reloads", func(_ *Report, e []ledger.Entry) []ledger.Entry {
			return append(e, ledger.Entry{PID: 3, Build: "plain", Event: ledger.Began}, ledger.Entry{PID: 3, Build: "plain", Event: ledger.Left})
		}},
		{"a request was lost", "socket http: 1 requests were lost, and 0 may have been", func(r *Report, e []ledger.Entry) []ledger.Entry {
			r.Modes[0].Failed = 1
			return e
		}},
		{"more was lost than was accepted", "socket http: 3 requests were lost, and 2 may have been", func(r *Report, e []ledger.Entry) []ledger.Entry {
			r.Modes[0].Failed = 3
			return append(e, ledger.Entry{PID: 9, Build: "dies-accepting", Event: ledger.Died, Open: map[string]int64{"http": 2, "tls": 9}})
		}},
		{"an accept failed", "process 2 could not accept, and had not begun to leave: EINVAL", func(_ *Report, e []ledger.Entry) []ledger.Entry {
			return append(e, ledger.Entry{PID: 2, Build: "plain", Event: ledger.AcceptFailed, Error: "EINVAL"})
		}},
		{"a crowd was lost", "socket http: 2 requests were lost, and 0 may have been", func(r *Report, e []ledger.Entry) []ledger.Entry {
			r.Crowd = Crowd{Clients: 9, Failed: 2, Hanging: 2}
			return e
		}},
		{"a mode was never served", "not one request was answered", func(r *Report, e []ledger.Entry) []ledger.Entry {
			r.Modes[0].OK = 0
			return e
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, entries := whole()
			r.account(test.change(r, entries))
			if all := strings.Join(r.Problems, "\n"); !strings.Contains(all, test.want) {
				t.Errorf("problems %q, want one with %q", r.Problems, test.want)
			}
		})
	}
}

func TestWhatNetHTTPLosesIsNoProblemOfOurs(t *testing.T) {
	r, entries := whole()
	r.Worker, r.options.Worker, r.Modes[0].Failed = "stock", "stock", 7
	for i := range entries {
		entries[i].Build = "stock"
	}
	if r.account(entries); len(r.Problems) != 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	var out strings.Builder
	if r.Print(&out); !strings.Contains(out.String(), "\n7 more in modes of which nothing is promised") {
		t.Errorf("the report does not say whose loss it is:\n%s", &out)
	}
}

// TestRatios: the slowest hundredth of few requests says nothing, and the median
// is of the modes that have a ratio.
func TestRatios(t *testing.T) {
	r := newReport(Options{Modes: load.Modes[:3]})
	for i, n := range []int{2 * enough, 2 * enough, enough / 2} {
		m := &load.Result{}
		for range n {
			m.Steady.Record(2 * time.Millisecond)
			m.Reload.Record(time.Duration(i+1) * 2 * time.Millisecond)
		}
		r.Modes = append(r.Modes, m)
	}
	if a, b, c := r.row(0).Ratio, r.row(1).Ratio, r.row(2).Ratio; a != 1 || b < 1.9 || b > 2.1 || c != 0 {
		t.Errorf("ratios: %v, %v, %v", a, b, c)
	}
	if median, n := r.medianRatio(); median != r.row(1).Ratio || n != 2 {
		t.Errorf("the median is %v, of %d", median, n)
	}
}

func TestPromises(t *testing.T) {
	modes := func(o Options, is func(Options, load.Mode) bool) string {
		var names []string
		for _, m := range load.Modes {
			if is(o, m) {
				names = append(names, m.Name)
			}
		}
		return strings.Join(names, " ")
	}
	all := modes(Options{}, func(Options, load.Mode) bool { return true })
	for _, test := range []struct {
		o               Options
		kept, unnoticed string
	}{
		{Options{Worker: "library"}, all, ""},
		{Options{Worker: "library", Handover: true}, all, "keepalive-get keepalive-post large-post large-chunked in-flight unix-keepalive-post tcp"},
		{Options{Worker: "plain", Handover: true}, all, ""},
		{Options{Worker: "stock"}, "", ""},
		{Options{Worker: "stock", Steer: true}, "new stream tls-new", ""},
		{Options{Worker: "library", Restart: true, Handover: true}, "", ""},
		{Options{Worker: "library", Steer: true, Stall: true}, all, ""},
		{Options{Worker: "cstyle"}, "", ""},
		{Options{Worker: "cstyle", Steer: true}, strings.ReplaceAll(all, " unix-new unix-keepalive-post", ""), ""},
	} {
		if got := modes(test.o, Options.Promised); got != test.kept {
			t.Errorf("%+v: nothing is lost in %q, want %q", test.o, got, test.kept)
		}
		if got := modes(test.o, Options.unnoticed); got != test.unnoticed {
			t.Errorf("%+v: nobody reconnects in %q, want %q", test.o, got, test.unnoticed)
		}
	}
}

func TestSteeredSocketsMayLoseNothing(t *testing.T) {
	r, entries := whole()
	r.options.Steer, r.Modes[0].Failed = true, 1
	r.account(append(entries, ledger.Entry{PID: 9, Build: "dies-accepting", Event: ledger.Died, Open: map[string]int64{"http": 2}}))
	if all := strings.Join(r.Problems, "\n"); !strings.Contains(all, "1 requests were lost, and 0 may have been") {
		t.Errorf("problems: %q", r.Problems)
	}
}

// A canary may lose what it had accepted itself, but nobody who only waited for it.
func TestCanariesMayLoseWhatTheyAccepted(t *testing.T) {
	for failed, want := range map[int64]int{2: 0, 3: 1} {
		r, entries := whole()
		r.options.Steer, r.options.Canary, r.Modes[0].Failed = true, 20, failed
		r.account(append(entries, ledger.Entry{PID: 9, Build: "dies-accepting", Event: ledger.Died, Open: map[string]int64{"http": 2}},
			ledger.Entry{PID: 10, Build: "dies-with-queue", Event: ledger.Died, Waiting: map[string]int64{"http": 7}}))
		if len(r.Problems) != want || r.Queued["http"] != 7 {
			t.Errorf("%d lost of 2 that were accepted: problems %q; %v waited", failed, r.Problems, r.Queued)
		}
	}
}

// Where nothing can be steered, nobody is told that shared sockets were.
func TestSharedSocketsAreNotMeasuredForSteeredOnes(t *testing.T) {
	all := []rig.Socket{{Address: "127.0.0.1:1", Steered: true}, {Address: "/x/api.sock"}}
	if err := unsteered(all, "/x/api.sock"); err != nil {
		t.Error(err)
	}
	for _, note := range []string{"", "steering needs CAP_BPF"} {
		err := unsteered(append(all, rig.Socket{Address: "127.0.0.1:2", Note: note}), "/x/api.sock")
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:2 is shared") || !strings.Contains(err.Error(), note) {
			t.Errorf("a socket with the note %q: %v", note, err)
		}
	}
}

func TestReconnectsInSpiteOfHandover(t *testing.T) {
	r, entries := whole()
	r.options.Worker, r.options.Handover = "library", true
	r.options.Modes, r.Modes[0].Reconnects = load.Modes[1:2], 1
	if r.account(entries); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "1 reconnects") {
		t.Errorf("problems: %q", r.Problems)
	}
}

// A share is exact over whole decks; in a part of one it is what its cards may be.
func TestCanariesAreJudgedByTheirCards(t *testing.T) {
	for _, test := range []struct {
		c    Canary
		kept bool
	}{
		{Canary{Percent: 5, Connections: 20_000, Got: 1000}, true},
		{Canary{Percent: 5, Connections: 20_000, Got: 1001}, false},
		{Canary{Percent: 5, Connections: 20_000, Got: 999}, false},
		{Canary{Percent: 5, Connections: 20_300, Got: 1300}, true},
		{Canary{Percent: 5, Connections: 20_300, Got: 1301}, false},
		{Canary{Percent: 5, Connections: 29_600, Got: 1100}, true},
		{Canary{Percent: 5, Connections: 29_600, Got: 1099}, false},
		{Canary{Percent: 5, Connections: 20_000, Got: 1000, Failed: 1}, false},
		{Canary{Percent: 0, Connections: 20_000, Got: 1}, false},
	} {
		if test.c.judge(); test.c.Kept != test.kept {
			t.Errorf("%+v", test.c)
		}
	}
}

// Of workers that are the same, whatever the machine does in a block to all of
// them, nothing comes out; of one that is slower in each, how much.
func TestThroughputIsComparedWithinBlocks(t *testing.T) {
	compare := func(share float64) *Throughput {
		c := &Throughput{}
		for _, machine := range []float64{10_000, 2_000, 30_000, 500} {
			took := time.Duration(float64(time.Second) / machine)
			c.add(turned{share * machine, 2 * took}, turned{machine, took}, turned{machine, took}, 10)
		}
		c.sum()
		return c
	}
	if c := compare(1); c.Ratio != (Ratio{Mean: 1}) || c.Twins != (Ratio{Mean: 1}) || c.Rounds != 40 {
		t.Errorf("the same workers differ by %v, the bare ones by %v, in %d rounds", c.Ratio, c.Twins, c.Rounds)
	}
	if c := compare(0.5); math.Abs(c.Ratio.Mean-0.5) > 1e-9 || c.Ratio.Error > 1e-9 {
		t.Errorf("a worker that is half as fast has the ratio %v", c.Ratio)
	} else if a, b := c.SupervisedP99, c.BareP99; math.Abs(a.Mean-2*b.Mean) > 1e-6 || math.Abs(a.Error-2*b.Error) > 1e-6 || b.Error == 0 {
		t.Errorf("p99 %v against %v, want twice the time and the error", a, b)
	}
	if m := mean([]float64{1, 3}); m != (Mean{2, 1}) || m.String() != "2.00 ± 1.00ms" {
		t.Errorf("the mean of 1 and 3 is %v", m)
	}
	if m := mean([]float64{7}); m != (Mean{Mean: 7}) || m.String() != "7.00ms" {
		t.Errorf("the mean of a single 7 is %v", m)
	}
	if r := paired([]float64{2, 1}, []float64{1, 2}); math.Abs(r.Mean-1) > 1e-9 || math.Abs(r.Error-math.Ln2) > 1e-9 {
		t.Errorf("once twice and once half is %v, want 1 ± ln 2", r)
	}
	if r := paired([]float64{3}, []float64{2}); math.Abs(r.Mean-1.5) > 1e-9 || r.Error != 0 {
		t.Errorf("a single block of 3 against 2 is %v", r)
	}
}
