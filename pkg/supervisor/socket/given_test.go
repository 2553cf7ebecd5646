package socket

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// give makes sockets as systemd would hold them, blocking ones.
func give(t *testing.T, addresses ...string) (files []*os.File) {
	t.Helper()
	if os.Getenv("CHILD") != "" {
		return nil
	}
	for _, a := range addresses {
		network, address, _ := strings.Cut(a, " ")
		var l any
		var err error
		if strings.HasSuffix(network, "gram") || network == "udp" {
			l, err = net.ListenPacket(network, address)
		} else {
			l, err = net.Listen(network, address)
		}
		must(t, err)
		f, err := l.(interface{ File() (*os.File, error) }).File()
		must(t, err)
		files = append(files, f)
		t.Cleanup(func() { f.Close(); l.(interface{ Close() error }).Close() })
	}
	return files
}

func inherited(t *testing.T) []Given {
	t.Helper()
	given, err := Inherited()
	must(t, err)
	for _, name := range os.Environ() {
		if strings.HasPrefix(name, "LISTEN_") {
			t.Errorf("the environment still has %s", name)
		}
	}
	return given
}

// TestGivenByNameThenByAddress: what has the unit's name is taken though it
// listens elsewhere; then what listens at its address; nothing is bound again,
// and what nobody wants is reported with what to do.
func TestGivenByNameThenByAddress(t *testing.T) {
	files := give(t, "tcp 127.0.0.1:0", "tcp 127.0.0.1:0", "tcp 127.0.0.1:0", "tcp 127.0.0.1:0", "udp 127.0.0.1:0")
	if !inChild(t, files, "LISTEN_PID=own", "LISTEN_FDS=5", "LISTEN_FDNAMES=stray:web:http.socket:metrics.socket:dns") {
		return
	}
	given := inherited(t)
	table := NewTable(given)
	http := spec("http", tcp("127.0.0.1", 8080))
	admin := spec("admin", tcp("127.0.0.1", 9090))
	admin.FDName = "web"
	byAddress := spec("other", given[3].Address)
	for _, s := range []*unit.Socket{http, admin, byAddress} {
		must(t, table.Bind(s))
		must(t, table.Bind(s))
	}
	for name, fd := range map[string]int{"http": 5, "admin": 4, "other": 6} {
		files, err := filesOf(table, name, 0)
		must(t, err)
		status := table.Status(name)[0]
		if len(files) != 1 || files[0].FD != fd || !status.Given || !status.Listening || status.Note == "" {
			t.Errorf("%s has %+v, %+v", name, files, status)
		}
		if status.Address != given[fd-3].Address.String() {
			t.Errorf("%s says that it is at %s", name, status.Address)
		}
	}
	left := table.Unclaimed()
	if len(left) != 2 || left[0].Name != "stray" || left[1].Name != "dns" {
		t.Fatalf("unclaimed: %+v", left)
	}
	want := fmt.Sprintf(`cannot use the stream socket %s, given as "stray": no [socket.*] has that name or address; `+
		"add [socket.stray], or remove it from systemd's .socket unit", left[0].Address)
	if got := left[0].Unused().Error(); got != want {
		t.Errorf("it says %s\nnot     %s", got, want)
	}
	if got := left[1].Unused().Error(); !strings.Contains(got, "datagram socket 127.0.0.1:") {
		t.Errorf("it says %s", got)
	}
}

// TestGivenIsNeverRefused: systemd listens on it too, so clients wait. Drop lets
// go of it and leaves it to systemd.
func TestGivenIsNeverRefused(t *testing.T) {
	at := "/tmp/supervisord-given-" + strconv.Itoa(os.Getpid())
	if p := os.Getenv("AT"); p != "" {
		at = p
	}
	if !inChild(t, give(t, "tcp 127.0.0.1:0", "unix "+at), "AT="+at, "LISTEN_PID=own", "LISTEN_FDS=2", "LISTEN_FDNAMES=http:http") {
		if c, err := dial(at); err != nil {
			t.Errorf("its end took the socket with it: %v", err)
		} else {
			c.Close()
		}
		return
	}
	given := inherited(t)
	table := NewTable(given)
	must(t, table.Bind(spec("http", given[0].Address, file(at))))
	for range 2 {
		must(t, table.Refuse("http"))
		served(t, table)
		must(t, table.Listen("http"))
		served(t, table)
	}
	must(t, table.Drop("http"))
	if _, err := unix.FcntlInt(3, unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the descriptor is still open: %v", err)
	}
	if _, err := os.Lstat(at); err != nil {
		t.Errorf("the path was removed: %v", err)
	}
}

// TestGivenInAnyOrder: forty of one name and address by address, then whatever
// is left of the name.
func TestGivenInAnyOrder(t *testing.T) {
	var addresses []string
	for i := range 40 {
		addresses = append(addresses, fmt.Sprintf("tcp 127.0.0.%d:0", 40-i))
	}
	names := strings.TrimSuffix(strings.Repeat("http.socket:", 40), ":")
	if !inChild(t, give(t, addresses...), "LISTEN_PID=own", "LISTEN_FDS=40", "LISTEN_FDNAMES="+names) {
		return
	}
	given := inherited(t)
	s := spec("http")
	for i := range given {
		s.Listen = append(s.Listen, given[39-i].Address)
	}
	s.Listen[0].Port = 0 // named, and at another port
	table := NewTable(given)
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	files, err := filesOf(table, "http", 0)
	must(t, err)
	for i, f := range files {
		if f.FD != 42-i || f.Name != "http" {
			t.Errorf("address %d has fd %d, %s", i, f.FD, f.Name)
		}
	}
	served(t, table)
	if left := table.Unclaimed(); len(left) > 0 {
		t.Errorf("unclaimed: %+v", left)
	}
}

// TestGivenOfAnotherKind is an error that says what to do, each time it is
// asked, and takes nothing.
func TestGivenOfAnotherKind(t *testing.T) {
	at := "@supervisord-given-" + strconv.Itoa(os.Getpid())
	if !inChild(t, give(t, "udp 127.0.0.1:0", "unix "+at), "LISTEN_PID=own", "LISTEN_FDS=3", "LISTEN_FDNAMES=http:mail:file") {
		return
	}
	// fd 5 is none of the parent's: whatever it is here, it is no socket.
	null, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	must(t, err)
	if null != 5 {
		must(t, unix.Dup3(null, 5, unix.O_CLOEXEC))
	}
	table := NewTable(inherited(t))
	for name, says := range map[string]string{
		"http": "by that name, a stream socket is needed (ListenStream=)",
		"mail": "which is of another family; make ListenStream= and listen_stream agree",
		"file": "systemd gave a descriptor that is no socket",
	} {
		for range 2 {
			if err := table.Bind(spec(name, tcp("127.0.0.1", 0))); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if left := table.Unclaimed(); len(left) != 3 {
		t.Errorf("unclaimed: %+v", left)
	}
}

// TestGivenFlags: close-on-exec at once, O_NONBLOCK as the configuration says.
func TestGivenFlags(t *testing.T) {
	if !inChild(t, give(t, "tcp 127.0.0.1:0", "tcp 127.0.0.1:0"), "LISTEN_PID=own", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b") {
		return
	}
	given := inherited(t)
	for fd := 3; fd < 5; fd++ {
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("fd %d would leak", fd)
		}
	}
	table := NewTable(given)
	a, b := spec("a", given[0].Address), spec("b", given[1].Address)
	b.NonBlocking = false
	must(t, table.Bind(a))
	must(t, table.Bind(b))
	for fd, want := range map[int]bool{3: true, 4: false} {
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); (flags&unix.O_NONBLOCK != 0) != want {
			t.Errorf("fd %d has flags %#x", fd, flags)
		}
	}
}

// TestListensForUs: whom the variables are for, and which make no sense.
func TestListensForUs(t *testing.T) {
	if !inChild(t, give(t, "tcp 127.0.0.1:0")) {
		return
	}
	own := strconv.Itoa(os.Getpid())
	inode, err := ownPidfd()
	must(t, err)
	for _, c := range []struct{ pid, fds, names, pidfd, want string }{
		{"", "1", "http", "", "none"},
		{"1", "1", "http", "", "none"},
		{own, "1", "http", "", "one"},
		{own, "1", "", "", "one"},
		{own, "1", "http", fmt.Sprint(inode), "one"},
		{own, "1", "http", fmt.Sprint(inode + 1), "none"},
		{own, "0", "", "", `LISTEN_FDS="0" is not a number of descriptors`},
		{own, "-1", "", "", "is not a number"},
		{own, "x", "", "", "is not a number"},
		{own, "99999999999999999999", "", "", "is not a number"},
		{own, "1", "a:b", "", "LISTEN_FDNAMES has 2 names"},
		{own, "1000000", "", "", "is not open: bad file descriptor"},
	} {
		for name, value := range map[string]string{"PID": c.pid, "FDS": c.fds, "FDNAMES": c.names, "PIDFDID": c.pidfd} {
			if value != "" {
				os.Setenv("LISTEN_"+name, value)
			}
		}
		given, err := Inherited()
		ok := false
		switch c.want {
		case "none":
			ok = err == nil && len(given) == 0
		case "one":
			ok = err == nil && len(given) == 1 && given[0].Name == c.names && given[0].FD == 3
		default:
			ok = err != nil && strings.Contains(err.Error(), c.want)
		}
		if !ok {
			t.Errorf("%+v: %+v, %v", c, given, err)
		}
		if slices.ContainsFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "LISTEN_") }) {
			t.Errorf("%+v: left in the environment", c)
		}
	}
}

// TestNothingInheritedLeaks: threat T36, by the system call and without it.
func TestNothingInheritedLeaks(t *testing.T) {
	var secrets []*os.File
	if os.Getenv("CHILD") == "" {
		for range 50 {
			f, err := os.Open("/etc/passwd")
			must(t, err)
			defer f.Close()
			secrets = append(secrets, f)
		}
	}
	if !inChild(t, secrets) {
		return
	}
	for name, mark := range map[string]func() error{"close_range": CloexecRest, "each": cloexecEach} {
		for fd := 3; fd < 53; fd++ {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			must(t, err)
		}
		must(t, unix.Dup3(3, 900, 0))
		must(t, mark())
		fds, err := filepath.Glob("/proc/self/fd/*")
		must(t, err)
		for _, link := range fds {
			fd, _ := strconv.Atoi(filepath.Base(link))
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err == nil && fd > 2 && flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("%s: fd %d would leak", name, fd)
			}
		}
		if out, err := exec.Command("ls", "/proc/self/fd").Output(); err != nil || len(strings.Fields(string(out))) != 4 {
			t.Errorf("%s: a child has %q, %v", name, out, err)
		}
	}
}

// TestSystemdSocketActivate with the real one: the first connection starts us,
// and is answered.
func TestSystemdSocketActivate(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("systemd-socket-activate is not installed")
	}
	self, err := os.Executable()
	must(t, err)
	at := shortDir(t) + "/x.sock"
	cmd := exec.Command(tool, "-l", at, "--fdname=http", "-E", "ROLE=active "+at, self)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if n, err := stderr.Read(make([]byte, 100)); n == 0 { // it says that it listens
		t.Fatal(err)
	}
	c, err := dial(at)
	must(t, err)
	defer c.Close()
	b := make([]byte, 100)
	n, err := c.Read(b)
	if string(b[:n]) != "given true" {
		t.Errorf("the answer is %q, %v", b[:n], err)
	}
}

// serveActivated is a supervisord that systemd started: it answers one client.
func serveActivated(args []string) {
	given, err := Inherited()
	table := NewTable(given)
	if err == nil {
		err = table.Bind(spec("http", file(args[0])))
	}
	if err == nil {
		err = table.Listen("http")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	files, _ := filesOf(table, "http", 0)
	fd, err := accept(files[0].FD)
	if err == nil {
		unix.Write(fd, fmt.Append(nil, "given ", table.Status("http")[0].Given))
	}
}
