package socket

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// deeds are what a worker may do to a socket that it was given.
var deeds = map[string]func(fd int) error{
	"shutdown":   func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) },
	"disconnect": disconnect,
	"listen":     func(fd int) error { return unix.Listen(fd, 0) },
	"attach": func(fd int) error {
		return attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, []unix.SockFilter{{Code: answerK, K: 2}})
	},
	"unlock":     set(unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 0),
	"detach":     set(unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0),
	"ttl":        set(unix.IPPROTO_IP, unix.IP_TTL, 1),
	"minttl":     set(unix.IPPROTO_IP, unix.IP_MINTTL, 255),
	"maxseg":     set(unix.IPPROTO_TCP, unix.TCP_MAXSEG, 100),
	"window":     set(unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 10000),
	"timeout":    set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1),
	"low":        set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1<<20),
	"pace":       set(unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 1),
	"no route":   set(unix.SOL_SOCKET, unix.SO_DONTROUTE, 1),
	"reuse port": set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
	"device":     set(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1),
	"block":      func(fd int) error { return unix.SetNonblock(fd, false) },
	"linger": func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	},
	"receive": func(fd int) error {
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000})
	},
}

func set(level, option, value int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) }
}

// meddleWith3 does to fd 3 what it is told, and says what came of it.
func meddleWith3(words []string) {
	for _, deed := range words {
		err := deeds[strings.ReplaceAll(deed, "_", " ")](3)
		fmt.Printf("%s: %v\n", deed, err)
	}
}

// meddle is a worker of another user that does this to a socket, and ends. The
// descriptor is passed as it is: an os.File would change its flags.
func meddle(t *testing.T, fd int, words ...string) string {
	t.Helper()
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"ROLE=meddle " + strings.Join(words, " ")},
		Files: []uintptr{uintptr(pipe[1]), uintptr(pipe[1]), 2, uintptr(fd)},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if os.Geteuid() == 0 {
		attr.Sys.Credential = as(stranger)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"worker"}, attr)
	unix.Close(pipe[1])
	must(t, err)
	f := os.NewFile(uintptr(pipe[0]), "pipe")
	defer f.Close()
	said, err := io.ReadAll(f)
	must(t, err)
	_, err = unix.Wait4(pid, nil, 0, nil)
	must(t, err)
	return strings.TrimSpace(string(said))
}

// TestOptionsAreSetBack: what an ordinary user does to a socket that he shares is
// named, undone, and stays undone (T45).
func TestOptionsAreSetBack(t *testing.T) {
	names := map[string]string{
		"linger": "SO_LINGER", "ttl": "IP_TTL", "minttl": "IP_MINTTL", "maxseg": "TCP_MAXSEG", "window": "TCP_WINDOW_CLAMP",
		"timeout": "TCP_USER_TIMEOUT", "low": "SO_RCVLOWAT", "pace": "SO_MAX_PACING_RATE", "no_route": "SO_DONTROUTE",
		"reuse_port": "SO_REUSEPORT", "device": "SO_BINDTODEVICE", "receive": "SO_RCVTIMEO",
	}
	for _, steer := range []bool{false, true} {
		s := spec("http", tcp("127.0.0.1", 0))
		s.Steer, s.Shards = steer, 2
		table := NewTable(nil)
		defer table.Close()
		must(t, table.Bind(s))
		must(t, table.Listen("http"))
		sit(t, table, 1)
		if found := table.Audit("http"); len(found) > 0 {
			t.Fatalf("nothing was done, and found is %v", found)
		}
		if steer {
			delete(names, "reuse_port") // it is set there
		}
		deeds := slices.Sorted(maps.Keys(names))
		want := strings.Join(deeds, ": <nil>\n") + ": <nil>"
		if said := meddle(t, shardOf(t, table, 1), deeds...); said != want {
			t.Errorf("it could do:\n%s", said)
		}
		found := table.Audit("http")
		for deed, name := range names {
			if !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.What, name) }) {
				t.Errorf("%s (steered: %v) is not found", deed, steer)
			}
		}
		for _, f := range found {
			if f.Err != nil || f.Mended == "" || (f.Holder == 1) != steer {
				t.Errorf("found %+v", f)
			}
		}
		if st := table.Status("http")[0]; len(found) != len(names) || st.Last == nil || *st.Last != found[len(found)-1] {
			t.Errorf("status has %v of %v", st.Last, found)
		}
		if found := table.Audit("http"); len(found) > 0 {
			t.Errorf("it is still so: %v", found)
		}
		must(t, table.Listen("http")) // for the start of the next process
		if st := table.Status("http")[0]; st.Last != nil {
			t.Errorf("what is over and mended is still said: %v", st.Last)
		}
	}
}

// watching is a Table's findings as they come.
func watching(t *testing.T, table *Table) <-chan Finding {
	t.Helper()
	found := make(chan Finding, 100)
	must(t, table.Watch(func(name string, f Finding) { found <- f }))
	return found
}

// TestRuinIsMendedAtOnce: a listener that a process ends for all is noticed
// without anybody asking, and serves again. Ordinary clients wake nobody.
func TestRuinIsMendedAtOnce(t *testing.T) {
	for kind, a := range everyKind(t) {
		for _, steer := range []bool{false, true} {
			for _, deed := range []string{"shutdown", "disconnect"} {
				if a.Network == "unix" && (steer || deed == "disconnect") {
					continue // there it is EINVAL
				}
				t.Run(fmt.Sprint(kind, steer, deed), func(t *testing.T) {
					ruin(t, a, steer, deed)
				})
			}
		}
	}
}

func ruin(t *testing.T, a unit.Address, steer bool, deed string) {
	s := spec("http", a)
	s.Steer, s.Shards = steer, 2
	table := NewTable(nil)
	defer table.Close()
	audits := make(chan bool, 100)
	table.watch.audit = func(name string) { audits <- true; table.Audit(name) }
	found := watching(t, table)
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	sit(t, table, 1)
	for range 5 {
		servedBy(t, table, 1)
	}
	if n := len(audits); n > 0 {
		t.Errorf("it looked %d times when clients came", n)
	}
	must(t, deeds[deed](shardOf(t, table, 1)))
	f := <-found
	void := a.Network == "unix"
	if f.What != "shut it down" || f.Err != nil || f.Void != void || f.Dead != 0 != void || (f.Holder == 1) != steer {
		t.Errorf("found %+v", f)
	}
	if void {
		refused(t, table.Status("http")[0].Address)
		must(t, table.Listen("http"))
		shardOf(t, table, 1)
	}
	servedBy(t, table, 1)
	if n := len(audits); n > 2 { // where all is slow, once more for what mending has moved
		t.Errorf("it looked %d times", n)
	}
}

// servedBy connects, and accepts as a process would.
func servedBy(t *testing.T, table *Table, id unit.Invocation) {
	t.Helper()
	c, err := dial(table.Status("http")[0].Address)
	must(t, err)
	defer c.Close()
	fd, err := accept(shardOf(t, table, id))
	must(t, err)
	unix.Close(fd)
}

// TestWatchEnds with its Table, also in the midst of work, and may begin late.
func TestWatchEnds(t *testing.T) {
	for range 20 {
		table := NewTable(nil)
		must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
		must(t, table.Listen("http"))
		watching(t, table)
		must(t, unix.Shutdown(shardOf(t, table, 1), unix.SHUT_RD))
		must(t, table.Close())
	}
}

// TestMeddlingIsUndone: a process of another user, new and without a share,
// cannot attach a program of its own; it can detach ours, and the first client
// that comes where nobody was to come makes the shares right again (T71).
func TestMeddlingIsUndone(t *testing.T) {
	table := steered(t, 3, tcp("127.0.0.1", 0))
	found := watching(t, table)
	sit(t, table, 1, 2)
	steer(t, table, map[unit.Invocation]int{1: 100})
	said := meddle(t, shardOf(t, table, 2), "attach", "unlock", "detach")
	if want := "attach: cannot attach a program of 1 instructions: operation not permitted\nunlock: operation not permitted\ndetach: <nil>"; said != want {
		t.Errorf("it could do:\n%s", said)
	}
	to, err := unix.Getsockname(shardOf(t, table, 1))
	must(t, err)
	half := func() int { // begins to connect: who came to the anchor's filter waits
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Connect(fd, to); err != unix.EINPROGRESS {
			must(t, err)
		}
		return fd
	}
	for range 60 {
		half()
	}
	if f := <-found; !strings.Contains(f.What, "steered clients itself") || f.Err != nil {
		t.Errorf("found %v", f)
	}
	table.Audit("http") // those that came while it was mended
	before := queues(table)
	for range 50 {
		half()
	}
	waitFor(t, func() bool { return queues(table)[1] >= before[1]+50 })
	if after := queues(table); after[1] < before[1]+50 || after[2] != before[2] || after[0] != before[0] {
		t.Errorf("waiting were %v and are %v", before, after)
	}
	strays := 0
	for _, s := range table.Seats("http") {
		strays += int(s.Strays)
	}
	if strays == 0 {
		t.Error("no seat says that it had strays")
	}
}

// TestPlacesAreFoundOut after two left at once, and after one that nobody saw
// leave.
func TestPlacesAreFoundOut(t *testing.T) {
	table := steered(t, 4, tcp("127.0.0.1", 0))
	sit(t, table, 1, 2, 3, 4)
	address := table.Status("http")[0].Address
	check := func(when string) {
		t.Helper()
		for _, id := range []unit.Invocation{1, 2, 3, 4} {
			steer(t, table, map[unit.Invocation]int{id: 1})
			before := queues(table)
			connect(t, address, 2)
			before[id] += 2
			await(t, table, before)
		}
		if t.Failed() {
			t.Fatal(when)
		}
	}
	check("at first")
	for _, two := range [][]unit.Invocation{{1, 2}, {4, 1}, {2, 4}} {
		must(t, deeds["shutdown"](shardOf(t, table, two[0])))
		must(t, deeds["shutdown"](shardOf(t, table, two[1])))
		if found := table.Audit("http"); len(found) != 2 || found[0].Err != nil {
			t.Errorf("found %v", found)
		}
		check(fmt.Sprint("after ", two))
	}
	if !table.units["http"].rings()[0].filtered {
		t.Skip("filters are not allowed here")
	}
	steer(t, table, map[unit.Invocation]int{1: 1})
	must(t, deeds["shutdown"](shardOf(t, table, 1)))
	must(t, unix.Listen(shardOf(t, table, 1), 4096))
	if found := table.Audit("http"); len(found) != 0 {
		t.Errorf("one look shows %v", found)
	}
	connect(t, address, 5)
	if found := table.Audit("http"); len(found) != 1 || !strings.Contains(found[0].What, "5 wait where nobody was to come") {
		t.Errorf("then it shows %v", found)
	}
	check("after a look at the strays")
}

// TestOrdinaryUserMends: without filters too.
func TestOrdinaryUserMends(t *testing.T) {
	if asStranger(t) {
		t.Run("places", TestPlacesAreFoundOut)
		t.Run("meddling", TestMeddlingIsUndone)
		t.Run("ruin", TestRuinIsMendedAtOnce)
	}
}

// TestFilterIsRemoved, and where the process has locked it the socket is replaced
// at its port.
func TestFilterIsRemoved(t *testing.T) {
	needRoot(t, "not every kernel lets ordinary users filter TCP")
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	address := table.Status("http")[0].Address
	must(t, attach(shardOf(t, table, 1), unix.SO_ATTACH_FILTER, dropAll))
	if found := table.Audit("http"); len(found) != 1 || found[0].Err != nil {
		t.Errorf("found %v", found)
	}
	served(t, table)
	copied, err := unix.FcntlInt(uintptr(shardOf(t, table, 1)), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	defer unix.Close(copied)
	must(t, attach(copied, unix.SO_ATTACH_FILTER, dropAll))
	must(t, unix.SetsockoptInt(copied, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1))
	if found := table.Audit("http"); len(found) != 2 || found[0].Err == nil || found[1].Dead == 0 || found[1].Err != nil {
		t.Errorf("found %v", found)
	}
	refused(t, address)
	must(t, table.Listen("http"))
	shardOf(t, table, 2)
	if now := table.Status("http")[0].Address; now != address {
		t.Errorf("it was at %s and is at %s", address, now)
	}
	for range 2 {
		if err := unix.Listen(copied, 1); err != unix.EADDRINUSE {
			t.Errorf("the old one listens again: %v", err)
		}
		served(t, table)
		must(t, table.Refuse("http"))
		if err := unix.Listen(copied, 1); err != unix.EADDRINUSE {
			t.Errorf("the old one listens while the service is down: %v", err)
		}
		must(t, table.Listen("http"))
	}
}

// TestWhoListensWhileTheServiceIsDown is stopped.
func TestWhoListensWhileTheServiceIsDown(t *testing.T) {
	table := steered(t, 2, tcp("127.0.0.1", 0))
	sit(t, table, 1)
	must(t, table.Refuse("http"))
	must(t, unix.Listen(shardOf(t, table, 1), 5))
	if found := table.Audit("http"); len(found) != 1 || found[0].Holder != 1 || found[0].Err != nil {
		t.Errorf("found %v", found)
	}
	refused(t, table.Status("http")[0].Address)
}

// TestAuditMendsARemovedPath: it is bound anew, whoever removed it, and listens: no
// process has the old one.
func TestAuditMendsARemovedPath(t *testing.T) {
	at := shortDir(t) + "/x"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	must(t, os.Remove(at))
	if found := table.Audit("http"); len(found) != 1 || found[0].Void || found[0].Err != nil {
		t.Errorf("found %v", found)
	}
	served(t, table)
}
