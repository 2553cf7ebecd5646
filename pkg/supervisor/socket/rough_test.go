package socket

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process that was told to end shuts one of its two shards and hangs: who waits at the
// other moves on all the same.
func TestHungAtOneOfTwoAddresses(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0), tcp("127.0.0.2", 0))
	enter(t, table, 1, 2)
	steer(t, table, shares{1: 1})
	connect(t, table.Status("http")[1].Address, 5)
	steer(t, table, shares{2: 1})
	await(t, table, shares{1: 5})
	must(t, unix.Shutdown(shardOf(t, table, 1), unix.SHUT_RD))
	table.Leaving("http", 1)
	await(t, table, shares{2: 5})
}

// A call is for one process: if its shard has ended, or is not at that address, nobody
// else takes the call.
func TestCallThatWouldGoElsewhere(t *testing.T) {
	a := tcp("127.0.0.1", 0)
	table := steered(t, a)
	enter(t, table, 1, 2)
	steer(t, table, shares{2: 1})
	s := *spec("http", tcp("127.0.0.2", 0), a)
	s.Steer = true
	must(t, table.Bind(&s))
	c, err := table.Dial("http", "", 1) // at the first where it has one
	must(t, err)
	defer unix.Close(c)
	await(t, table, shares{1: 1})
	if c, err := table.Dial("http", table.Status("http")[0].Address, 1); err == nil {
		unix.Close(c)
		t.Error("a call came through where the process has no socket")
	}
	must(t, unix.Shutdown(table.find("http").rings()[1].shards[1].fd, unix.SHUT_RD))
	if c, err := table.Dial("http", "", 1); err == nil {
		unix.Close(c)
		t.Error("a call to a process whose shard has ended came through")
	}
	await(t, table, shares{2: 1})
}

// Steer puts the program back without waiting for clients to stray.
func TestSteerAttaches(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1, 2)
	doing(t, table, "detach")
	steer(t, table, shares{2: 1})
	connect(t, addressOf(table), 20)
	await(t, table, shares{2: 20})
}

// No descriptor is left for a new room when those in the room have somewhere to go: new
// clients go there, whatever is looked at, and the others follow as soon as they can.
func TestSteerWithoutDescriptors(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	connect(t, addressOf(table), 2)
	await(t, table, shares{0: 2})
	address := callTo(t, table, 0)
	clients := []int{}
	for range 3 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		clients = append(clients, fd)
	}
	enough := noDescriptors(t)
	steered := table.Steer("http", shares{1: 1}, false)
	table.Audit("http")
	for _, fd := range clients {
		must(t, unix.Connect(fd, address))
	}
	must(t, steered)
	strained := table.Status("http")[0].Err
	await(t, table, shares{0: 2, 1: 3})
	enough()
	if strained == nil {
		t.Error("status does not say that some wait in vain")
	}
	await(t, table, shares{1: 5})
	steersAsItShould(t, table)
}

// What is short is named, and the verifier's log is not: it refused nothing.
func TestLoadWithoutDescriptors(t *testing.T) {
	needSteering(t)
	deal, err := newMap(mapArray, uint32(unsafe.Sizeof(cards{})), 1)
	must(t, err)
	defer closeFD(deal)
	sockets, err := newMap(mapSockets, 8, 1)
	must(t, err)
	defer closeFD(sockets)
	enough := noDescriptors(t)
	_, err = load(steering(deal, sockets))
	enough()
	if !errors.Is(err, unix.EMFILE) || strings.Contains(err.Error(), "processed") {
		t.Errorf("it says %v", err)
	}
}

// noDescriptors has no more be opened, until it is enough.
func noDescriptors(t *testing.T) (enough func()) {
	t.Helper()
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	openFiles(t) // the runtime's poller is there
	next, err := unix.Dup(0)
	must(t, err)
	unix.Close(next)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: was.Max}))
	enough = func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }
	t.Cleanup(enough)
	return enough
}

// Nobody gets into the room or to a process by a source port that he chose: port 0 is
// one that packets can have.
func TestSourcePortZero(t *testing.T) {
	needRoot(t, "a packet is to be made")
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	dealt := func() uint64 {
		var is cards
		must(t, get(table.find("http").deal.fd, 0, &is))
		return is.Dealt
	}
	before := dealt()
	sendSYN(t, 0, portOf(callTo(t, table, 0)))
	waitFor(t, func() bool { return dealt() > before })
}

// sendSYN sends the first packet of a connection from 127.0.0.1 to itself.
func sendSYN(t *testing.T, from, to int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	must(t, err)
	defer unix.Close(fd)
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, uint16(from))
	binary.BigEndian.PutUint16(b[2:], uint16(to))
	b[12], b[13] = 5<<4, 2 // length, SYN
	binary.BigEndian.PutUint16(b[14:], 1024)
	home := net.IPv4(127, 0, 0, 1).To4()
	sum := uint32(unix.IPPROTO_TCP + len(b))
	for _, part := range [][]byte{home, home, b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	must(t, unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte(home)}))
}

// steer was taken away, and each process is replaced while the address is in use: the
// newest has its clients, though nobody says any more who is to get them.
func TestSteerIsTakenAwayInUse(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	table := steeredAs(t, s)
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	shared := *s
	shared.Steer = false
	must(t, table.Bind(&shared))
	enter(t, table, 2)
	steer(t, table, shares{2: 1})
	table.Free("http", 1) // from here on the unit says nothing
	enter(t, table, 3)
	connect(t, addressOf(table), 4)
	table.Leaving("http", 2)
	table.Free("http", 2)
	await(t, table, shares{3: 4})
	connect(t, addressOf(table), 1)
	await(t, table, shares{3: 5})
	table.Free("http", 3)
	must(t, table.Refuse("http"))
	await(t, table, shares{})
	refused(t, addressOf(table))
}

// Who shuts its shard down and listens again, over and over, is told of once.
func TestDeadShardIsToldOnce(t *testing.T) {
	table := steered(t, tcp("127.0.0.1", 0))
	enter(t, table, 1)
	steer(t, table, shares{1: 1})
	fd := shardOf(t, table, 1)
	dead := 0
	for range 3 {
		must(t, unix.Shutdown(fd, unix.SHUT_RD))
		for _, f := range table.Audit("http") {
			if f.Dead != 0 {
				dead++
			}
		}
		must(t, unix.Listen(fd, 5))
		table.Audit("http")
	}
	if dead != 1 {
		t.Errorf("it was told %d times that its shard is dead", dead)
	}
}
