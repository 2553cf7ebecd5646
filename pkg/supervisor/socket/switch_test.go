package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A worker accepts until its listener is closed, at once and without a thought,
// and answers whom it has accepted.
type worker struct {
	id       unit.Invocation
	listener net.Listener
	done     sync.WaitGroup
	answered int
}

func work(t *testing.T, table *Table, id unit.Invocation) *worker {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(shardOf(t, table, id)), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	f := os.NewFile(uintptr(fd), "listener")
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
			w.answered++
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

// TestSwitchLosesNobody: process after process takes over under load, each old
// one ends as soon as it is Settled, and every client has an answer.
func TestSwitchLosesNobody(t *testing.T) {
	const switches, clients = 25, 4
	table := steered(t, 2, tcp("127.0.0.1", 0))
	sit(t, table, 1)
	steer(t, table, map[unit.Invocation]int{1: 1})
	old := work(t, table, 1)
	defer func() { old.stop() }()
	address := table.Status("http")[0].Address
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
		sit(t, table, id)
		next := work(t, table, id)
		steer(t, table, map[unit.Invocation]int{id: 1})
		settle(t, table, old.id)
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
	if st := table.Status("http")[0]; st.Drops+st.Retried+st.Lost > 0 || st.Last != nil {
		t.Errorf("%+v", st)
	}
}

// settle looks until a process has nothing more to accept.
func settle(t *testing.T, table *Table, id unit.Invocation) {
	t.Helper()
	for {
		s, err := table.Settled("http", id)
		must(t, err)
		if s.Done() {
			return
		}
		unix.Poll(nil, 1)
	}
}

// TestSuccessorFindsWhoWaited: of a process that died, and nobody is lost.
func TestSuccessorFindsWhoWaited(t *testing.T) {
	table := steered(t, 3, tcp("127.0.0.1", 0))
	sit(t, table, 1, 2)
	steer(t, table, map[unit.Invocation]int{1: 1})
	address := table.Status("http")[0].Address
	connect(t, address, 3)
	table.Free("http", 1)
	connect(t, address, 2)
	sit(t, table, 3)
	await(t, table, map[unit.Invocation]int{3: 5})
	for range 5 {
		fd, err := accept(shardOf(t, table, 3))
		must(t, err)
		unix.Close(fd)
	}
	if found := table.Audit("http"); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestHandshakesInFlightAreWaitedFor: they end at the process that their first
// packet came to, which is not settled before; later ones are not its.
func TestHandshakesInFlightAreWaitedFor(t *testing.T) {
	needRoot(t, "a client that does not hear the answer needs a filter")
	for kind, a := range steerable(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			table := steered(t, 3, a)
			sit(t, table, 1, 2)
			steer(t, table, map[unit.Invocation]int{1: 1})
			to := doorOf(t, table)
			early := []int{deaf(t, to), deaf(t, to), deaf(t, to)}
			steer(t, table, map[unit.Invocation]int{2: 1})
			deaf(t, to)
			s, err := table.Settled("http", 1)
			must(t, err)
			if s.Handshakes != 3 || s.Queue != 0 || s.Done() {
				t.Fatalf("it settles: %+v", s)
			}
			for _, fd := range early {
				must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
			}
			for _, fd := range early {
				connected(t, fd)
			}
			await(t, table, map[unit.Invocation]int{1: 3})
			if found := table.Audit("http"); len(found) > 0 {
				t.Errorf("latecomers are taken for strays: %v", found)
			}
			if s, err = table.Settled("http", 1); err != nil || s.Handshakes != 0 || s.Queue != 3 || s.Done() {
				t.Errorf("it settles: %+v, %v", s, err)
			}
			for range 3 {
				fd, err := accept(shardOf(t, table, 1))
				must(t, err)
				unix.Close(fd)
			}
			if s, err := table.Settled("http", 1); err != nil || !s.Done() {
				t.Errorf("it settles: %+v, %v", s, err)
			}
		})
	}
}

func doorOf(t *testing.T, table *Table) unix.Sockaddr { return doorAt(t, table, 0) }

func doorAt(t *testing.T, table *Table, address int) unix.Sockaddr {
	t.Helper()
	to, err := table.units["http"].rings()[address].doorstep()
	must(t, err)
	return to
}

// deaf is a client that sends its first packet and does not hear the answer.
func deaf(t *testing.T, to unix.Sockaddr) int {
	t.Helper()
	family := unix.AF_INET
	if _, v6 := to.(*unix.SockaddrInet6); v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, attach(fd, unix.SO_ATTACH_FILTER, dropAll))
	if err := unix.Connect(fd, to); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	return fd
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

// TestSteeredDropsAreCounted for the seat that overflows, and in the sum.
func TestSteeredDropsAreCounted(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	s.Steer, s.Shards, s.Backlog = true, 2, 1
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	sit(t, table, 1, 2)
	steer(t, table, map[unit.Invocation]int{2: 1})
	to := doorOf(t, table)
	waitFor(t, func() bool {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		unix.Connect(fd, to)
		return table.Status("http")[0].Drops > 0
	})
	seats := table.Seats("http")
	if seats[1].Holder != 2 || seats[1].Shards[0].Drops == 0 || seats[0].Shards[0].Drops > 0 || seats[1].Shards[0].Limit != 1 {
		t.Errorf("%+v", seats)
	}
	if st := table.Status("http")[0]; st.Retried > 0 || st.Queue != 2 || st.Limit != 1 {
		t.Errorf("%+v", st)
	}
}

// TestLongestProgram is one that the kernel takes.
func TestLongestProgram(t *testing.T) {
	places, weights := make([]int, maxShards+1), make([]uint32, maxShards+1)
	for i := range places {
		places[i], weights[i] = i+1, maxWeight
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, errors.Join(reusePort(fd), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1)))
	must(t, attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, probing(mark{}, 1, weighted(places, weights))))
}

// TestThresholds: a weight of 1 in a million is not lost in rounding.
func TestThresholds(t *testing.T) {
	p := weighted([]int{7, 8, 9, 10}, []uint32{1, 0, 999_998, 1})
	want := []uint32{random, 4294, 7, 4294962999, 9, 10}
	for i := range p {
		if len(p) != len(want) || p[i].K != want[i] && i != 1 && i != 3 {
			t.Fatalf("%v", p)
		}
	}
	if p[1].K != uint32(uint64(1)<<32/1_000_000) || p[3].K != uint32(uint64(999_999)<<32/1_000_000) {
		t.Errorf("%v", fmt.Sprint(p))
	}
}

// TestHandshakesAtAnyPortAreWaitedFor: a unit may have several, and none of
// another unit's are its own.
func TestHandshakesAtAnyPortAreWaitedFor(t *testing.T) {
	needRoot(t, "a client that does not hear the answer needs a filter")
	for kind, a := range steerable(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			table, other := steered(t, 3, a, tcp("127.0.0.2", 0)), steered(t, 3, a)
			for _, tb := range []*Table{table, other} {
				sit(t, tb, 1, 2)
				steer(t, tb, map[unit.Invocation]int{1: 1})
			}
			deaf(t, doorOf(t, other))
			for i := range 2 {
				deaf(t, doorAt(t, table, i))
			}
			steer(t, table, map[unit.Invocation]int{2: 1})
			if s, err := table.Settled("http", 1); err != nil || s.Handshakes != 2 {
				t.Errorf("it waits for %d of 2 handshakes: %v", s.Handshakes, err)
			}
		})
	}
}

// TestAnswersAboutHandshakesThatAreNone: what sock_diag says is parsed with care.
func TestAnswersAboutHandshakesThatAreNone(t *testing.T) {
	const port = 0x1234
	good := make([]byte, inetReply)
	good[0], good[4], good[inetPort], good[inetPort+1] = inetReply, tcpDiagGetSock, 0x12, 0x34
	ports := []int{80, port}
	for n := range good {
		set := map[uint64]bool{}
		if done, err := parseHandshakes(good[:n], ports, set); len(set) > 0 || n >= headerLen && (!done || err == nil) {
			t.Errorf("%d bytes: %v, %v, %v", n, done, err, set)
		}
	}
	set := map[uint64]bool{}
	if done, err := parseHandshakes(good, []int{80}, set); done || err != nil || len(set) != 0 {
		t.Errorf("of another port: %v, %v, %v", done, err, set)
	}
	if done, err := parseHandshakes(good, ports, set); done || err != nil || len(set) != 1 {
		t.Errorf("%v, %v, %v", done, err, set)
	}
	for _, kind := range []byte{unix.NLMSG_DONE, unix.NLMSG_ERROR} {
		for size := range byte(24) {
			b := make([]byte, 24)
			b[0], b[4] = size, kind
			if done, _ := parseHandshakes(b, ports, set); !done {
				t.Errorf("kind %d, size %d is not the end", kind, size)
			}
		}
	}
}
