package starts

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/turn"
)

const (
	µs     = time.Microsecond
	plenty = 2000
)

// row has starts of which one in fifty is slow.
func row(way string, size, atOnce, n int, p50, p99, cpu time.Duration) *Row {
	r := &Row{Way: way, Size: size, RSS: int64(size) << 10, AtOnce: atOnce}
	for i := range n {
		took := p50
		if i%50 == 0 {
			took = p99
		}
		r.add(turn.Result{Took: []time.Duration{took}, CPU: cpu})
	}
	return r
}

// report has a template of two sizes that keeps all bounds, and just so.
func report(n int) *Report {
	return &Report{
		Whole: true, Program: "exits", Size: 129, Starts: n, Turn: 50, Template: 300,
		Rows: []*Row{
			row(turn.Exec, 15, 1, n, 100*µs, 1000*µs, 200*µs),
			row(turn.Exec, 300, 1, n, 100*µs, 1000*µs, 200*µs),
			row(turn.Template, 15, 1, n, 530*µs, 7950*µs, 700*µs),
			row(turn.Template, 300, 1, n, 530*µs, 7950*µs, 900*µs),
		},
	}
}

func TestBoundsThatAreKept(t *testing.T) {
	r := report(plenty)
	if !r.Kept() {
		t.Errorf("%+v", r.Verdicts())
	}
}

// Each bound is broken by one row alone, whichever it is, and then the others hold.
func TestBoundsThatAreBroken(t *testing.T) {
	for i, test := range []struct {
		row  *Row
		want string
	}{
		{row(turn.Template, 300, 1, plenty, 533*µs, 7950*µs, 900*µs), "5.3 from 300 MB, 1 at once"},
		{row(turn.Template, 300, 1, plenty, 530*µs, 8200*µs, 900*µs), "1.55 from 300 MB"},
		{row(turn.Template, 300, 1, plenty, 530*µs, 7950*µs, 910*µs), "4.5 from 300 MB"},
		{row(turn.Template, 300, 1, plenty, 530*µs, 7950*µs, 850*µs), "1.2 from 300 MB"},
	} {
		r := report(plenty)
		if i == 2 { // not by growing
			r.Rows[2] = row(turn.Template, 15, 1, plenty, 530*µs, 7950*µs, 850*µs)
		}
		if i == 3 {
			r.Rows[2] = row(turn.Template, 15, 1, plenty, 530*µs, 7950*µs, 600*µs)
		}
		r.Rows[3] = test.row
		for j, v := range r.Verdicts() {
			if v.Kept != (i != j) {
				t.Errorf("bound %d broken: %+v", i, v)
			}
			if i == j && !strings.Contains(v.Found, test.want) {
				t.Errorf("found %q, want %q", v.Found, test.want)
			}
		}
		if r.Kept() {
			t.Errorf("bound %d is broken, and kept", i)
		}
	}
}

// Starts that share a processor wait for each other, as fork and exec in it do not.
func TestMedianOfManyAtOnce(t *testing.T) {
	for n, kept := range map[int]bool{runtime.GOMAXPROCS(0): false, runtime.GOMAXPROCS(0) + 1: true} {
		r := report(plenty)
		r.Rows = append(r.Rows,
			row(turn.Exec, 15, n, plenty, 100*µs, 10_000*µs, 200*µs),
			row(turn.Template, 15, n, plenty, 800*µs, 10_000*µs, 200*µs))
		if v := r.Verdicts()[0]; v.Kept != kept {
			t.Errorf("%d at once: %+v", n, v)
		}
	}
}

// What was not measured is not kept; but of few starts nobody expects a hundredth.
func TestBoundsOfWhatWasNotMeasured(t *testing.T) {
	for _, v := range (&Report{}).Verdicts() {
		if v.Kept || v.Found != "not measured" {
			t.Errorf("%+v", v)
		}
	}
	r := report(plenty)
	r.Rows = r.Rows[2:] // no floor
	for _, v := range r.Verdicts() {
		if v.Kept {
			t.Errorf("%+v", v)
		}
	}
	r = report(plenty)
	r.Rows = []*Row{r.Rows[0], r.Rows[2]} // of one size
	if !r.Kept() {
		t.Errorf("%+v", r.Verdicts())
	}
	if v := report(enough / 2).Verdicts()[1]; !v.Kept || !strings.Contains(v.Found, "too few") {
		t.Errorf("%+v", v)
	}
}

func TestReportForPeople(t *testing.T) {
	r := report(plenty)
	r.Rows = append(r.Rows, &Row{Way: turn.Sessions, Size: 15, AtOnce: 1}) // interrupted before its turn
	r.Without = []string{turn.Launcher + ": there are no cgroups: no mount"}
	var out strings.Builder
	r.Print(&out)
	const want = `2000 starts of each row, 50 at a turn, of a program of 129 bytes (exits); the template has 300 KiB

                                                  processor  over fork and exec:    p99  processor
            way    from  at once     p50     p99       time                  p50  ratio       time
  fork and exec   15 MB        1  0.10ms  1.00ms     0.20ms                                       
  fork and exec  300 MB        1  0.10ms  1.00ms     0.20ms                                       
       template   15 MB        1  0.53ms  7.95ms     0.70ms               0.43ms   7.95     0.50ms
       template  300 MB        1  0.53ms  7.95ms     0.90ms               0.43ms   7.95     0.70ms
left out: launcher: there are no cgroups: no mount

template, p50 at most 5.3 times that of fork and exec, where starts need not wait for a processor: kept (5.3 from 15 MB, 1 at once)
template, p99 in no worse a proportion than 1.5 times that of the p50: kept (1.50 from 15 MB, 1 at once)
template, processor time at most 4.5 times that of fork and exec: kept (4.5 from 300 MB, 1 at once)
template, of these times no more than 1.0 because the process is large: kept (1.0 from 300 MB, 1 at once)
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestReportForPrograms(t *testing.T) {
	b, err := json.Marshal(report(plenty))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []struct {
			P99 int64 `json:"p99_us"`
			CPU int64 `json:"cpu_us"`
		} `json:"rows"`
		Bounds []Verdict `json:"bounds"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 4 || got.Rows[3].P99 != 7950 || got.Rows[3].CPU != 900 || len(got.Bounds) != 4 {
		t.Errorf("%s", b)
	}
}
