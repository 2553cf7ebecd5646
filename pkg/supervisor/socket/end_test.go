package socket

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// waysToEnd are the ways in which a shard can end. Each gets the descriptor that its process
// has, and a second process has the other one.
var waysToEnd = map[string]func(t *testing.T, table *Table){
	"its process is gone": func(t *testing.T, table *Table) { table.Free("http", 1) },
	"its process is gone, and a child has a copy": func(t *testing.T, table *Table) {
		fd := copyOf(t, shardOf(t, table, 1))
		t.Cleanup(func() { unix.Close(fd) })
		table.Free("http", 1)
	},
	"its process is killed": func(t *testing.T, table *Table) {
		holder := held(t, shardOf(t, table, 1))
		holder.Process.Kill()
		holder.Wait()
		table.Free("http", 1)
	},
	"its process shuts it down":  func(t *testing.T, table *Table) { doing(t, table, "shutdown") },
	"its process disconnects it": func(t *testing.T, table *Table) { doing(t, table, "disconnect") },
	"we shut it":                 func(t *testing.T, table *Table) { table.Leaving("http", 1) },
}

func doing(t *testing.T, table *Table, deed string) {
	t.Helper()
	if said := meddle(t, shardOf(t, table, 1), deed); said != deed+": <nil>" {
		t.Fatal(said)
	}
}

// heldBy is another process that has a socket and does nothing.
func held(t *testing.T, fd int) *exec.Cmd {
	t.Helper()
	f := os.NewFile(uintptr(copyOf(t, fd)), "shard")
	defer f.Close()
	cmd := role("hold")
	cmd.ExtraFiles = []*os.File{f}
	if line := begin(t, cmd); line != "held" {
		t.Fatal(line)
	}
	return cmd
}

func hold([]string) {
	fmt.Println("held")
	wait()
}

// However a shard ends, its queue and the handshakes under way go to who has the share
// now: to another process, or to the room.
func TestEveryEndMovesTheQueue(t *testing.T) {
	for _, alone := range []bool{false, true} {
		for how, end := range waysToEnd {
			t.Run(fmt.Sprintf("%s, alone: %v", how, alone), func(t *testing.T) { t.Parallel(); endMoves(t, alone, end) })
		}
	}
}

func endMoves(t *testing.T, alone bool, end func(*testing.T, *Table)) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	connect(t, addressOf(table), 60)
	late := -1
	if os.Geteuid() == 0 { // only then such a client can be made
		late = deaf(t, callTo(t, table, 0))
	}
	heir, now := unit.Invocation(0), shares(nil)
	if !alone {
		heir, now = 2, shares{2: 1}
		enter(t, table, 2)
	}
	steer(t, table, now)
	await(t, table, shares{1: 60})
	end(t, table)
	await(t, table, shares{heir: 60})
	if late >= 0 { // it hears the kernel's next answer, and is there
		must(t, unix.SetsockoptInt(late, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
		connected(t, late)
		await(t, table, shares{heir: 61})
	}
}

// deaf is a client that sends its first packet and does not hear the answer.
func deaf(t *testing.T, to unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(family(to), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, attachFilter(fd, unix.SO_ATTACH_FILTER, dropAll))
	if err := unix.Connect(fd, to); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	return fd
}

var dropAll = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}

func attachFilter(fd, option int, program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &fprog)
}

// connected waits: the kernel answers again after a second.
func connected(t *testing.T, fd int) {
	t.Helper()
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		if err != unix.EINTR {
			must(t, err)
			return
		}
	}
}

// A process takes the program off just before it ends: its clients move all the same.
func TestDetachedAtTheEnd(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 1})
	connect(t, addressOf(table), 40)
	steer(t, table, shares{2: 1})
	doing(t, table, "detach")
	table.Free("http", 1)
	await(t, table, shares{2: 40})
}

// A keeper has copies of everything that it was given, and drops each when it is told.
type copies struct {
	mu   sync.Mutex
	t    *testing.T
	all  map[string]int
	seen map[string]bool
}

func newCopies(t *testing.T) *copies {
	k := &copies{t: t, all: map[string]int{}, seen: map[string]bool{}}
	t.Cleanup(func() {
		for _, fd := range k.all {
			unix.Close(fd)
		}
	})
	return k
}

func (k *copies) Keep(key string, fd int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if strings.HasPrefix(key, "socket/") && accepts(fd) {
		k.t.Errorf("%s was listening before it was kept", key)
	}
	k.all[key] = copyOf(k.t, fd)
	k.seen[key[:strings.Index(key, "/")]] = true
}

func (k *copies) Drop(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fd, ok := k.all[key]
	if !ok {
		k.t.Errorf("%s was not kept", key)
	}
	if queue, _ := tcpQueue(fd); queue > 0 {
		k.t.Errorf("%s is dropped with %d in its queue", key, queue)
	}
	delete(k.all, key)
	unix.Close(fd)
}

// Whoever has copies of rooms and shards stops no move, and in the end has none.
func TestKeeperHasCopies(t *testing.T) {
	needSteering(t)
	keeper := newCopies(t)
	s := spec("http", tcp("127.0.0.1", 0))
	s.Steer = true
	table := NewTable(nil)
	defer table.Close()
	table.Remember(keeper, func(string, *Record) error { return nil })
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	address := addressOf(table)
	connect(t, address, 5)
	steer(t, table, shares{1: 1})
	enter(t, table, 1) // a release
	await(t, table, shares{1: 5})
	steer(t, table, nil)
	table.Free("http", 1) // a removal
	await(t, table, shares{0: 5})
	steer(t, table, shares{2: 1})
	enter(t, table, 2)
	await(t, table, shares{2: 5})
	if want := []string{"deal", "program", "socket", "sockets"}; !slices.Equal(slices.Sorted(maps.Keys(keeper.seen)), want) {
		t.Errorf("kept were %v", keeper.seen)
	}
	if n := len(keeper.all); n != 5 { // deal, sockets, program, room, shard
		t.Errorf("kept are %v", keeper.all)
	}
	must(t, table.Steer("http", nil, true))
	table.Free("http", 2)
	must(t, table.Drop("http"))
	if len(keeper.all) > 0 {
		t.Errorf("kept are still %v", keeper.all)
	}
	refused(t, address)
}

// On a kernel that tells nobody of connections that it moves, each process that has got
// some is called once.
func TestBell(t *testing.T) {
	needSteering(t)
	is := wakes
	wakes = func() bool { return false }
	defer func() { wakes = is }()
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2, 3, 4)
	steer(t, table, shares{1: 1})
	connect(t, addressOf(table), 60)
	steer(t, table, shares{2: 50, 3: 50})
	await(t, table, shares{1: 60})
	table.Free("http", 1)
	awaitAbout(t, table, shares{2: 31, 3: 31})
	steer(t, table, shares{3: 1})
	table.Free("http", 2)
	await(t, table, shares{3: 63})
	steer(t, table, nil)
	table.Free("http", 3) // nobody sleeps in the room
	await(t, table, shares{0: 63})
	steer(t, table, shares{4: 1})
	await(t, table, shares{4: 64})
}

// It is known what this kernel does, and trying leaves nothing behind.
func TestWhetherTheKernelWakes(t *testing.T) {
	needSteering(t)
	before := openFiles(t)
	t.Logf("it wakes: %v", tryWaking())
	if n := openFiles(t); n != before {
		t.Errorf("%d files were open, %d are", before, n)
	}
}

// TestMeddlingIsUndone: a process of another user, new and without a share, cannot
// attach a program or filter of its own; it can detach ours. What comes of that is found,
// and the first client that comes where nobody was to come makes the shares right again
// without anybody asking (T71).
func TestMeddlingIsUndone(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 100})
	said := meddle(t, shardOf(t, table, 2), "attach", "filter", "unlock", "detach")
	if want := "attach: operation not permitted\nfilter: operation not permitted\nunlock: operation not permitted\ndetach: <nil>"; said != want {
		t.Errorf("it could do:\n%s", said)
	}
	connect(t, addressOf(table), 60) // by hash: some to the room
	found := table.Audit("http")
	if len(found) != 1 || !strings.Contains(found[0].What, "steered clients itself") || found[0].Err != nil {
		t.Errorf("found %v", found)
	}
	inOrder(t, table)
	must(t, table.Watch(func(string, Finding) {}))
	doing(t, table, "detach")
	connect(t, addressOf(table), 60)
	for range 20_000 { // milliseconds
		if queues(table)[0] == 0 {
			break
		}
		unix.Poll(nil, 1)
	}
	table.Audit("http") // those that came while it was mended
	inOrder(t, table)
}

// inOrder has fifty clients come, all of whom are 1's.
func inOrder(t *testing.T, table *Table) {
	t.Helper()
	before := queues(table)
	if before[0] > 0 {
		t.Errorf("in the room are %d", before[0])
	}
	connect(t, addressOf(table), 50)
	before[1] += 50
	await(t, table, before)
}

// Who clears SO_REUSEPORT gets all clients of an IPv4 address; that is found with the
// first of them.
func TestClearedReusePort(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	found := watching(t, table)
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 100})
	if said := meddle(t, shardOf(t, table, 2), "own_port"); said != "own_port: <nil>" {
		t.Fatal(said)
	}
	connect(t, addressOf(table), 1)
	if f := <-found; !strings.Contains(f.What, "SO_REUSEPORT") || f.Holder != 2 || f.Err != nil {
		t.Errorf("found %+v", f)
	}
	table.Audit("http")
	before := queues(table)
	connect(t, addressOf(table), 20)
	before[1] += 20
	await(t, table, before)
}

// A process that shuts its shard down and was not told to go is told of, once, and gets
// nobody any more. It may listen again: then it has what it had.
func TestShardIsShutDown(t *testing.T) {
	for _, deed := range []string{"shutdown", "disconnect"} {
		table := steered(t, tcp("127.0.0.1", 0))
		found := watching(t, table)
		enter(t, table, 1, 2)
		steer(t, table, shares{1: 1, 2: 1})
		connect(t, addressOf(table), 10)
		doing(t, table, deed)
		f := <-found
		if f.What != "shut it down" || f.Holder != 1 || f.Dead == 0 || !f.Void || f.Err != nil {
			t.Errorf("found %+v", f)
		}
		if files, err := filesOf(table, "http", 1); err != nil || files[0].Cookie != f.Dead {
			t.Errorf("the dead socket is %v, found is %d", files, f.Dead)
		}
		await(t, table, shares{2: 10})
		connect(t, addressOf(table), 4)
		await(t, table, shares{2: 14})
		if again := table.Audit("http"); len(again) > 0 {
			t.Errorf("then %v", again)
		}
		must(t, unix.Listen(shardOf(t, table, 1), 16))
		table.Audit("http")
		connect(t, addressOf(table), 4)
		awaitAbout(t, table, shares{1: 2, 2: 16})
	}
}

// One that was told to go may do so without a word.
func TestLeavingProcessShutsItsShard(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 1})
	connect(t, addressOf(table), 5)
	steer(t, table, shares{2: 1})
	fd, g := shardOf(t, table, 1), table.find("http")
	g.op.Lock() // nobody looks until it is done, however long that takes here
	table.Leaving("http", 1)
	if said := meddle(t, fd, "shutdown"); said != "shutdown: <nil>" {
		t.Error(said)
	}
	g.op.Unlock()
	await(t, table, shares{2: 5})
	steersAsItShould(t, table)
}

// A queue that a process has made shorter is its own affair.
func TestOwnBacklog(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 1})
	must(t, unix.Listen(shardOf(t, table, 1), 5))
	steersAsItShould(t, table)
	if all := table.Processes("http"); all[1].Shards[0].Limit != 5 || all[2].Shards[0].Limit == 5 {
		t.Errorf("%+v", all)
	}
}

// TestNobodyJoinsARing, of whatever user, whether clients are served or refused.
func TestNobodyJoinsARing(t *testing.T) {
	needRoot(t, "the sockets have a user of their own only then")
	table := steered(t, tcp("127.0.0.1", 0))
	to := callTo(t, table, 0)
	for _, when := range []string{"it serves", "it refuses"} {
		for _, uid := range []int{0, stranger, 1000} {
			if err := join(t, to, uid); err != unix.EADDRINUSE {
				t.Errorf("while %s uid %d joined: %v", when, uid, err)
			}
		}
		must(t, table.Refuse("http"))
	}
	secondSupervisord(t, to)
}

func secondSupervisord(t *testing.T, to unix.Sockaddr) {
	t.Helper()
	other := NewTable(nil)
	defer other.Close()
	s := spec("http", tcp("127.0.0.1", portOf(to)))
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

// An ordinary user cannot give sockets away: another process of his can join, and gets
// nobody; a second supervisord does not join.
func TestAnotherOfOurUserJoins(t *testing.T) {
	if !asUserWithBPF(t) {
		return
	}
	table := steered(t, tcp("127.0.0.1", 0))
	if st := table.Status("http")[0]; st.Note == "" {
		t.Error("status does not say that others of this user can join")
	}
	to := callTo(t, table, 0)
	secondSupervisord(t, to)
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, errors.Join(reusePort(fd), unix.Bind(fd, to), unix.Listen(fd, 64)))
	connect(t, addressOf(table), 50)
	await(t, table, shares{1: 50})
	if queue, _ := tcpQueue(fd); queue != 0 {
		t.Errorf("it got %d", queue)
	}
}

// Shards are opened beside connections that processes of other users have accepted.
func TestShardsBesideConnections(t *testing.T) {
	needRoot(t, "other users are needed")
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	connect(t, addressOf(table), 3)
	if said := meddle(t, shardOf(t, table, 1), "accept"); said != "accept: <nil>" {
		t.Fatal(said)
	}
	fd, err := accept(shardOf(t, table, 1))
	must(t, err)
	defer unix.Close(fd)
	enter(t, table, 2)
	table.Free("http", 1)
	enter(t, table, 3)
	steer(t, table, shares{3: 1})
	connect(t, addressOf(table), 2)
	await(t, table, shares{3: 3})
}
