package starts

import (
	"fmt"
	"runtime"
	"time"

	"github.com/supervisord-go/supervisord/bench/turn"
)

// What the template may cost, as multiples of what fork and exec cost in the same turns:
// a machine on which processes are dear makes both so.
const (
	mostP50  = 5.3 // at the median
	mostP99  = 1.5 // times the multiple of the median, of the slowest hundredth
	mostCPU  = 4.5 // of processor time
	mostGrow = 1.0 // of processor time, from the largest process more than from the smallest
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
		r.worst(fmt.Sprintf("p50 at most %.1f times that of fork and exec, where starts need not wait for a processor", mostP50), r.p50),
		r.worst(fmt.Sprintf("p99 in no worse a proportion than %.1f times that of the p50", mostP99), r.p99),
		r.worst(fmt.Sprintf("processor time at most %.1f times that of fork and exec", mostCPU), r.cpu),
		r.worst(fmt.Sprintf("of these times no more than %.1f because the process is large", mostGrow), r.grown),
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

func times(a, b time.Duration) float64 { return float64(a) / float64(b) }

func (r *Report) p50(row, floor *Row) (finding, bool) {
	over := times(row.quantile(0.5), floor.quantile(0.5))
	return finding{over / mostP50, fmt.Sprintf("%.1f", over)}, row.AtOnce <= runtime.GOMAXPROCS(0)
}

func (r *Report) p99(row, floor *Row) (finding, bool) {
	if min(len(row.took), len(floor.took)) < enough {
		return finding{0, fmt.Sprintf("too few to say: it takes %d;", enough)}, true
	}
	slowest := times(row.quantile(0.99), floor.quantile(0.99))
	median := times(row.quantile(0.5), floor.quantile(0.5))
	return finding{slowest / median / mostP99, fmt.Sprintf("%.2f", slowest/median)}, true
}

func (r *Report) cpu(row, floor *Row) (finding, bool) {
	over := times(row.each(), floor.each())
	return finding{over / mostCPU, fmt.Sprintf("%.1f", over)}, true
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
	over := times(row.each(), floor.each()) - times(small.each(), its.each())
	return finding{over / mostGrow, fmt.Sprintf("%.1f", over)}, true
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
