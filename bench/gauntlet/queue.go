package gauntlet

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A Queue is how many connections waited to be accepted at the socket http, whenever
// somebody looked: at all listening sockets with its address.
type Queue struct {
	Looks int `json:"looks"`
	Empty int `json:"empty"` // looks at which nobody waited
	P50   int `json:"p50"`
	Max   int `json:"max"`

	looks []int
}

func newQueue(looks []int) *Queue {
	q := &Queue{Looks: len(looks), looks: looks}
	if q.Looks == 0 {
		return q
	}
	sorted := slices.Sorted(slices.Values(looks))
	q.P50, q.Max = sorted[len(sorted)/2], sorted[len(sorted)-1]
	q.Empty, _ = slices.BinarySearch(sorted, 1)
	return q
}

// add takes in what was seen in another run.
func (q *Queue) add(o *Queue) *Queue {
	if o == nil {
		return q
	}
	return newQueue(slices.Concat(q.looks, o.looks))
}

// empty is the share of looks at which nobody waited.
func (q *Queue) empty() string {
	if q.Looks == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(q.Empty)/float64(q.Looks))
}

func (q *Queue) print(w io.Writer) {
	fmt.Fprintf(w, "queue of the socket http: p50 %d, max %d; it was empty at %s of %d looks\n", q.P50, q.Max, q.empty(), q.Looks)
	if q.drained() {
		fmt.Fprintln(w, "hint: more -clients, or -pause 0, keep clients waiting at all times")
	}
}

// drained says whether it was empty too often for a flood. The first look and the last
// may be when nobody has come yet, or all have gone.
func (q *Queue) drained() bool { return 20*q.Empty > q.Looks }

// look looks at the queue until ctx ends.
func (g *gauntlet) look(ctx context.Context) (looks []int, err error) {
	for wait(ctx, 50*time.Millisecond) == nil {
		n, err := rig.Queue(g.addresses[load.Plain])
		if err != nil {
			return looks, err
		}
		looks = append(looks, n)
	}
	return looks, nil
}
