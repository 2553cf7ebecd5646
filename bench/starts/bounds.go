package starts

import (
	"fmt"
	"runtime"
	"time"

	"github.com/supervisord-go/supervisord/bench/turn"
)

// What the template may cost, against fork and exec in the same turns.
const (
	mostP50  = 600 * time.Microsecond // more, at the median
	mostP99  = 1.5                    // times as much, of the slowest hundredth
	mostCPU  = 700 * time.Microsecond // more processor time, each start
	mostGrow = 200 * time.Microsecond // more processor time from the largest process than from the smallest
)

// enough is how many starts it takes for the slowest hundredth to mean something.
const enough = 1000

// A Verdict is what came of a bound.
type Verdict struct {
	Bound string `json:"bound"`
	Kept  bool   `json:"kept"`
	Found string `json:"found"` // in the row that comes closest to the bound, or is farthest beyond
}

// A finding is a value of one row as a share of what it may be.
type finding struct {
	share float64
	words string
}

// Verdicts says for each bound whether it was kept. What was not measured was not.
func (r *Report) Verdicts() []Verdict {
	return []Verdict{
		r.worst(fmt.Sprintf("p50 at most %s over that of fork and exec; with more at once than processors, that for each that shares one", ms(mostP50)), r.p50),
		r.worst(fmt.Sprintf("p99 at most %.1f times that of fork and exec", mostP99), r.p99),
		r.worst(fmt.Sprintf("processor time at most %s over that of fork and exec", ms(mostCPU)), r.cpu),
		r.worst(fmt.Sprintf("no more than %s of that because the process is large", ms(mostGrow)), r.grown),
	}
}

func (r *Report) worst(bound string, judge func(row, floor *Row) (finding, bool)) Verdict {
	v := Verdict{Bound: bound, Found: "not measured"}
	share := -1.0
	for _, row := range r.Rows {
		floor := r.floor(row)
		if row.Way != turn.Template || floor == nil {
			continue
		}
		if f, ok := judge(row, floor); ok && f.share > share {
			share = f.share
			v.Kept, v.Found = f.share <= 1, fmt.Sprintf("%s from %d MB, %d at once", f.words, row.Size, row.AtOnce)
		}
	}
	return v
}

// sharing is how many starts a processor has at a time: each waits for the others.
func sharing(atOnce int) float64 { return max(1, float64(atOnce)/float64(runtime.GOMAXPROCS(0))) }

func (r *Report) p50(row, floor *Row) (finding, bool) {
	over := row.quantile(0.5) - floor.quantile(0.5)
	may := float64(mostP50) * sharing(row.AtOnce)
	return finding{float64(over) / may, fmt.Sprintf("%s of %s", ms(over), ms(time.Duration(may)))}, true
}

func (r *Report) p99(row, floor *Row) (finding, bool) {
	if min(len(row.took), len(floor.took)) < enough {
		return finding{0, fmt.Sprintf("too few to say: it takes %d;", enough)}, true
	}
	times := float64(row.quantile(0.99)) / float64(floor.quantile(0.99))
	return finding{times / mostP99, fmt.Sprintf("%.2f", times)}, true
}

func (r *Report) cpu(row, floor *Row) (finding, bool) {
	over := row.each() - floor.each()
	return finding{float64(over) / float64(mostCPU), ms(over)}, true
}

// grown compares a row with that of the smallest process, itself perhaps, each by what
// it has over its floor.
func (r *Report) grown(row, floor *Row) (finding, bool) {
	small := row
	for _, s := range r.Rows {
		if s.Way == row.Way && s.AtOnce == row.AtOnce && s.Size < small.Size {
			small = s
		}
	}
	its := r.floor(small)
	if its == nil {
		return finding{}, false
	}
	more := row.each() - floor.each() - (small.each() - its.each())
	return finding{float64(more) / float64(mostGrow), ms(more)}, true
}

// Kept says whether all bounds were.
func (r *Report) Kept() bool {
	for _, v := range r.Verdicts() {
		if !v.Kept {
			return false
		}
	}
	return true
}
