package socket

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// TestPathIsTakenByAsking has one thing in the way for each test; what is not a
// socket that nobody serves stays where it is.
func TestPathIsTakenByAsking(t *testing.T) {
	dir := shortDir(t)
	at := dir + "/x.sock"
	bind := func() error {
		table := NewTable(nil)
		defer table.Close()
		return table.Bind(spec("http", file(at)))
	}
	for what, put := range map[string]func(){
		"file":  func() { must(t, os.WriteFile(at, nil, 0o600)) },
		"dir":   func() { must(t, os.Mkdir(at, 0o700)) },
		"link":  func() { must(t, os.Symlink("/etc/passwd", at)) },
		"void":  func() { must(t, os.Symlink(dir+"/none", at)) },
		"fifo":  func() { must(t, unix.Mkfifo(at, 0o600)) },
		"dgram": func() { datagram(t, at) },
	} {
		put()
		before, err := os.Lstat(at)
		must(t, err)
		if err := bind(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.Lstat(at); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was removed or replaced: %v", what, err)
		}
		must(t, os.Remove(at))
	}
	// What a supervisord that was killed left is free.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: at}))
	must(t, unix.Listen(fd, 1))
	must(t, unix.Close(fd))
	must(t, os.WriteFile(at+".lock", []byte("12345\n"), 0o600))
	must(t, bind())
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func datagram(t *testing.T, at string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: at}))
}

// TestLivingServerIsNamed: by the kernel, whoever serves the path; and it goes
// on serving.
func TestLivingServerIsNamed(t *testing.T) {
	dir := shortDir(t)
	at := dir + "/x.sock"
	server := role("listen", "unix", at)
	begin(t, server)
	err := NewTable(nil).Bind(spec("http", file(at)))
	var e *BindError
	if !errors.As(err, &e) || e.PID != server.Process.Pid || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	want := fmt.Sprintf("cannot bind %s: address already in use by pid %d (%s)", at, e.PID, "exe")
	if err.Error() != want || e.Hint() == "" {
		t.Errorf("it says %q, hint %q", err, e.Hint())
	}
	c, err := dial(at)
	must(t, err)
	c.Close()
}

// TestOtherSupervisordIsNamed: it has the path and does not listen yet, so that
// only its lock tells.
func TestOtherSupervisordIsNamed(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	other := role("bind", at)
	if said := begin(t, other); said != "<nil>" {
		t.Fatal(said)
	}
	table := NewTable(nil)
	defer table.Close()
	err := table.Bind(spec("http", file(at)))
	if e := (*BindError)(nil); !errors.As(err, &e) || e.PID != other.Process.Pid || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	refused(t, at)
	must(t, other.Process.Kill())
	other.Wait()
	must(t, table.Bind(spec("http", file(at))))
}

// TestOwnerAndMode, whatever the umask, and from birth: there is no moment at which
// somebody could connect who should not.
func TestOwnerAndMode(t *testing.T) {
	needRoot(t, "it gives a socket away")
	dir := shortDir(t)
	s := spec("http", file(dir+"/x.sock"))
	s.Mode, s.User, s.Group = 0o660, "nobody", strconv.Itoa(stranger)
	old := syscall.Umask(0o777)
	defer syscall.Umask(old)
	table := NewTable(nil)
	defer table.Close()
	table.Owners(knowing(map[string]int{"nobody": stranger}))
	must(t, table.Bind(s))
	for range 2 {
		var st unix.Stat_t
		must(t, unix.Lstat(s.Listen[0].Path, &st))
		if st.Mode != unix.S_IFSOCK|0o660 || st.Uid != stranger || st.Gid != stranger {
			t.Errorf("mode %o, owner %d:%d", st.Mode, st.Uid, st.Gid)
		}
		must(t, unix.Lstat(s.Listen[0].Path+".lock", &st))
		if st.Mode != unix.S_IFREG|0o600 || st.Uid != 0 {
			t.Errorf("the lock has mode %o, owner %d", st.Mode, st.Uid)
		}
		must(t, table.Listen("http"))
		served(t, table)
		must(t, table.Refuse("http"))
	}
}

// knowing knows these users and groups, and numbers.
func knowing(ids map[string]int) OwnerFunc {
	id := func(name string) (int, error) {
		if name == "" {
			return -1, nil
		}
		if n, ok := ids[name]; ok {
			return n, nil
		}
		n, err := strconv.Atoi(name)
		if err != nil {
			err = unknownName(name)
		}
		return n, err
	}
	return func(user, group string) (uid, gid int, err error) {
		uid, err = id(user)
		gid, e := id(group)
		return uid, gid, errors.Join(err, e)
	}
}

type unknownName string

func (n unknownName) Error() string { return "cannot use " + string(n) }
func (unknownName) Hint() string    { return "ask somebody else" }

// TestUnknownOwner: a path whose owner cannot be known is not bound, and one that is
// bound keeps the owner that it has.
func TestUnknownOwner(t *testing.T) {
	needRoot(t, "it gives a socket away")
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	defer table.Close()
	s := spec("http", file(at))
	s.User = "ldapuser"
	if err := table.Bind(s); err == nil || !strings.Contains(err.Error(), "knows users") {
		t.Errorf("without anybody to ask: %v", err)
	}
	table.Owners(knowing(nil))
	err := table.Bind(s)
	if e := (*BindError)(nil); !errors.As(err, &e) || e.Error() != "cannot bind "+at+": cannot use ldapuser" || e.Hint() != "ask somebody else" {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Lstat(at); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket was left: %v", err)
	}
	table.Owners(knowing(map[string]int{"ldapuser": stranger}))
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	lost := *s
	lost.User, lost.Mode = "lost", 0o600
	must(t, table.Bind(&lost)) // it serves on, and status says what is wrong
	var st unix.Stat_t
	must(t, unix.Lstat(at, &st))
	if st.Uid != stranger || st.Mode&0o777 != uint32(s.Mode) {
		t.Errorf("owner %d, mode %o", st.Uid, st.Mode)
	}
	served(t, table)
}

// TestSlowOwner: who waits for a directory holds up its own unit alone, and status says
// for what.
func TestSlowOwner(t *testing.T) {
	needRoot(t, "it gives a socket away")
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	defer table.Close()
	asked, answer := make(chan bool), make(chan bool)
	table.Owners(func(string, string) (int, int, error) {
		asked <- true
		<-answer
		return stranger, -1, nil
	})
	s := spec("slow", file(at))
	must(t, table.Bind(s))
	owned := *s
	owned.User = "ldapuser"
	done := make(chan error)
	go func() { done <- table.Bind(&owned) }()
	<-asked
	if st := table.Status("slow"); len(st) != 1 || !strings.Contains(st[0].Note, "supervisord is looking up its owner") {
		t.Errorf("status: %+v", st)
	}
	must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
	must(t, table.Listen("http"))
	served(t, table)
	answer <- true
	must(t, <-done)
	var st unix.Stat_t
	must(t, unix.Lstat(at, &st))
	if st.Uid != stranger {
		t.Errorf("owner %d", st.Uid)
	}
}

// TestNameIsTheRealOne where nobody can bend the path: getsockname(2) is what
// libraries compare (sd_is_socket_unix).
func TestNameIsTheRealOne(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", file(at))))
	files, err := filesOf(table, "http", 0)
	must(t, err)
	sa, err := unix.Getsockname(files[0].FD)
	must(t, err)
	if name := sa.(*unix.SockaddrUnix).Name; name != at {
		t.Errorf("it calls itself %s", name)
	}
}

// TestPathsThatCannotBe are refused with what would be right.
func TestPathsThatCannotBe(t *testing.T) {
	dir := shortDir(t)
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	for at, says := range map[string]string{
		"/proc/none/x.sock":               "cannot make its directory: cannot use /proc/none/: /proc/none: no such file or directory",
		dir + "/file/x.sock":              dir + "/file: not a directory",
		dir + "/":                         "not the path of a file",
		"":                                "not the path of a file",
		"x.sock":                          "not an absolute path",
		dir + "/..":                       "not the path of a file",
		"/" + strings.Repeat("x", 107):    "the path has 108 bytes, a unix socket's at most 107",
		"@" + strings.Repeat("x", 200):    "an abstract name has",
		"@":                               "an abstract name has",
		"/tmp/" + strings.Repeat("x", 99): "",
	} {
		table := NewTable(nil)
		err := table.Bind(spec("http", file(at)))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", at, err)
		}
		must(t, table.Close())
	}
	err := NewTable(nil).Bind(spec("http", file("/proc/none/x")))
	if e := (*BindError)(nil); !errors.As(err, &e) || !strings.Contains(e.Hint(), "make the directory") {
		t.Errorf("no hint: %v", err)
	}
}

// TestSomebodyTookThePath while we were bound there: it is not ours to remove,
// and the next Listen says who is in the way.
func TestSomebodyTookThePath(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	must(t, os.Remove(at))
	must(t, os.WriteFile(at, []byte("theirs"), 0o600))
	if err := table.Refuse("http"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Refuse: %v", err)
	}
	if err := table.Listen("http"); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "no socket is there") {
		t.Errorf("Listen: %v", err)
	}
	if status := table.Status("http"); len(status) != 1 || status[0].Err == nil || status[0].Listening {
		t.Errorf("status is %+v", status)
	}
	if _, err := filesOf(table, "http", 0); err == nil {
		t.Error("a socket that is not there was given out")
	}
	must(t, os.Remove(at))
	must(t, table.Listen("http"))
	served(t, table)
	must(t, table.Close())
}

// TestRemovedPathIsMended by the next Listen.
func TestRemovedPathIsMended(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", file(at))))
	must(t, table.Listen("http"))
	must(t, os.Remove(at))
	must(t, table.Listen("http"))
	served(t, table)
}

// TestHostileDirectory is threat T29: the directory is a service user's, who
// exchanges the name and the directory itself for links, as fast as he can, while
// root binds. Whether a bind succeeds is his affair; where the links lead
// nothing is made, removed, or given another owner or mode.
// SUPERVISORD_BINDS sets how often.
func TestHostileDirectory(t *testing.T) {
	needRoot(t, "it binds in another user's directory")
	binds := 150
	if n, err := strconv.Atoi(os.Getenv("SUPERVISORD_BINDS")); err == nil {
		binds = n
	}
	dir := shortDir(t)
	must(t, os.Mkdir(dir+"/target", 0o700))
	must(t, os.WriteFile(dir+"/target/x.sock", []byte("shadow\n"), 0o600))
	must(t, os.WriteFile(dir+"/shadow", []byte("shadow\n"), 0o600))
	must(t, os.Mkdir(dir+"/theirs", 0o755))
	must(t, os.Mkdir(dir+"/theirs/run", 0o755))
	for _, d := range []string{"/theirs", "/theirs/run"} {
		must(t, os.Chown(dir+d, stranger, stranger))
	}
	before := snapshot(t, dir)
	attacker := role("flip", dir)
	attacker.SysProcAttr.Credential = as(stranger)
	begin(t, attacker)

	s := spec("http", file(dir+"/theirs/run/x.sock"))
	s.Mode, s.User, s.Group = 0o666, strconv.Itoa(stranger), strconv.Itoa(stranger)
	bound := 0
	for range binds {
		table := NewTable(nil)
		table.Owners(knowing(nil))
		if table.Bind(s) == nil {
			bound++
			table.Listen("http")
			table.Refuse("http")
		}
		table.Close()
	}
	must(t, attacker.Process.Kill())
	attacker.Wait()
	if after := snapshot(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	t.Logf("%d of %d binds went through", bound, binds)
}

// snapshot is what lies outside of the attacker's directory.
func snapshot(t *testing.T, dir string) (all string) {
	t.Helper()
	for _, pattern := range []string{"/*", "/target/*"} {
		names, _ := filepath.Glob(dir + pattern)
		for _, name := range names {
			var st unix.Stat_t
			must(t, unix.Lstat(name, &st))
			text, _ := os.ReadFile(name)
			all += fmt.Sprintf("%s %o %d:%d %q\n", name, st.Mode, st.Uid, st.Gid, text)
		}
	}
	return all
}

// flip is the attacker: without end he puts links, files and what he finds in
// the place of the socket and of its directory.
func flip(args []string) {
	dir := args[0]
	run, at := dir+"/theirs/run", dir+"/theirs/run/x.sock"
	for i := 0; ; i++ {
		os.Symlink(dir+"/shadow", at+".new")
		os.Rename(at+".new", at)
		os.Remove(at)
		os.Rename(run, dir+"/theirs/away")
		os.Symlink(dir+"/target", run)
		os.Remove(run)
		os.Rename(dir+"/theirs/away", run)
		os.Remove(at + ".lock")
		if os.Symlink(dir+"/shadow", at+".lock") == nil && i%3 > 0 {
			os.Remove(at + ".lock")
		}
		if i == 0 {
			fmt.Println("ready")
		}
	}
}

// TestForeignDirectory in peace: the socket works as anywhere else.
func TestForeignDirectory(t *testing.T) {
	needRoot(t, "it binds in another user's directory")
	dir := shortDir(t)
	must(t, os.Mkdir(dir+"/theirs", 0o755))
	must(t, os.Chown(dir+"/theirs", stranger, stranger))
	s := spec("http", file(dir+"/theirs/x.sock"))
	s.User = strconv.Itoa(stranger)
	table := NewTable(nil)
	table.Owners(knowing(nil))
	must(t, table.Bind(s))
	for range 2 {
		refused(t, s.Listen[0].Path)
		must(t, table.Listen("http"))
		served(t, table)
		must(t, table.Refuse("http"))
	}
	must(t, table.Close())
	if names, _ := os.ReadDir(dir + "/theirs"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestLinkedDirectory: root's own links are followed, as in /var/run.
func TestLinkedDirectory(t *testing.T) {
	dir := shortDir(t)
	must(t, os.Mkdir(dir+"/run", 0o755))
	must(t, os.Mkdir(dir+"/run/sub", 0o755))
	must(t, os.Symlink("run/sub", dir+"/link"))
	for _, at := range []string{"/link/x.sock", "/link/../sub/x.sock", "/run/./sub//x.sock"} {
		table := NewTable(nil)
		must(t, table.Bind(spec("http", file(dir+at))))
		must(t, table.Listen("http"))
		served(t, table)
		if _, err := os.Lstat(dir + "/run/sub/x.sock"); err != nil {
			t.Errorf("%s is elsewhere: %v", at, err)
		}
		must(t, table.Close())
		if names, _ := os.ReadDir(dir + "/run/sub"); len(names) > 0 {
			t.Errorf("%s left behind: %v", at, names)
		}
	}
}

// TestInodeOfTheSocket: without the kernel's word the inode is told by what only
// we can have made, and nothing else passes for it.
func TestInodeOfTheSocket(t *testing.T) {
	dir := shortDir(t)
	p, err := occupy(dir + "/x.sock")
	must(t, err)
	fd, err := p.bind(&unit.Socket{Name: "http", Mode: 0o666, Listen: []unit.Address{file(p.path)}}, owner{-1, -1})
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Remove(dir+"/x.sock.spare"))
	var st unix.Stat_t
	must(t, unix.Fstat(p.node, &st))
	if newborn(st) {
		t.Error("a socket that has its mode already passes for a new one")
	}
	must(t, os.Chmod(p.path, 0))
	must(t, unix.Fstat(p.node, &st))
	if !newborn(st) {
		t.Error("a new socket does not pass for one")
	}
	must(t, os.Link(p.path, dir+"/second"))
	must(t, unix.Fstat(p.node, &st))
	if newborn(st) {
		t.Error("a socket with two names passes for a new one")
	}
	must(t, os.Remove(dir+"/second"))
	must(t, p.leave())
}
