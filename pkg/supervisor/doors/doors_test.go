package doors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

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
	if _, err := d.Enter(t.Context(), Process{"api", 1}, sockets); err != nil {
		t.Fatal(err)
	}
	d.Set("api", []unit.Door{{Socket: sockets[0]}})
	d.Free(Process{"api", 1}, sockets)
	for _, seat := range table.Seats("http") {
		if seat.Holder != 0 {
			t.Errorf("seat %d is held by %d, which is gone", seat.Index, seat.Holder)
		}
	}
}

// A house has doors to unix sockets, which tell by themselves whether they are open.
type house struct {
	*testing.T
	*Doors
	dir string
}

func newHouse(t *testing.T) *house {
	table := socket.NewTable(nil)
	t.Cleanup(func() { table.Close() })
	dir, err := os.MkdirTemp("", "doors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &house{t, New(table, func(name string, err error) { t.Log(name, err) }), dir}
}

// at is a definition of the socket unit "web".
func (h *house) at(file string) *unit.Socket {
	return &unit.Socket{
		Name: "web", Listen: []unit.Address{{Network: "unix", Path: filepath.Join(h.dir, file)}},
		Backlog: 8, Mode: 0o600, NonBlocking: true, WhenDown: unit.Refuse,
	}
}

// answers wants clients of these files to be taken, and of all others not.
func (h *house) answers(when string, files ...string) {
	h.Helper()
	for _, file := range []string{"a", "b"} {
		conn, err := net.Dial("unix", filepath.Join(h.dir, file))
		if err == nil {
			conn.Close()
		}
		if (err == nil) != slices.Contains(files, file) {
			h.Errorf("%s: %s answers with %v", when, file, err)
		}
	}
}

func (h *house) enter(id unit.Invocation, s *unit.Socket) error {
	_, err := h.Enter(h.Context(), Process{"api", id}, []*unit.Socket{s})
	return err
}

// A reload to another address that fails leaves the one that serves as it was, and
// lets the other one go; one that succeeds keeps both until the old process is gone.
func TestDoorsOfTwoGenerations(t *testing.T) {
	h := newHouse(t)
	a, b := h.at("a"), h.at("b")
	h.Configure([]*unit.Socket{a})
	h.answers("before the first start")
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	if err := h.enter(1, a); err != nil {
		t.Fatal(err)
	}
	h.answers("started", "a")
	h.Configure([]*unit.Socket{b}) // daemon-reload
	h.answers("with other files", "a")
	h.Set("api", []unit.Door{{Socket: b, Open: true}, {Socket: a, Open: true}}) // reload
	if err := h.enter(2, b); err != nil {
		t.Fatal(err)
	}
	h.answers("in bake", "a", "b")
	h.Free(Process{"api", 2}, []*unit.Socket{b})
	h.Set("api", []unit.Door{{Socket: a, Open: true}}) // which failed
	h.answers("when it has failed", "a")
	h.Set("api", []unit.Door{{Socket: b, Open: true}, {Socket: a, Open: true}})
	if err := h.enter(3, b); err != nil {
		t.Fatal(err)
	}
	h.Free(Process{"api", 1}, []*unit.Socket{a})
	h.Set("api", []unit.Door{{Socket: b, Open: true}})
	h.answers("when the old process is gone", "b")
	h.Set("api", nil)
	h.answers("stopped")
	if err := h.enter(4, b); !errors.Is(err, ErrUnwanted) {
		t.Errorf("a start that comes too late is told %v", err)
	}
	h.Configure(nil)
	if _, err := os.Lstat(filepath.Join(h.dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what nobody names is still there: %v", err)
	}
}

// A door is open for as long as one service wants that.
func TestADoorOfTwoServices(t *testing.T) {
	h := newHouse(t)
	a := h.at("a")
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	h.Set("web", []unit.Door{{Socket: a, Open: true}})
	h.Set("api", nil)
	h.answers("one left", "a")
	h.Set("web", []unit.Door{{Socket: a}})
	h.answers("the other does not serve")
}

// An address that cannot be had is the error of whoever enters, and the others stay.
func TestAnAddressThatSomebodyElseHas(t *testing.T) {
	h := newHouse(t)
	a, b := h.at("a"), h.at("b")
	other, err := net.Listen("unix", filepath.Join(h.dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	h.Set("api", []unit.Door{{Socket: b, Open: true}, {Socket: a, Open: true}})
	var bind *socket.BindError
	if err := h.enter(2, b); !errors.As(err, &bind) || h.Err("web") == nil {
		t.Errorf("it is told %v, and of the unit %v", err, h.Err("web"))
	}
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	if err := h.enter(3, a); err != nil || h.Err("web") != nil {
		t.Errorf("the old address: %v, %v", err, h.Err("web"))
	}
	h.answers("after that", "a", "b")
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
			if _, err := d.Enter(ctx, Process{"api", id + 1}, []*unit.Socket{s}); err == nil {
				t.Error("it entered")
			}
			cancel()
			d.Free(Process{"api", id + 1}, []*unit.Socket{s})
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

// A file system that hangs holds up a service once, not with each of its changes; what
// it is said of is the socket that it is about. One that has answered is waited for
// again.
func TestWhatHangsHoldsNobodyUpTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := socket.NewTable(nil)
		defer table.Close()
		var said []string
		d := New(table, func(name string, err error) { said = append(said, name) })
		other := &unit.Socket{Name: "admin", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}}, Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse}
		s := &unit.Socket{Name: "http", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}}, Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse}
		for range 2 {
			release := stuck(t, d, s)
			for n := range 6 {
				began := time.Now()
				d.Set("api", []unit.Door{{Socket: other, Open: n%2 == 0}, {Socket: s, Open: n%2 == 1}})
				if took, first := time.Since(began), n == 0; first != (took >= patience) {
					t.Errorf("change %d waits for %v", n, took)
				}
				synctest.Wait() // the other is done by itself
				if st := table.Status("admin"); len(st) != 1 || st[0].Listening != (n%2 == 0) {
					t.Errorf("change %d: the other socket is %+v", n, st)
				}
			}
			release()
			synctest.Wait()
			if st := table.Status("http"); len(st) != 1 || !st[0].Listening {
				t.Errorf("it is %+v", st)
			}
		}
		if fmt.Sprint(said) != "[http http]" {
			t.Errorf("it is said of %q", said)
		}
		d.Set("api", nil)
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
		if _, err := d.Enter(t.Context(), Process{"api", 1}, []*unit.Socket{s}); err != nil {
			t.Fatal(err)
		}
		d.Configure(nil)
		d.Set("api", nil)
		d.Free(Process{"api", 1}, []*unit.Socket{s})
		d.Err(s.Name)
	}
	d.Holders("strange", 1)
	if len(d.each)+len(d.demand.wanted)+len(d.demand.each) > 0 {
		t.Errorf("%d doors, %d wishes and %d services are kept for nobody", len(d.each), len(d.demand.wanted), len(d.demand.each))
	}
}

// What a process is about to be started with stays what it is, also when the socket
// is found dead and replaced before the process is there.
func TestWhatIsLentStaysWhatItIs(t *testing.T) {
	h := newHouse(t)
	a := h.at("a")
	h.Set("api", []unit.Door{{Socket: a, Open: true}})
	files, err := h.Enter(t.Context(), Process{"api", 1}, []*unit.Socket{a})
	if err != nil {
		t.Fatal(err)
	}
	if err := lose(filepath.Join(h.dir, "a")); err != nil {
		t.Fatal(err)
	}
	h.table.Audit("web")
	cookie, err := unix.GetsockoptUint64(files[0].FD, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil || cookie != files[0].Cookie {
		t.Errorf("it has the cookie %d, %v; want %d", cookie, err, files[0].Cookie)
	}
}

// A steered socket whose unit has a path in a file system that hangs does not hold up
// who divides its connections; however often, only one waits for its turn, and what
// was said last is done.
func TestSteeringWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := socket.NewTable(nil)
		defer table.Close()
		d := New(table, func(string, error) {})
		s := &unit.Socket{
			Name: "http", Listen: []unit.Address{{Network: "tcp", Host: "127.0.0.1"}},
			Backlog: 8, NonBlocking: true, WhenDown: unit.Refuse, Steer: true, Shards: 2,
		}
		d.Set("api", []unit.Door{{Socket: s, Open: true}})
		files, err := d.Enter(t.Context(), Process{"api", 1}, []*unit.Socket{s})
		if err != nil {
			t.Fatal(err)
		}
		socket.Close(files)
		release := stuck(t, d, s)
		before := runtime.NumGoroutine()
		for weight := range 20 {
			if d.Steer("api", []unit.Share{{ID: 1, Weight: weight + 1}}) == nil {
				t.Error("it is said to be done")
			}
		}
		if n := runtime.NumGoroutine() - before; n > 1 {
			t.Errorf("%d goroutines wait", n)
		}
		release()
		synctest.Wait()
		if seats := table.Seats("http"); seats[0].Share != 20 && seats[1].Share != 20 && seats[2].Share != 20 {
			t.Errorf("the seats are %+v", seats)
		}
	})
}

// Two sockets swap their addresses. While both serve neither can have the other's;
// when they are down each lets go what it is not to have any more.
func TestTwoSocketsSwapTheirAddresses(t *testing.T) {
	h := newHouse(t)
	of := func(name, file string) *unit.Socket { s := *h.at(file); s.Name = name; return &s }
	start := func(service string, id unit.Invocation, s *unit.Socket) error {
		h.Set(service, []unit.Door{{Socket: s, Open: true}})
		_, err := h.Enter(t.Context(), Process{service, id}, []*unit.Socket{s})
		return err
	}
	x, y := of("x", "a"), of("y", "b")
	h.Configure([]*unit.Socket{x, y})
	if err := errors.Join(start("api", 1, x), start("web", 1, y)); err != nil {
		t.Fatal(err)
	}
	h.Configure([]*unit.Socket{of("x", "b"), of("y", "a")})
	h.answers("while they serve", "a", "b")
	h.Free(Process{"api", 1}, []*unit.Socket{x})
	h.Free(Process{"web", 1}, []*unit.Socket{y})
	x, y = of("x", "b"), of("y", "a")
	first := start("api", 2, x) // which may come too early: it is started again
	if err := start("web", 2, y); err != nil {
		t.Errorf("web: %v, before that api: %v", err, first)
	}
	if err := start("api", 3, x); err != nil {
		t.Errorf("api: %v", err)
	}
	h.answers("swapped", "a", "b")
	h.Set("api", nil)
	h.answers("without api", "a")
}

// lose takes both names from the socket at a path, so that nothing can put it back.
func lose(at string) error { return errors.Join(os.Remove(at+".spare"), os.Remove(at)) }
