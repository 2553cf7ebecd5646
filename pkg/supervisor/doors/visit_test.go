package doors

import (
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Two services number their processes each for itself. When the socket that they have
// dies, both are to be told; and what becomes of one process is nothing to the other.
func TestTwoServicesHaveAProcessOfOneNumber(t *testing.T) {
	h := newHouse(t)
	a := h.at("a")
	cookies := map[string]uint64{}
	for _, service := range []string{"api", "web"} {
		h.Set(service, []unit.Door{{Socket: a, Open: true}})
		files, err := h.Enter(t.Context(), Process{service, 1}, []*unit.Socket{a})
		if err != nil {
			t.Fatal(err)
		}
		cookies[service] = files[0].Cookie
	}
	h.Free(Process{"web", 1}, []*unit.Socket{a})
	if err := lose(h.dir + "/a"); err != nil {
		t.Fatal(err)
	}
	found := h.table.Audit("web")
	if len(found) != 1 || found[0].Dead != cookies["api"] {
		t.Fatalf("what is left of a process that has the socket: %+v", found)
	}
	if _, err := h.Enter(t.Context(), Process{"web", 2}, []*unit.Socket{a}); err != nil {
		t.Fatal(err)
	}
	holders := h.Holders("web", found[0].Dead)
	if len(holders) != 1 || len(holders["api"]) != 1 || holders["api"][0] != 1 {
		t.Errorf("those with the dead socket are %v", holders)
	}
}

// A steered socket that the files give to another service has processes of both for
// a while. Each has a place of its own, and only its own service divides them.
func TestASteeredSocketThatMoves(t *testing.T) {
	table := socket.NewTable(nil)
	defer table.Close()
	d := New(table, func(name string, err error) { t.Error(name, err) })
	sockets := []*unit.Socket{{
		Name: "http", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}},
		Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse, Steer: true, Shards: 3,
	}}
	held := func() (all []Process) {
		for _, s := range table.Seats("http") {
			if s.Holder != 0 {
				all = append(all, d.Who(s.Holder))
			}
		}
		return all
	}
	for _, service := range []string{"former", "now"} {
		d.Set(service, []unit.Door{{Socket: sockets[0], Open: true}})
		if _, err := d.Enter(t.Context(), Process{service, 1}, sockets); err != nil {
			t.Fatal(err)
		}
	}
	if all := held(); len(all) != 2 || all[0] == all[1] {
		t.Errorf("places are held by %v", all)
	}
	d.Free(Process{"former", 1}, sockets)
	if all := held(); len(all) != 1 || all[0] != (Process{"now", 1}) {
		t.Errorf("then by %v", all)
	}
}

// Who has left is known for a while, and not for ever.
func TestPastVisitsAreBounded(t *testing.T) {
	h := newHouse(t)
	a := h.at("a")
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	for id := range unit.Invocation(3 * maxPast) {
		if err := h.enter(id+1, a); err != nil {
			t.Fatal(err)
		}
		h.Free(Process{"api", id + 1}, []*unit.Socket{a})
	}
	if n := len(h.visits.of); n != maxPast {
		t.Errorf("%d are known", n)
	}
	if who := h.Who(3 * maxPast); who != (Process{"api", 3 * maxPast}) {
		t.Errorf("the last was %v", who)
	}
}
