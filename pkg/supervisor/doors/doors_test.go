package doors

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

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

// stuck is a door at which somebody has the turn, as where a file system hangs.
func stuck(t *testing.T, d *Doors, s *unit.Socket) (release func()) {
	t.Helper()
	d.Set("api", []unit.Door{{Socket: s, Open: true}})
	d.mu.Lock()
	defer d.mu.Unlock()
	door := d.use(s.Name)
	door.turn <- struct{}{}
	return func() { <-door.turn; d.leave(s.Name, door) }
}

// However often something is asked for at a socket whose file system hangs, no more
// waits for it than two who change it; and who waited for it in vain has nothing.
func TestWhatHangsGathersNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := socket.NewTable(nil)
		defer table.Close()
		d := New(table, func(string, error) {})
		s := &unit.Socket{Name: "http", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}}, Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse}
		release := stuck(t, d, s)
		before := runtime.NumGoroutine()
		for id := range unit.Invocation(50) {
			d.Set("api", []unit.Door{{Socket: s, Open: id%2 == 0}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := d.Enter(ctx, "api", id+1, true, []*unit.Socket{s}); err == nil {
				t.Error("it entered")
			}
			cancel()
			d.Free(id+1, []*unit.Socket{s})
		}
		if n := runtime.NumGoroutine() - before; n > 2 {
			t.Errorf("%d goroutines wait", n)
		}
		release()
		d.Set("api", []unit.Door{{Socket: s, Open: true}})
		synctest.Wait()
		if st := table.Status("http"); len(st) != 1 || !st[0].Listening || d.Err("http") != nil {
			t.Errorf("it is %+v, %v", st, d.Err("http"))
		}
		d.Set("api", nil)
		synctest.Wait()
		if len(d.each) > 0 {
			t.Errorf("%d doors are kept for nobody", len(d.each))
		}
	})
}

// Sockets that come and go leave nothing.
func TestDoorsThatComeAndGoLeaveNothing(t *testing.T) {
	table := socket.NewTable(nil)
	defer table.Close()
	d := New(table, func(name string, err error) { t.Error(name, err) })
	for i := range 20 {
		s := &unit.Socket{Name: fmt.Sprint("n", i), Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}}, Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse}
		d.Configure([]*unit.Socket{s})
		d.Set("api", []unit.Door{{Socket: s, Open: true}})
		if _, err := d.Enter(t.Context(), "api", 1, true, []*unit.Socket{s}); err != nil {
			t.Fatal(err)
		}
		d.Configure(nil)
		d.Set("api", nil)
		d.Free(1, []*unit.Socket{s})
		d.Err(s.Name)
	}
	d.Holders("strange", 1)
	if len(d.each) > 0 {
		t.Errorf("%d doors are kept for nobody", len(d.each))
	}
}
