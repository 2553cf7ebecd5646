package supervisor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A sight is what was told, and when.
type sight struct {
	At      time.Duration
	Waiting int
	Still   time.Duration
}

// watching tells all that is said of a queue in its first two seconds.
func watching(t *testing.T, queue func(at time.Duration) (int, time.Duration)) (told []sight) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		look := func() (int, time.Duration) { return queue(time.Since(began)) }
		watch(ctx, look, func(n int, still time.Duration) { told = append(told, sight{time.Since(began), n, still}) })
	})
	return told
}

func TestWhatIsToldOfAQueue(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		queue func(at time.Duration) (int, time.Duration)
		told  []sight
	}{
		"empty": {
			func(time.Duration) (int, time.Duration) { return 0, 0 },
			[]sight{{0, 0, 0}},
		},
		"gets shorter": {
			func(at time.Duration) (int, time.Duration) { return max(0, 5-int(at/(100*ms))), at % (100 * ms) },
			[]sight{{0, 5, 0}, {500 * ms, 0, 0}},
		},
		"hangs": {
			func(at time.Duration) (int, time.Duration) { return 60, at },
			[]sight{{0, 60, 0}, {unit.HungAfter, 60, unit.HungAfter}},
		},
		"has hung before": {
			func(at time.Duration) (int, time.Duration) { return 60, time.Minute + at },
			[]sight{{0, 60, time.Minute}},
		},
		"one comes late": {
			func(at time.Duration) (int, time.Duration) {
				if at < 320*ms || at > 420*ms {
					return 0, 0
				}
				return 1, at - 320*ms
			},
			[]sight{{0, 0, 0}, {350 * ms, 1, 30 * ms}, {450 * ms, 0, 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.told, watching(t, c.queue)); d != "" {
				t.Errorf("what is told (-want +got):\n%s", d)
			}
		})
	}
}
