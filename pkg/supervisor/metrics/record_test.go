package metrics

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Counters go on where they were, and from zero where nobody knows.
func TestCountersAreRestored(t *testing.T) {
	c := NewCounters()
	c.Job(unit.Reload, unit.Failed)
	c.Job(unit.Stop, unit.Done)
	c.Exit(unit.Signaled)
	c.Restart()
	c.Reload([]ipc.SocketAccount{{Drops: 7}})
	if again := RestoreCounters(c.Record()); !reflect.DeepEqual(again, c) {
		t.Errorf("%+v, not %+v", again, c)
	}
	for _, bad := range []string{"", "null", "{}", `{"Jobs":7}`} {
		if again := RestoreCounters(json.RawMessage(bad)); !reflect.DeepEqual(again, NewCounters()) {
			t.Errorf("%q: %+v", bad, again)
		}
	}
}
