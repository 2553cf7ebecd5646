package process

import (
	"sync/atomic"
	"testing"
)

// counted counts the walks of /proc from now on.
func counted(t *testing.T) *atomic.Int64 {
	t.Helper()
	var walks atomic.Int64
	take := snapshots.take
	t.Cleanup(func() { snapshots.take = take })
	snapshots.take = func() (map[int]stat, error) {
		walks.Add(1)
		return take()
	}
	return &walks
}

// An end of a process that leaves nobody behind costs no walk of /proc, however many
// processes the machine has. Nor does a kill when all is over.
func TestEndsWithoutAWalk(t *testing.T) {
	l := newTestLauncher(t, Options{NoCgroups: true})
	neighbour := launch(t, l, sh(`sleep 1000 & echo ready; wait`))
	neighbour.expect("ready")
	walks := counted(t)
	for _, script := range []string{"exit 0", "sh -c 'exit 3'; exit 1", "kill -KILL $$"} {
		mustGo(t, launch(t, l, sh(script)).Process)
	}
	if n := walks.Load(); n > 0 {
		t.Errorf("%d walks", n)
	}
}
