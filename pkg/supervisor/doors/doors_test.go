package doors

import (
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What outlives SIGKILL has its place at a steered socket until it is gone, which
// can be long after its service has left the socket.
func TestAPlaceIsFreeAlsoAfterItsServiceHasLeft(t *testing.T) {
	table := socket.NewTable(nil)
	defer table.Close()
	d := New(table, func(name string, err error) { t.Error(name, err) })
	sockets := []*unit.Socket{{
		Name: "http", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}},
		Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse, Steer: true, Shards: 2,
	}}
	d.Set("api", []unit.Door{{Socket: sockets[0], Open: true}})
	if _, err := d.Enter(t.Context(), "api", 1, true, sockets); err != nil {
		t.Fatal(err)
	}
	d.Set("api", []unit.Door{{Socket: sockets[0]}})
	d.Free(1, sockets)
	for _, seat := range table.Seats("http") {
		if seat.Holder != 0 {
			t.Errorf("seat %d is held by %d, which is gone", seat.Index, seat.Holder)
		}
	}
}
