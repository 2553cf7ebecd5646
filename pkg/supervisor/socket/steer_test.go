package socket

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// TestSteeringIsTested where all tests are to run: the others of this file skip where
// the kernel does not let us steer.
func TestSteeringIsTested(t *testing.T) {
	if err := Steerable(); err != nil && os.Getenv("CI") != "" {
		t.Errorf("CI does not test steering: %v", err)
	}
}

func needSteering(t *testing.T) {
	t.Helper()
	if err := Steerable(); err != nil {
		t.Skipf("needs CAP_BPF and Linux 5.14: %v", err)
	}
}

// steered is a Table that listens at addresses.
func steered(t *testing.T, a ...unit.Address) *Table {
	t.Helper()
	return steeredAs(t, spec("http", a...))
}

func steeredAs(t *testing.T, s *unit.Socket) *Table {
	t.Helper()
	needSteering(t)
	s.Steer, s.Backlog = true, 4096
	table := NewTable(nil)
	t.Cleanup(func() { table.Close() })
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	return table
}

// enter gives processes shards, and has each of them hold its sockets.
func enter(t *testing.T, table *Table, ids ...unit.Invocation) {
	t.Helper()
	for _, id := range ids {
		must(t, table.Open("http", id))
		_, err := filesOf(table, "http", id)
		must(t, err)
	}
}

type shares map[unit.Invocation]int

func steer(t *testing.T, table *Table, s shares) {
	t.Helper()
	must(t, table.Steer("http", s, false))
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

func addressOf(table *Table) string { return table.Status("http")[0].Address }

// queues lists how many wait for each process; 0 is the room.
func queues(table *Table) shares {
	all := shares{}
	for _, p := range table.Processes("http") {
		for _, s := range p.Shards {
			if s.Queue > 0 {
				all[p.Holder] += s.Queue
			}
		}
	}
	return all
}

// await waits until so many are in the queues.
func await(t *testing.T, table *Table, want shares) {
	t.Helper()
	var got shares
	for range 20_000 { // milliseconds, and then it never comes
		if got = queues(table); maps.Equal(got, want) {
			return
		}
		unix.Poll(nil, 1)
	}
	t.Errorf("waiting are %v, not %v", got, want)
}

// awaitAbout is await for shares of a few, which are exact to one or two of them.
func awaitAbout(t *testing.T, table *Table, want shares) {
	t.Helper()
	var got shares
	for range 20_000 {
		got = queues(table)
		near, sum := len(got) == len(want), 0
		for id, n := range want {
			near = near && got[id] >= n-2 && got[id] <= n+2
			sum += n - got[id]
		}
		if near && sum == 0 {
			return
		}
		unix.Poll(nil, 1)
	}
	t.Errorf("waiting are %v, not about %v", got, want)
}

func steerable(t *testing.T) map[string]unit.Address {
	all := map[string]unit.Address{"v4 any": tcp("0.0.0.0", 0)}
	for kind, a := range everyKind(t) {
		if a.Network == "tcp" {
			all[kind] = a
		}
	}
	return all
}

// shardOf is the descriptor that a process gets.
func shardOf(t *testing.T, table *Table, id unit.Invocation) int {
	t.Helper()
	files, err := filesOf(table, "http", id)
	must(t, err)
	return files[0].FD
}

// copyOf is what a process has after its start.
func copyOf(t *testing.T, fd int) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	return fd
}

func steersAsItShould(t *testing.T, table *Table) {
	t.Helper()
	if found := table.Audit("http"); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if st := table.Status("http")[0]; st.Err != nil {
		t.Errorf("status has %v", st.Err)
	}
}

// Of 20,000 connections, one after the other, each process gets its share to the last.
func TestSharesAreExact(t *testing.T) {
	const n = 2 * cardCount
	all := []shares{{1: 95, 2: 5}, {1: 99, 2: 1}, {1: 1, 2: 1}, {1: 999, 2: 1}, {1: 1, 2: 1, 3: 1}}
	if raced {
		all = all[:1]
	}
	for _, s := range all {
		table := steered(t, tcp("127.0.0.1", 0))
		enter(t, table, 1, 2, 3)
		steer(t, table, s)
		got := count(t, table, n)
		total := 0
		for _, w := range s {
			total += w
		}
		for id, w := range s {
			if want := float64(n) * float64(w) / float64(total); float64(got[id]) < want-2 || float64(got[id]) > want+2 {
				t.Errorf("of %v process %d got %d of %d, not %.0f", s, id, got[id], n, want)
			}
		}
		for _, p := range table.Processes("http") {
			if want := s[p.Holder] * cardCount / total; p.Share < want || p.Share > want+1 {
				t.Errorf("of %v process %d is said to have %d of %d", s, p.Holder, p.Share, cardCount)
			}
		}
	}
}

// count has n clients come, and accepts each.
func count(t *testing.T, table *Table, n int) shares {
	t.Helper()
	to, err := unix.Getsockname(shardOf(t, table, 1))
	must(t, err)
	var fds []unix.PollFd
	for _, id := range []unit.Invocation{1, 2, 3} {
		fds = append(fds, unix.PollFd{Fd: int32(shardOf(t, table, id)), Events: unix.POLLIN})
	}
	got := shares{}
	for range n {
		c := knockAt(t, to)
		got[acceptAny(t, fds)]++
		unix.Close(c)
	}
	return got
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

// A service comes up: who came before it has a process finds one before its program
// runs.
func TestFirstStart(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	connect(t, addressOf(table), 3)
	await(t, table, shares{0: 3})
	steer(t, table, shares{1: 100}) // it is known who is to have them
	await(t, table, shares{0: 3})
	enter(t, table, 1)
	await(t, table, shares{1: 3})
	connect(t, addressOf(table), 2)
	await(t, table, shares{1: 5})
	steersAsItShould(t, table)
}

// A start that fails gives back who waited for it.
func TestFirstStartFails(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	steer(t, table, shares{1: 100})
	enter(t, table, 1)
	connect(t, addressOf(table), 3)
	steer(t, table, nil)
	table.Free("http", 1)
	await(t, table, shares{0: 3})
	must(t, table.Steer("http", nil, true)) // it will not be tried again
	await(t, table, shares{})
	refused(t, addressOf(table))
	steersAsItShould(t, table)
}

// A reload: Next has nobody before the switch, Old nobody after it, and who still waits
// at Old when it is gone waits at Next.
func TestSwitch(t *testing.T) {
	for kind, a := range steerable(t) {
		t.Run(kind, func(t *testing.T) {
			table := steered(t, a)
			enter(t, table, 1)
			steer(t, table, shares{1: 100})
			connect(t, addressOf(table), 5)
			enter(t, table, 2)
			connect(t, addressOf(table), 5)
			await(t, table, shares{1: 10})
			steer(t, table, shares{2: 100})
			connect(t, addressOf(table), 5)
			await(t, table, shares{1: 10, 2: 5})
			table.Free("http", 1)
			await(t, table, shares{2: 15})
			steersAsItShould(t, table)
		})
	}
}

// A canary dies with a queue: Main has it.
func TestAbortWithAQueue(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 50, 2: 50})
	connect(t, addressOf(table), 40)
	awaitAbout(t, table, shares{1: 20, 2: 20})
	steer(t, table, shares{1: 100})
	table.Free("http", 2)
	await(t, table, shares{1: 40})
	steersAsItShould(t, table)
}

// The only process crashes: the one after it has who waited for the first.
func TestCrashOfTheOnlyProcess(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 100})
	connect(t, addressOf(table), 20)
	steer(t, table, nil)
	table.Free("http", 1)
	connect(t, addressOf(table), 5)
	await(t, table, shares{0: 25})
	steer(t, table, shares{2: 100})
	enter(t, table, 2)
	await(t, table, shares{2: 25})
	steersAsItShould(t, table)
}

// One of three crashes: its clients go to the others at once.
func TestCrashOfOneOfThree(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2, 3)
	steer(t, table, shares{1: 1, 2: 1, 3: 1})
	connect(t, addressOf(table), 30)
	awaitAbout(t, table, shares{1: 10, 2: 10, 3: 10})
	steer(t, table, shares{1: 1, 3: 1})
	table.Free("http", 2)
	awaitAbout(t, table, shares{1: 15, 3: 15})
	steersAsItShould(t, table)
}

// Each of three is replaced, while there are more for a time: nobody is lost.
func TestRollingAndScaling(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2, 3)
	now := shares{1: 100, 2: 100, 3: 100}
	steer(t, table, now)
	next := unit.Invocation(4)
	come := func(old unit.Invocation) {
		enter(t, table, next)
		delete(now, old)
		now[next] = 100
		steer(t, table, now)
		connect(t, addressOf(table), 12)
		table.Free("http", old)
		next++
	}
	for old := unit.Invocation(1); old <= 6; old++ {
		if old == 4 { // nine more
			for range 9 {
				come(0)
			}
		}
		come(old)
	}
	total := 0
	for _, n := range queues(table) {
		total += n
	}
	if want := 12 * 15; total != want || len(queues(table)) != len(now) {
		t.Errorf("%d of %d wait: %v", total, want, queues(table))
	}
	steersAsItShould(t, table)
}

// A stop refuses from its first step on, also those who waited; the address stays ours.
func TestStopRefuses(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 100})
	address := addressOf(table)
	c, err := dial(address)
	must(t, err)
	defer c.Close()
	must(t, table.Steer("http", nil, true))
	refused(t, address)
	if queues(table)[1] != 1 {
		t.Errorf("who was there before waits no more: %v", queues(table))
	}
	table.Free("http", 1)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("who waited got %v", err)
	}
	must(t, table.Refuse("http"))
	refused(t, address)
	if st := table.Status("http")[0]; st.Listening || st.Queue > 0 {
		t.Errorf("%+v", st)
	}
	if _, err := net.Listen("tcp", address); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("another could listen there: %v", err)
	}
	must(t, table.Listen("http"))
	steer(t, table, nil) // somebody will be started
	connect(t, address, 2)
	await(t, table, shares{0: 2})
}

// With when_down = "queue" they wait instead, also who was at Old.
func TestStopQueues(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	s.WhenDown = unit.Queue
	table := steeredAs(t, s)
	enter(t, table, 1)
	steer(t, table, shares{1: 100})
	connect(t, addressOf(table), 3)
	must(t, table.Steer("http", nil, true))
	connect(t, addressOf(table), 2)
	await(t, table, shares{0: 2, 1: 3})
	table.Free("http", 1)
	must(t, table.Refuse("http"))
	await(t, table, shares{0: 5})
	steer(t, table, shares{2: 100})
	enter(t, table, 2)
	await(t, table, shares{2: 5})
}

// All addresses of a unit are switched by one write; port 0 is one port for all.
func TestSeveralAddresses(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	enter(t, table, 1, 2)
	for _, id := range []unit.Invocation{1, 2, 1} {
		steer(t, table, shares{id: 100})
		for _, st := range table.Status("http") {
			connect(t, st.Address, 2)
		}
	}
	await(t, table, shares{1: 8, 2: 4})
	table.Free("http", 2)
	await(t, table, shares{1: 12})
	steersAsItShould(t, table)
}

// An address that is new has no process yet: who comes there waits for the next.
func TestAddressIsAdded(t *testing.T) {
	a := tcp("127.0.0.1", 0)
	table := steered(t, a)
	enter(t, table, 1)
	steer(t, table, shares{1: 100})
	s := *spec("http", a, tcp("127.0.0.2", 0))
	s.Steer = true
	must(t, table.Bind(&s))
	must(t, table.Listen("http"))
	added := table.Status("http")[1].Address
	connect(t, added, 3)
	await(t, table, shares{0: 3})
	steersAsItShould(t, table)
	must(t, table.Open("http", 2))
	_, err := table.Files(&s, 2)
	must(t, err)
	steer(t, table, shares{2: 100})
	await(t, table, shares{2: 3})
	must(t, table.Bind(spec2(&s, a))) // and now the other is the only one
	table.Free("http", 1)
	table.Free("http", 2)
	must(t, table.Trim("http"))
	if st := table.Status("http"); len(st) != 1 {
		t.Errorf("%+v", st)
	}
	refused(t, added)
}

func spec2(s *unit.Socket, a ...unit.Address) *unit.Socket {
	is := *s
	is.Listen = a
	return &is
}

// A backlog is the next process's; the room has it at once.
func TestBacklogChanges(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	table := steeredAs(t, s)
	enter(t, table, 1)
	more := *s
	more.Backlog = 7
	must(t, table.Bind(&more))
	enter(t, table, 2)
	var limits []int
	for _, p := range table.Processes("http") {
		limits = append(limits, p.Shards[0].Limit)
	}
	if fmt.Sprint(limits) != fmt.Sprint([]int{7, min(4096, somaxconn()), 7}) {
		t.Errorf("limits of room, old and new: %v", limits)
	}
}

// What is shared becomes steered, and the other way round, when no process has it any
// more; until then status says so.
func TestSteerChanges(t *testing.T) {
	needSteering(t)
	shared := spec("http", tcp("127.0.0.1", 0))
	steered := *shared
	steered.Steer = true
	for name, then := range map[string][2]*unit.Socket{"on": {shared, &steered}, "off": {&steered, shared}} {
		t.Run(name, func(t *testing.T) {
			table := NewTable(nil)
			defer table.Close()
			must(t, table.Bind(then[0]))
			must(t, table.Listen("http"))
			enter(t, table, 1)
			steer(t, table, shares{1: 1})
			before := table.Status("http")[0]
			must(t, table.Bind(then[1]))
			st := table.Status("http")[0]
			if st.Address != before.Address || st.Steered != before.Steered || st.Note == "" {
				t.Errorf("while a process has it: %+v", st)
			}
			table.Free("http", 1)
			connect(t, st.Address, 1)
			must(t, table.Bind(then[1]))
			if st := table.Status("http")[0]; st.Steered != before.Steered {
				t.Errorf("while a client waits: %+v", st)
			}
			must(t, table.Refuse("http"))
			must(t, table.Listen("http"))
			must(t, table.Refuse("http"))
			must(t, table.Bind(then[1]))
			if st := table.Status("http")[0]; st.Steered == before.Steered || st.Note != "" {
				t.Errorf("when nobody has it: %+v", st)
			}
		})
	}
}

// Shared addresses of a steered unit are the same for all its processes.
func TestSharedAddressesOfASteeredUnit(t *testing.T) {
	table := steered(t, file(shortDir(t)+"/x"), tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	enter(t, table, 1, 2)
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
}

// Odd calls are errors, or nothing.
func TestSteeringNobody(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	for _, s := range []shares{{1: -1}, {1: 1 << 30}} {
		if err := table.Steer("http", s, false); err == nil {
			t.Errorf("%v is no error", s)
		}
	}
	if err := table.Open("http", 0); err == nil {
		t.Error("a process without an id got a shard")
	}
	if _, err := filesOf(table, "http", 9); err == nil || !strings.Contains(err.Error(), "no socket there") {
		t.Errorf("who has no shard got %v", err)
	}
	table.Free("http", 9)
	table.Leaving("http", 9)
	must(t, table.Open("else", 1))
	must(t, table.Steer("else", shares{1: 1}, false))
	if n, still := table.Waiting("else", 1); n != 0 || still != 0 || table.Processes("else") != nil {
		t.Errorf("%d wait since %v", n, still)
	}
	enter(t, table, 1, 1)
	if n := len(table.Processes("http")); n != 2 {
		t.Errorf("the room and one process are %d", n)
	}
}

// All keys but the room's can be had, in turn; one more is refused.
func TestAllKeys(t *testing.T) {
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < 2*keyCount {
		t.Skipf("needs %d files, has %d", 2*keyCount, limit.Cur)
	}
	table := steered(t, tcp("127.0.0.1", 0))
	for id := range unit.Invocation(keyCount - 1) {
		must(t, table.Open("http", id+1))
	}
	if err := table.Open("http", keyCount); err == nil || !strings.Contains(err.Error(), "1023 have it") {
		t.Errorf("one more: %v", err)
	}
	table.Free("http", 5)
	must(t, table.Open("http", keyCount))
	steer(t, table, shares{keyCount: 1})
	connect(t, addressOf(table), 2)
	await(t, table, shares{keyCount: 2})
}

// Processes come and go as often as they like.
func TestManyShardsComeAndGo(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	before, n := openFiles(t), unit.Invocation(3000)
	if raced {
		n = 300
	}
	for id := range n {
		must(t, table.Open("http", id+1))
		steer(t, table, shares{id + 1: 1})
		table.Free("http", id)
	}
	connect(t, addressOf(table), 2)
	await(t, table, shares{n: 2})
	if now := openFiles(t); now > before+4 {
		t.Errorf("%d files are open, %d were", now, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

// A hung process is told to go: the next one has its clients soon. One that takes its
// clients, however slowly, is left alone.
func TestHungProcess(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	found := watching(t, table)
	enter(t, table, 1)
	steer(t, table, shares{1: 100})
	connect(t, addressOf(table), 60)
	enter(t, table, 2)
	steer(t, table, shares{2: 100})
	if n, _ := table.Waiting("http", 1); n != 60 {
		t.Errorf("%d wait for it", n)
	}
	await(t, table, shares{1: 60})
	table.Leaving("http", 1)
	await(t, table, shares{2: 60})
	if still := accepts(shardOf(t, table, 1)); still {
		t.Error("its shard listens on")
	}
	const want = "invocation 1 was told to end and takes nobody any more; those who wait in its queue (60) go to who serves"
	if f := <-found; !strings.HasSuffix(f.String(), want) {
		t.Errorf("it is told as %q", f)
	}
	steersAsItShould(t, table)
}

// A server that is late with its signal, and slow, sees no error before its time.
func TestLateServer(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 100})
	connect(t, addressOf(table), 12)
	steer(t, table, shares{2: 100})
	table.Leaving("http", 1)
	fd := shardOf(t, table, 1)
	for n := range 12 { // 600 ms
		c, err := accept(fd)
		if err != nil {
			t.Fatalf("accept %d: %v", n, err)
		}
		unix.Close(c)
		<-time.After(50 * time.Millisecond) // it is slow
	}
	table.Audit("http")
	if !accepts(fd) {
		t.Error("its shard was shut although nobody waited")
	}
}

// A process that drains and accepts on is left alone; who comes late to it, from a
// handshake of before, and is not taken moves on.
func TestLameDuck(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	must(t, table.Watch(func(string, Finding) {}))
	enter(t, table, 1, 2)
	steer(t, table, shares{2: 100})
	table.Leaving("http", 1)
	for range 3 {
		table.Audit("http")
	}
	if !accepts(shardOf(t, table, 1)) {
		t.Fatal("its shard was shut although nobody waited")
	}
	c, err := table.Dial("http", "", 1)
	must(t, err)
	defer unix.Close(c)
	await(t, table, shares{2: 1})
}

// A worker accepts until its listener is closed, and answers whom it has accepted.
type worker struct {
	id       unit.Invocation
	listener net.Listener
	done     sync.WaitGroup
}

func work(t *testing.T, table *Table, id unit.Invocation) *worker {
	t.Helper()
	f := os.NewFile(uintptr(copyOf(t, shardOf(t, table, id))), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	must(t, err)
	w := &worker{id: id, listener: l}
	w.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.done.Go(func() { answerOnce(c) })
		}
	})
	return w
}

func answerOnce(c net.Conn) {
	defer c.Close()
	b := make([]byte, 1)
	if _, err := c.Read(b); err == nil {
		c.Write(b)
	}
}

func (w *worker) stop() {
	w.listener.Close()
	w.done.Wait()
}

// ask is a client with one request, who takes no for an answer.
func ask(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// Process after process takes over under load. Each old one stops to accept at once,
// with a queue, and is gone when it has answered whom it had: every client has an answer.
func TestSwitchLosesNobody(t *testing.T) {
	const switches, clients = 50, 4
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	old := work(t, table, 1)
	defer func() { old.stop() }()
	address := addressOf(table)
	var enough atomic.Bool
	var asked, lost atomic.Int64
	var load sync.WaitGroup
	for range clients {
		load.Go(func() {
			for !enough.Load() {
				if err := ask(address); err != nil {
					lost.Add(1)
					t.Log(err)
				}
				asked.Add(1)
			}
		})
	}
	for n := range switches {
		id := unit.Invocation(n + 2)
		enter(t, table, id)
		next := work(t, table, id)
		steer(t, table, shares{id: 1})
		old.stop()
		table.Free("http", old.id)
		old = next
		for at := asked.Load() + 2*clients; asked.Load() < at; { // some clients for each
			unix.Poll(nil, 1)
		}
	}
	enough.Store(true)
	load.Wait()
	t.Logf("%d asked, %d lost", asked.Load(), lost.Load())
	if lost.Load() > 0 {
		t.Errorf("%d of %d clients had no answer", lost.Load(), asked.Load())
	}
	if st := table.Status("http")[0]; st.Drops > 0 || st.Last != nil {
		t.Errorf("%+v", st)
	}
}

// Drops of shards that are closed are counted on.
func TestSteeredDropsAreCounted(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	table := steeredAs(t, s)
	few := *s
	few.Backlog = 1
	must(t, table.Bind(&few))
	enter(t, table, 1, 2)
	steer(t, table, shares{2: 1})
	to := callTo(t, table, 0)
	waitFor(t, func() bool {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		unix.Connect(fd, to)
		return table.Status("http")[0].Drops > 0
	})
	if all := table.Processes("http"); all[2].Holder != 2 || all[2].Shards[0].Drops == 0 || all[1].Shards[0].Drops > 0 || all[2].Shards[0].Limit != 1 {
		t.Errorf("%+v", all)
	}
	before := table.Status("http")[0].Drops
	steer(t, table, shares{1: 1})
	table.Free("http", 2)
	if after := table.Status("http")[0].Drops; after < before {
		t.Errorf("%d drops were counted, then %d", before, after)
	}
}

// callTo is where a client of this machine finds an address of the unit.
func callTo(t *testing.T, table *Table, address int) unix.Sockaddr {
	t.Helper()
	_, to := callers(table.find("http").rings()[address].to)
	return to
}

// A call reaches the process that is meant, whatever the shares, and changes nothing for
// others.
func TestCall(t *testing.T) {
	for kind, a := range steerable(t) {
		t.Run(kind, func(t *testing.T) {
			table := steered(t, a)
			enter(t, table, 1, 2)
			steer(t, table, shares{1: 100})
			for _, id := range []unit.Invocation{2, 1, 2} {
				c, err := table.Dial("http", "", id)
				must(t, err)
				defer unix.Close(c)
			}
			connect(t, addressOf(table), 3)
			await(t, table, shares{1: 4, 2: 2})
		})
	}
}

func TestCallThatFails(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	table := steeredAs(t, s)
	few := *s
	few.Backlog = 1
	must(t, table.Bind(&few))
	enter(t, table, 1)
	var last error
	for range 5 {
		c, err := table.Dial("http", addressOf(table), 1)
		if err == nil {
			defer unix.Close(c)
		}
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "queue is full") {
		t.Errorf("one call too many: %v", last)
	}
	for address, id := range map[string]unit.Invocation{"": 9, "127.0.0.1:1": 1} {
		if _, err := table.Dial("http", address, id); err == nil {
			t.Errorf("%q, process %d: no error", address, id)
		}
	}
}

// None of it needs root: CAP_BPF is enough.
func TestOrdinaryUserSteers(t *testing.T) {
	if !asUserWithBPF(t) {
		return
	}
	for name, test := range map[string]func(*testing.T){
		"first": TestFirstStart, "switch": TestSwitch, "crash": TestCrashOfTheOnlyProcess, "stop": TestStopRefuses,
		"addresses": TestSeveralAddresses, "hung": TestHungProcess, "ends": TestEveryEndMovesTheQueue,
		"detached": TestDetachedAtTheEnd, "meddling": TestMeddlingIsUndone, "load": TestSwitchLosesNobody, "call": TestCall,
	} {
		t.Run(name, test)
	}
}

// asUserWithBPF is asStranger with one capability.
func asUserWithBPF(t *testing.T) bool {
	t.Helper()
	if os.Getenv("WITH_BPF") != "" {
		return true
	}
	needRoot(t, "a capability is to be given")
	needSteering(t)
	cmd := role()
	cmd.Args = append(cmd.Args, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "WITH_BPF=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as(stranger), AmbientCaps: []uintptr{unix.CAP_BPF}}
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) || strings.Contains(string(out), "--- SKIP") {
		t.Fatalf("as uid %d with CAP_BPF: %v\n%s", stranger, err, out)
	}
	return false
}

// Without it nobody can steer, and is told what would help.
func TestWithoutTheCapability(t *testing.T) {
	if !asStranger(t) {
		return
	}
	if os.Getenv("WITH_BPF") != "" || Steerable() == nil {
		t.Skip("has the capability")
	}
	if err := Steerable(); !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("it says %v", err)
	}
	s := spec("http", tcp("127.0.0.1", 0))
	s.Steer = true
	table := NewTable(nil)
	defer table.Close()
	if err := table.Bind(s); err == nil || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("binding says %v", err)
	}
	if st := table.Status("http"); len(st) > 0 {
		t.Errorf("%+v", st)
	}
}

// Each reason for the refusal has its words.
func TestWhyNot(t *testing.T) {
	for cause, want := range map[error]string{
		unix.EPERM:  "CAP_BPF",
		unix.ENOSYS: "CONFIG_BPF_SYSCALL",
		unix.EINVAL: "Linux 5.14",
		unix.EACCES: "security policy",
		unix.ENOMEM: unix.ENOMEM.Error(),
	} {
		err := unsteerable(fmt.Errorf("cannot: %w", cause))
		if !strings.Contains(err.Error(), want) || !errors.Is(err, cause) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

// Who is refused learns what is missing: a capability is worth nothing in a user
// namespace, and of no use where a filter is in the way.
func TestWhyForbidden(t *testing.T) {
	for _, c := range []struct {
		may, inNamespace bool
		want             string
	}{
		{false, false, "--cap-add BPF"},
		{true, false, "seccomp"},
		{true, true, "rootless"},
		{false, true, "rootless"},
	} {
		if got := forbidden(c.may, c.inNamespace); !strings.Contains(got, "CAP_BPF") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if inUserNamespace("/nowhere") {
		t.Error("without /proc it is in one")
	}
	if !inUserNamespace("/proc/self/ns/mnt") {
		t.Error("another number is the first one's")
	}
}

// Processes come, go and look at once; then all is in order.
func TestManySteerAtOnce(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	must(t, table.Watch(func(string, Finding) {}))
	enter(t, table, 1, 2)
	address := addressOf(table)
	var work sync.WaitGroup
	for id := range unit.Invocation(2) {
		work.Go(func() {
			for n := range 20 {
				if err := errors.Join(table.Open("http", 10+id), table.Steer("http", shares{1: n, 10 + id: 1}, false)); err != nil {
					t.Error(err)
				}
				table.Leaving("http", 10+id)
				table.Audit("http")
				table.Free("http", 10+id)
			}
		})
		work.Go(func() {
			for range 100 {
				table.Status("http")
				table.Processes("http")
				table.Waiting("http", 1)
				filesOf(table, "http", 2)
			}
		})
	}
	work.Wait()
	must(t, table.Refuse("http"))
	must(t, table.Listen("http"))
	steer(t, table, shares{2: 1})
	connect(t, address, 3)
	await(t, table, shares{2: 3})
	steersAsItShould(t, table)
}
