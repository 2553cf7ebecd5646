package starts

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/bench/turn"
)

// A Report is what was measured.
type Report struct {
	Whole    bool     `json:"whole"`   // it was measured to its end
	Program  string   `json:"program"` // that was started
	Size     int      `json:"program_bytes"`
	Starts   int      `json:"starts"` // of each row that there were to be
	Turn     int      `json:"turn"`
	Template int64    `json:"template_kib"` // resident memory of the largest template
	Without  []string `json:"without"`      // ways that there are not, and why
	Rows     []*Row   `json:"rows"`
}

// MarshalJSON adds what came of the bounds.
func (r *Report) MarshalJSON() ([]byte, error) {
	type figures Report // without this method
	return json.Marshal(struct {
		*figures
		Bounds []Verdict `json:"bounds"`
	}{(*figures)(r), r.Verdicts()})
}

// A Row is one way to start a program, from a process of one size.
type Row struct {
	Way    string
	Size   int   // of the process that starts it, in megabytes, as it was asked for
	RSS    int64 // and as it was, in KiB
	AtOnce int

	took    []time.Duration
	cpu     time.Duration
	sorted  bool
	starter *starter
}

func (r *Row) add(t turn.Result) {
	r.took, r.sorted = append(r.took, t.Took...), false
	r.cpu += t.CPU
}

// quantile is 0 where nothing was measured.
func (r *Row) quantile(q float64) time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	if !r.sorted {
		slices.Sort(r.took)
		r.sorted = true
	}
	return r.took[int(q*float64(len(r.took)-1))]
}

// each is the processor time of one start.
func (r *Row) each() time.Duration { return r.cpu / time.Duration(max(1, len(r.took))) }

// MarshalJSON gives times in microseconds.
func (r *Row) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Way    string `json:"way"`
		Size   int    `json:"size_mb"`
		RSS    int64  `json:"rss_kib"`
		AtOnce int    `json:"at_once"`
		Starts int    `json:"starts"`
		P50    int64  `json:"p50_us"`
		P99    int64  `json:"p99_us"`
		Max    int64  `json:"max_us"`
		CPU    int64  `json:"cpu_us"`
	}{
		r.Way, r.Size, r.RSS, r.AtOnce, len(r.took),
		r.quantile(0.5).Microseconds(), r.quantile(0.99).Microseconds(), r.quantile(1).Microseconds(), r.each().Microseconds(),
	})
}

// floor is the row of fork and exec that is like r; nil: there is none.
func (r *Report) floor(of *Row) *Row {
	i := slices.IndexFunc(r.Rows, func(f *Row) bool { return f.Way == turn.Exec && f.Size == of.Size && f.AtOnce == of.AtOnce })
	if i < 0 || len(r.Rows[i].took) == 0 || len(of.took) == 0 {
		return nil
	}
	return r.Rows[i]
}
