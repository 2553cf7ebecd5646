package notify

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// The senders are this binary, since credentials are those of a process.
func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv("NOTIFY_TEST_LISTEN"); ok {
		succeed(dir)
		os.Exit(0)
	}
	if what, ok := os.LookupEnv("NOTIFY_TEST_SEND"); ok {
		if err := send(os.Getenv("NOTIFY_SOCKET"), what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if os.Getenv("NOTIFY_TEST_STAY") != "" {
			fmt.Println("sent")
			io.Copy(io.Discard, os.Stdin) // ends when the test says so, or has died
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func send(path, text string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: path}, 0)
		if err != unix.EINTR {
			return err
		}
	}
}

// sending is a process that sends one datagram.
func sending(path, text string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"NOTIFY_SOCKET=" + path, "NOTIFY_TEST_SEND=" + text, "GORACE=atexit_sleep_ms=0"}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDir is a notify directory that other users can reach.
func newDir(t testing.TB) *safepath.Dir {
	t.Helper()
	base, err := os.MkdirTemp("", "notify")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o711))
	d, err := safepath.MakeDir(base+"/n", 0o711)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// A heard is a socket and what it has heard.
type heard struct {
	*Socket
	messages chan Message
	refused  chan string
}

func listen(t testing.TB, o Options) heard {
	t.Helper()
	h := bound(t, o)
	h.Start(0, nil)
	return h
}

// bound is a socket that has not been started.
func bound(t testing.TB, o Options) heard {
	t.Helper()
	h := heard{messages: make(chan Message, 1<<16), refused: make(chan string, 100)}
	if o.Receive == nil {
		o.Receive = func(m Message, stored func()) { stored(); h.messages <- m }
	}
	o.Refused = func(reason string, pid int, uid uint32) { h.refused <- fmt.Sprintf("%s (uid %d)", reason, uid) }
	s, err := Listen(newDir(t), "1", o)
	must(t, err)
	h.Socket = s
	t.Cleanup(func() { s.Close(); <-s.over })
	return h
}

var everybody = Options{GID: -1, Access: unit.NotifyAll}

func TestStockGoClient(t *testing.T) {
	h := listen(t, everybody)
	t.Setenv("NOTIFY_SOCKET", h.Path())
	for _, said := range []string{daemon.SdNotifyReady, daemon.SdNotifyWatchdog, daemon.SdNotifyReloading, daemon.SdNotifyStopping} {
		if ok, err := daemon.SdNotify(false, said); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if m := <-h.messages; !m.Notice.Ready || m.PID != os.Getpid() || m.UID != uint32(os.Getuid()) {
		t.Errorf("got %+v", m)
	}
	if m := <-h.messages; !m.Notice.Ping {
		t.Errorf("got %+v", m)
	}
	if m := <-h.messages; !m.Reloading {
		t.Errorf("got %+v", m)
	}
	if m := <-h.messages; !m.Notice.Stopping {
		t.Errorf("got %+v", m)
	}
}

// systemd's own client waits for its barrier: that it ends says that we answer.
func TestSystemdNotifyWithItsBarrier(t *testing.T) {
	path, err := exec.LookPath("systemd-notify")
	if err != nil {
		t.Skip("needs systemd-notify")
	}
	h := listen(t, everybody)
	c := exec.Command(path, "--ready", "--status=all is well")
	c.Env = []string{"NOTIFY_SOCKET=" + h.Path()}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if m := <-h.messages; !m.Notice.Ready || m.Status == nil || *m.Status != "all is well" {
		t.Errorf("got %+v", m)
	}
}

// R16, T44: whatever comes, it is dropped, counted and told of once, and the
// next READY is heard.
func TestHostileDatagrams(t *testing.T) {
	for _, c := range []struct {
		name   string
		text   string
		reason refusal
	}{
		{"zero length", "", empty},
		{"a lone NUL", "\x00", empty},
		{"NUL inside", "READY=1\x00\nSTATUS=x", hasNUL},
		{"two NULs at the end", "READY=1\x00\x00", hasNUL},
		{"one byte too many", "STATUS=" + strings.Repeat("x", MaxMessage-6), tooLong},
		{"64 KiB", "READY=1\n" + strings.Repeat("x", 64<<10-8), tooLong},
		{"barrier and more", "READY=1\nBARRIER=1", mixed},
		{"barrier without fd", "BARRIER=1", wantsOneFD},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := listen(t, everybody)
			for range 3 {
				must(t, send(h.Path(), c.text))
			}
			must(t, send(h.Path(), "READY=1"))
			if m := <-h.messages; !m.Notice.Ready {
				t.Errorf("got %+v", m)
			}
			if n := h.Dropped()[string(c.reason)]; n != 3 {
				t.Errorf("dropped: %v", h.Dropped())
			}
			if len(h.refused) != 1 {
				t.Errorf("told of %d times", len(h.refused))
			}
		})
	}
}

// R16: a wrong user is not heard, though he can reach the socket.
func TestForeignUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it sends as other users")
	}
	as := func(uid, gid uint32, path string) error {
		c := sending(path, "READY=1")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, err := c.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s", out)
		}
		return nil
	}
	h := listen(t, Options{GID: 4242, UIDs: []uint32{4242}, Access: unit.NotifyAll})
	if err := as(65534, 65534, h.Path()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a stranger: %v", err)
	}
	must(t, as(65534, 4242, h.Path())) // of the group: reaches it, but is not heard
	if got := <-h.refused; got != string(foreignUser)+" (uid 65534)" {
		t.Errorf("refused: %s", got)
	}
	must(t, as(4242, 4242, h.Path()))
	if m := <-h.messages; m.UID != 4242 {
		t.Errorf("got %+v", m)
	}
}

func TestSocketIsClosedToOthersFromItsBirth(t *testing.T) {
	var st unix.Stat_t
	for _, gid := range []int{-1, 4242} {
		if gid >= 0 && os.Geteuid() != 0 {
			t.Skip("needs root: it gives the socket to a group")
		}
		h := listen(t, Options{GID: gid})
		must(t, unix.Lstat(h.Path(), &st))
		want := fmt.Sprint(os.Getgid(), " 140600")
		if gid >= 0 {
			want = "4242 140660"
		}
		if got := fmt.Sprintf("%d %o", st.Gid, st.Mode); got != want {
			t.Errorf("group and mode are %s, want %s", got, want)
		}
	}
}

func TestOnlyTheMainProcessIsHeard(t *testing.T) {
	h := listen(t, Options{GID: -1, Access: unit.NotifyMain})
	must(t, send(h.Path(), "READY=1")) // nobody is main yet
	if got := <-h.refused; !strings.HasPrefix(got, string(notMain)) {
		t.Error(got)
	}
	h.SetMain(os.Getpid())
	must(t, sending(h.Path(), "STOPPING=1").Run())
	must(t, send(h.Path(), "READY=1"))
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
	if n := h.Dropped()[string(notMain)]; n != 2 {
		t.Errorf("dropped: %v", h.Dropped())
	}
}

func TestNobodyIsHeardWithAccessNone(t *testing.T) {
	h := listen(t, Options{GID: -1, Access: unit.NotifyNone})
	must(t, send(h.Path(), "READY=1"))
	if got := <-h.refused; !strings.HasPrefix(got, string(nobodyMay)) {
		t.Error(got)
	}
}

func TestWhatThisVersionDoesNotActOnIsCounted(t *testing.T) {
	h := listen(t, everybody)
	must(t, send(h.Path(), "FDSTORE=1\nFDNAME=x\nX_MINE=1"))
	must(t, send(h.Path(), "MAINPID=1\nREADY=1"))
	if m := <-h.messages; m.Notice.Ready || m.Fields != 2 || !slices.Equal(m.Later, []string{"FDSTORE", "FDNAME"}) {
		t.Errorf("got %+v", m)
	}
	if m := <-h.messages; !m.Notice.Ready || m.Fields != 2 {
		t.Errorf("got %+v", m)
	}
	got := h.Dropped()
	if len(got) != 3 || got["FDSTORE"] != 1 || got["FDNAME"] != 1 || got["MAINPID"] != 1 {
		t.Errorf("dropped: %v", got)
	}
}

func TestPathTooLong(t *testing.T) {
	d, err := safepath.MakeDir(filepath.Join(t.TempDir(), strings.Repeat("x", 100)), 0o711)
	must(t, err)
	defer d.Close()
	_, err = Listen(d, "1", everybody)
	if err == nil || !strings.Contains(err.Error(), "more than 107 bytes; a shorter runtime_directory would do") {
		t.Error(err)
	}
}

// What a killed supervisord left in the directory is in nobody's way.
func TestStaleSocketIsReplaced(t *testing.T) {
	d := newDir(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: d.ProcName("1")}))
	unix.Close(fd)
	got := make(chan Message, 1)
	s, err := Listen(d, "1", Options{GID: -1, Access: unit.NotifyAll, Receive: func(m Message, stored func()) { stored(); got <- m }})
	must(t, err)
	s.Start(0, nil)
	must(t, send(s.Path(), "READY=1"))
	<-got
	must(t, s.Close())
	<-s.over
	if names, _ := d.Names(); len(names) > 0 {
		t.Errorf("Close left %v", names)
	}
	must(t, s.Close())
	must(t, s.Drain(t.Context()))
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}
