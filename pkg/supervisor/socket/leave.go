package socket

import (
	"fmt"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A process that was told to end is left alone with who waits at its shards for as long
// as it takes them. Many servers accept on while they drain, and one that is late to
// handle its signal would take a listener that is shut for a failure. But one that takes
// nobody any more keeps its clients waiting for nothing: it hangs, or has stopped to
// accept without a word. Then its shards are shut, and their clients move on.

// patience is for how long somebody waits and nobody is taken before that. A server
// that is 600 ms late with its signal and accepts every 50 ms saw accept fail in each of
// 30 restarts with a patience of 5 ms, and in none with this one.
const patience = 250 * time.Millisecond

// depart shuts the shards of those that have left without saying so, and says whose
// clients moved on. A shard without cards is watched for clients, so nobody looks while
// nobody waits.
func (g *group) depart() (found []Finding) {
	for id, m := range g.members {
		if !m.told.Load() {
			continue
		}
		n, still := g.waiting(id)
		switch {
		case n == 0:
		case still < patience:
			g.again(patience - still)
		default:
			found = append(found, g.shut(id, m)...)
		}
	}
	return found
}

func (g *group) shut(holder unit.Invocation, m *member) (found []Finding) {
	for _, r := range g.rings() {
		n := r.queued(m.key)
		if err := r.leave(m.key); err != nil {
			r.strained(err)
		}
		if n > 0 {
			found = append(found, Finding{
				Address: r.addr.String(), Holder: holder, What: "was told to end and takes nobody any more",
				Mended: fmt.Sprintf("those who wait in its queue (%d) go to who serves", n),
			})
		}
	}
	return found
}

// again has the unit looked at once more.
func (g *group) again(after time.Duration) {
	for _, r := range g.rings() {
		r.watch.after(r.spec.Name, after)
		return
	}
}
