package starts

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%d starts of each row, %d at a turn, of a program of %d bytes (%s); the template has %d KiB\n\n", r.Starts, r.Turn, r.Size, r.Program, r.Template)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t\t\t\t\tprocessor\tover fork and exec:\tp99\tprocessor\t\n")
	fmt.Fprint(t, "way\tfrom\tat once\tp50\tp99\ttime\tp50\tratio\ttime\t\n")
	for _, row := range r.Rows {
		if len(row.took) == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%d MB\t%d\t%s\t%s\t%s\t%s\n", row.Way, row.RSS>>10, row.AtOnce,
			ms(row.quantile(0.5)), ms(row.quantile(0.99)), ms(row.each()), r.over(row))
	}
	t.Flush()
	for _, why := range r.Without {
		fmt.Fprintf(w, "left out: %s\n", why)
	}
	fmt.Fprintln(w)
	for _, v := range r.Verdicts() {
		word := "kept"
		if !v.Kept {
			word = "NOT KEPT"
		}
		fmt.Fprintf(w, "template, %s: %s (%s)\n", v.Bound, word, v.Found)
	}
}

// over are the columns that compare a row with its floor.
func (r *Report) over(row *Row) string {
	floor := r.floor(row)
	if floor == nil || floor == row {
		return "\t\t\t"
	}
	ratio := "-"
	if min(len(row.took), len(floor.took)) >= enough {
		ratio = fmt.Sprintf("%.2f", float64(row.quantile(0.99))/float64(floor.quantile(0.99)))
	}
	return fmt.Sprintf("%s\t%s\t%s\t", ms(row.quantile(0.5)-floor.quantile(0.5)), ratio, ms(row.each()-floor.each()))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond)) }
