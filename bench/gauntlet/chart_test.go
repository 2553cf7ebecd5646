package gauntlet

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
)

// A reader sees the reloads, and a bump where there was one.
func TestChartShowsReloadsAndABump(t *testing.T) {
	r := newReport(Options{Trace: 10 * time.Second})
	r.Seconds, r.Reloads, r.Bad = 10, 2, 1
	r.marks = []mark{{from: time.Second, to: 2 * time.Second}, {from: 4 * time.Second, to: 5 * time.Second, bad: true}}
	for at := time.Duration(0); at < 10*time.Second; at += 10 * time.Millisecond {
		took := time.Millisecond
		if at == 4500*time.Millisecond {
			took = time.Second
		}
		r.samples = append(r.samples, load.Sample{At: at, Took: took})
	}
	var out strings.Builder
	if err := r.WriteChart(&out); err != nil {
		t.Fatal(err)
	}
	bands, lines := elements(t, out.String())
	if bands["good"] != 2 || bands["bad"] != 2 { // one of each in the legend
		t.Errorf("bands %v", bands)
	}
	if p50 := heights(lines["p50"]); len(p50) != 1 {
		t.Errorf("the median has %d heights: %v", len(p50), p50)
	}
	if highest := heights(lines["max"]); len(highest) != 2 || highest["56"] != 1 {
		t.Errorf("the greatest is at %v, and is to be at the top once", highest)
	}
}

func elements(t *testing.T, svg string) (rects map[string]int, lines map[string]string) {
	rects, lines = map[string]int{}, map[string]string{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if token == nil {
			if err.Error() != "EOF" {
				t.Error(err)
			}
			return rects, lines
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attr := map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		switch e.Name.Local {
		case "rect":
			rects[attr["class"]]++
		case "polyline":
			lines[attr["class"]] = attr["points"]
		}
	}
}

func heights(points string) map[string]int {
	n := map[string]int{}
	for point := range strings.FieldsSeq(points) {
		_, y, _ := strings.Cut(point, ",")
		n[y]++
	}
	return n
}
