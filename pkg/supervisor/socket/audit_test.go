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
		return attachFilter(fd, unix.SO_ATTACH_REUSEPORT_CBPF, []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 2}})
	},
	"filter":     func(fd int) error { return attachFilter(fd, unix.SO_ATTACH_FILTER, dropAll) },
	"accept":     func(fd int) error { _, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); return err },
	"own port":   set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 0),
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
		if steer {
			needSteering(t)
		}
		s := spec("http", tcp("127.0.0.1", 0))
		s.Steer = steer
		table := NewTable(nil)
		defer table.Close()
		must(t, table.Bind(s))
		must(t, table.Listen("http"))
		enter(t, table, 1)
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
		for _, deed := range []string{"shutdown", "disconnect"} {
			if a.Network == "unix" && deed == "disconnect" {
				continue // there it is EINVAL
			}
			t.Run(fmt.Sprint(kind, deed), func(t *testing.T) { ruin(t, a, deed) })
		}
	}
}

func ruin(t *testing.T, a unit.Address, deed string) {
	table := NewTable(nil)
	defer table.Close()
	audits := make(chan bool, 100)
	table.watch.audit = func(name string) { audits <- true; table.Audit(name) }
	found := watching(t, table)
	must(t, table.Bind(spec("http", a)))
	must(t, table.Listen("http"))
	enter(t, table, 1)
	for range 5 {
		servedBy(t, table, 1)
	}
	if n := len(audits); n > 0 {
		t.Errorf("it looked %d times when clients came", n)
	}
	must(t, deeds[deed](shardOf(t, table, 1)))
	f := <-found
	void := a.Network == "unix"
	if f.What != "shut it down" || f.Err != nil || f.Void != void || f.Dead != 0 != void || f.Holder != 0 {
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

// TestOrdinaryUserMends: none of it needs root.
func TestOrdinaryUserMends(t *testing.T) {
	if asStranger(t) {
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
	must(t, attachFilter(shardOf(t, table, 1), unix.SO_ATTACH_FILTER, dropAll))
	if found := table.Audit("http"); len(found) != 1 || found[0].Err != nil {
		t.Errorf("found %v", found)
	}
	served(t, table)
	copied, err := unix.FcntlInt(uintptr(shardOf(t, table, 1)), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	defer unix.Close(copied)
	must(t, attachFilter(copied, unix.SO_ATTACH_FILTER, dropAll))
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
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	must(t, table.Refuse("http"))
	must(t, unix.Listen(shardOf(t, table, 1), 5))
	if found := table.Audit("http"); len(found) != 1 || found[0].Err != nil {
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
