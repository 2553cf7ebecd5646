package socket

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// steered is a Table that listens at an address for as many processes.
func steered(t *testing.T, shards int, a ...unit.Address) *Table {
	t.Helper()
	s := spec("http", a...)
	s.Steer, s.Shards, s.Backlog = true, shards, 4096
	table := NewTable(nil)
	t.Cleanup(func() { table.Close() })
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	return table
}

func sit(t *testing.T, table *Table, ids ...unit.Invocation) {
	t.Helper()
	for _, id := range ids {
		must(t, table.Seat("http", id, false))
	}
}

func steer(t *testing.T, table *Table, shares map[unit.Invocation]int) {
	t.Helper()
	must(t, table.Steer("http", shares))
}

// connect makes n connections and leaves them in the queues.
func connect(t *testing.T, address string, n int) {
	t.Helper()
	for range n {
		c, err := dial(address)
		must(t, err)
		t.Cleanup(func() { c.Close() })
	}
}

// queues lists how many wait at each seat, by who holds it; 0 has all others.
func queues(table *Table) map[unit.Invocation]int {
	all := map[unit.Invocation]int{}
	for _, s := range table.Seats("http") {
		for _, shard := range s.Shards {
			if shard.Queue > 0 {
				all[s.Holder] += shard.Queue
			}
		}
	}
	return all
}

// await waits until so many are in the queues, and compares them.
func await(t *testing.T, table *Table, want map[unit.Invocation]int) {
	t.Helper()
	var got map[unit.Invocation]int
	waitFor(t, func() bool {
		got = queues(table)
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("waiting are %v, not %v", got, want)
	}
}

func steerable(t *testing.T) map[string]unit.Address {
	all := everyKind(t)
	maps := map[string]unit.Address{}
	for kind, a := range all {
		if a.Network == "tcp" {
			maps[kind] = a
		}
	}
	maps["v4 any"] = tcp("0.0.0.0", 0)
	return maps
}

// shard is the descriptor that a process gets.
func shardOf(t *testing.T, table *Table, id unit.Invocation) int {
	t.Helper()
	files, err := filesOf(table, "http", id)
	must(t, err)
	return files[0].FD
}

// TestSharesAreExact: of so many new connections each process gets its share, but
// for chance: six standard deviations, so one run in a billion fails by bad luck.
func TestSharesAreExact(t *testing.T) {
	const n = 4000
	table := steered(t, 3, tcp("127.0.0.1", 0))
	sit(t, table, 1, 2, 3)
	to, err := unix.Getsockname(shardOf(t, table, 1))
	must(t, err)
	var fds []unix.PollFd
	for _, id := range []unit.Invocation{1, 2, 3} {
		fds = append(fds, unix.PollFd{Fd: int32(shardOf(t, table, id)), Events: unix.POLLIN})
	}
	got := map[unit.Invocation]int{}
	take := func(shares map[unit.Invocation]int) {
		steer(t, table, shares)
		clear(got)
		for range n {
			c := knockAt(t, to)
			got[acceptAny(t, fds)]++
			unix.Close(c)
		}
	}
	for _, percent := range []int{1, 5, 50} {
		take(map[unit.Invocation]int{1: 100 - percent, 2: percent})
		mean := float64(n*percent) / 100
		bound := 6 * math.Sqrt(mean*(1-float64(percent)/100))
		if off := math.Abs(float64(got[2]) - mean); off > bound || got[3] > 0 {
			t.Errorf("asked for %d%% of %d: %v, more than %.0f from %.0f", percent, n, got, bound, mean)
		}
	}
}

func knockAt(t *testing.T, to unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Connect(fd, to))
	return fd
}

// acceptAny takes the one connection that waits somewhere, and resets it.
func acceptAny(t *testing.T, fds []unix.PollFd) unit.Invocation {
	t.Helper()
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			must(t, err)
			break
		}
	}
	for i, p := range fds {
		if p.Revents == 0 {
			continue
		}
		fd, _, err := unix.Accept4(int(p.Fd), unix.SOCK_CLOEXEC)
		must(t, err)
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
		return unit.Invocation(i + 1)
	}
	t.Fatal("nobody has it")
	return 0
}

// TestEachKindOfAddress is steered, mended and refused.
func TestEachKindOfAddress(t *testing.T) {
	for kind, a := range steerable(t) {
		t.Run(kind, func(t *testing.T) {
			table := steered(t, 3, a)
			sit(t, table, 1, 2, 3)
			address := table.Status("http")[0].Address
			for _, id := range []unit.Invocation{2, 1, 3} {
				steer(t, table, map[unit.Invocation]int{id: 7})
				connect(t, address, 5)
			}
			await(t, table, map[unit.Invocation]int{1: 5, 2: 5, 3: 5})
			must(t, unix.Shutdown(shardOf(t, table, 2), unix.SHUT_RD)) // its place is another's now
			if found := table.Audit("http"); len(found) != 1 || found[0].Holder != 2 || found[0].Err != nil {
				t.Errorf("found %v", found)
			}
			for _, id := range []unit.Invocation{1, 2, 3} {
				steer(t, table, map[unit.Invocation]int{id: 1})
				connect(t, address, 5)
			}
			await(t, table, map[unit.Invocation]int{1: 10, 2: 5, 3: 10})
			must(t, table.Refuse("http"))
			refused(t, address)
		})
	}
}

// TestRefusedRingStaysInOrder: however often a unit goes down and comes up, and
// whatever a process does to its socket meanwhile, shares go to whom they are for.
func TestRefusedRingStaysInOrder(t *testing.T) {
	table := steered(t, 3, tcp("127.0.0.1", 0))
	sit(t, table, 1, 2, 3)
	address := table.Status("http")[0].Address
	for round := range 4 {
		for _, id := range []unit.Invocation{3, 1, 2} {
			steer(t, table, map[unit.Invocation]int{id: 1})
			connect(t, address, int(id))
		}
		await(t, table, map[unit.Invocation]int{1: 1, 2: 2, 3: 3})
		must(t, table.Refuse("http"))
		refused(t, address)
		if round%2 == 1 {
			must(t, unix.Listen(shardOf(t, table, 3), 5))
		}
		must(t, table.Listen("http"))
	}
}

// TestSeatsAreGivenWithSense: a successor finds those who wait, a newcomer an
// empty seat, and one too many hears who is there.
func TestSeatsAreGivenWithSense(t *testing.T) {
	table := steered(t, 2, tcp("127.0.0.1", 0))
	address := table.Status("http")[0].Address
	connect(t, address, 2) // before anybody has a seat
	sit(t, table, 1, 1, 2)
	await(t, table, map[unit.Invocation]int{1: 2})
	err := table.Seat("http", 3, false)
	if full := (*NoSeatError)(nil); !errors.As(err, &full) || !slices.Equal(full.Holders, []unit.Invocation{1, 2}) {
		t.Fatalf("the third got %v", err)
	}
	if want := "cannot give socket http to one more process: all 2 seats are held (by invocations 1, 2)"; err.Error() != want {
		t.Errorf("%v", err)
	}
	if _, err := filesOf(table, "http", 3); err == nil {
		t.Error("the third got sockets")
	}
	steer(t, table, map[unit.Invocation]int{2: 1})
	connect(t, address, 1)
	table.Free("http", 2) // it crashed: it has the share and one client, 1 has two
	table.Free("http", 2)
	sit(t, table, 4)
	await(t, table, map[unit.Invocation]int{1: 2, 4: 1})
	steer(t, table, map[unit.Invocation]int{1: 1})
	table.Free("http", 4) // it left, a straggler waits; the empty seat comes first
	sit(t, table, 5)
	await(t, table, map[unit.Invocation]int{1: 2, 0: 1})
}

// TestSteerToNobody leaves things as they are, and says who has no seat.
func TestSteerToNobody(t *testing.T) {
	table := steered(t, 3, tcp("127.0.0.1", 0))
	sit(t, table, 1, 2)
	steer(t, table, map[unit.Invocation]int{2: 1})
	for _, shares := range []map[unit.Invocation]int{nil, {1: 0, 2: 0}} {
		steer(t, table, shares)
	}
	for _, shares := range []map[unit.Invocation]int{{9: 1}, {1: -1}, {1: 1 << 30}} {
		if err := table.Steer("http", shares); err == nil {
			t.Errorf("%v is no error", shares)
		}
	}
	connect(t, table.Status("http")[0].Address, 3)
	await(t, table, map[unit.Invocation]int{2: 3})
	if err := table.Steer("http", map[unit.Invocation]int{1: 1, 9: 1}); err == nil || !strings.Contains(err.Error(), "9") {
		t.Errorf("9 has no seat, and it says %v", err)
	}
	connect(t, table.Status("http")[0].Address, 3)
	await(t, table, map[unit.Invocation]int{1: 3, 2: 3})
	must(t, table.Seat("else", 1, false))
	must(t, table.Steer("else", map[unit.Invocation]int{1: 1}))
}

// TestSteeringChangesLater: what is open stays as it is, and status says so.
func TestSteeringChangesLater(t *testing.T) {
	plain := spec("http", tcp("127.0.0.1", 0))
	four, more := *plain, *plain
	four.Steer, four.Shards = true, 4
	more.Steer, more.Shards = true, 6
	for name, then := range map[string][2]*unit.Socket{"on": {plain, &four}, "off": {&four, plain}, "more": {&four, &more}} {
		table := NewTable(nil)
		must(t, table.Bind(then[0]))
		must(t, table.Listen("http"))
		before := table.Status("http")[0]
		must(t, table.Bind(then[1]))
		after := table.Status("http")[0]
		if after.Address != before.Address || after.Steered != before.Steered || !strings.Contains(after.Note, "until supervisord binds it anew") {
			t.Errorf("%s: %+v", name, after)
		}
		must(t, table.Drop("http"))
		must(t, table.Bind(then[1]))
		if st := table.Status("http")[0]; st.Steered != then[1].Steer || strings.Contains(st.Note, "anew") {
			t.Errorf("%s, after Drop: %+v", name, st)
		}
		must(t, table.Close())
	}
}

// TestManySteerAtOnce, look and meddle, while clients come; then all is in order.
func TestManySteerAtOnce(t *testing.T) {
	table := steered(t, 4, tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	must(t, table.Watch(func(string, Finding) {}))
	sit(t, table, 1, 2)
	address := table.Status("http")[0].Address
	var work sync.WaitGroup
	for id := range unit.Invocation(2) {
		work.Go(func() {
			for n := range 8 {
				for _, err := range []error{
					table.Seat("http", 10+id, false),
					table.Steer("http", map[unit.Invocation]int{1: n, 10 + id: 1}),
					unix.Shutdown(shardOf(t, table, 1+id), unix.SHUT_RD),
				} {
					if err != nil && err != unix.ENOTCONN {
						t.Error(err)
					}
				}
				table.Audit("http")
				table.Free("http", 10+id)
			}
		})
		work.Go(func() {
			for range 100 {
				table.Status("http")
				table.Seats("http")
				table.Settled("http", 1)
				filesOf(table, "http", 2)
			}
		})
	}
	work.Wait()
	table.Audit("http")
	must(t, table.Refuse("http"))
	must(t, table.Listen("http"))
	steer(t, table, map[unit.Invocation]int{2: 1})
	connect(t, address, 3)
	await(t, table, map[unit.Invocation]int{2: 3})
}

// TestSharedAddressesOfASteeredUnit are the same for all its processes.
func TestSharedAddressesOfASteeredUnit(t *testing.T) {
	table := steered(t, 2, file(shortDir(t)+"/x"), tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	sit(t, table, 1, 2)
	one, err := filesOf(table, "http", 1)
	must(t, err)
	two, err := filesOf(table, "http", 2)
	must(t, err)
	if len(one) != 3 || one[0] != two[0] || one[1] == two[1] || one[2] == two[2] {
		t.Errorf("%v and %v", one, two)
	}
	if st := table.Status("http"); st[0].Steered || st[0].Note == "" || !st[1].Steered {
		t.Errorf("%+v", st)
	}
	steer(t, table, map[unit.Invocation]int{2: 1})
	for _, st := range table.Status("http")[1:] {
		connect(t, st.Address, 2)
	}
	await(t, table, map[unit.Invocation]int{2: 4})
}

// TestOrdinaryUserSteers: none of it needs root.
func TestOrdinaryUserSteers(t *testing.T) {
	if asStranger(t) {
		t.Run("order", TestRefusedRingStaysInOrder)
		t.Run("kinds", TestEachKindOfAddress)
		t.Run("seats", TestSeatsAreGivenWithSense)
	}
}

// TestNobodyJoinsARing, of whatever user, whether it listens or refuses.
func TestNobodyJoinsARing(t *testing.T) {
	needRoot(t, "the sockets have a user of their own only then")
	table := steered(t, 3, tcp("127.0.0.1", 0))
	to, err := unix.Getsockname(table.units["http"].rings()[0].anchor.fd)
	must(t, err)
	for _, when := range []string{"it listens", "it refuses"} {
		for _, uid := range []int{0, stranger, 1000} {
			if err := join(t, to, uid); err != unix.EADDRINUSE {
				t.Errorf("while %s uid %d joined: %v", when, uid, err)
			}
		}
		must(t, table.Refuse("http"))
	}
	other := NewTable(nil)
	defer other.Close()
	s := spec("http", tcp("127.0.0.1", to.(*unix.SockaddrInet4).Port))
	s.Steer = true
	if err := other.Bind(s); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second supervisord joined: %v", err)
	}
}

// join binds as another user: a socket's user is that of who made it.
func join(t *testing.T, to unix.Sockaddr, uid int) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Fchown(fd, uid, -1))
	must(t, errors.Join(reuse(fd, true), reusePort(fd)))
	return unix.Bind(fd, to)
}

// TestMain's user cannot give sockets away: then two of his would share.
func TestSecondSupervisordOfOneUser(t *testing.T) {
	if !asStranger(t) {
		return
	}
	table := steered(t, 3, tcp("127.0.0.1", 0))
	if st := table.Status("http")[0]; os.Geteuid() != 0 && st.Note == "" {
		t.Error("status does not say that others of this user can join")
	}
	to, err := unix.Getsockname(table.units["http"].rings()[0].anchor.fd)
	must(t, err)
	other := NewTable(nil)
	defer other.Close()
	s := spec("http", tcp("127.0.0.1", to.(*unix.SockaddrInet4).Port))
	s.Steer = true
	if err := other.Bind(s); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second supervisord joined: %v", err)
	}
}
