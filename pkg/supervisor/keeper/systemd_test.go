package keeper_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// A listener is what systemd has behind $NOTIFY_SOCKET.
func listener(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	must(t, err)
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	must(t, err)
	return conn
}

// next is the next notification, who sent it, and how many files came with it.
func next(t *testing.T, conn *net.UnixConn) (text string, pid, files int) {
	t.Helper()
	data, control := make([]byte, 4096), make([]byte, 4096)
	n, nc, _, _, err := conn.ReadMsgUnix(data, control)
	must(t, err)
	parts, err := unix.ParseSocketControlMessage(control[:nc])
	must(t, err)
	for i := range parts {
		if cred, err := unix.ParseUnixCredentials(&parts[i]); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&parts[i]); err == nil {
			files += len(fds)
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	}
	return string(data[:n]), pid, files
}

func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keep")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTell(t *testing.T) {
	path := filepath.Join(directory(t), "notify")
	systemd := listener(t, path)
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", path))
	c := s.Manager(keeper.Handler{})
	must(t, c.Tell("READY=1"))
	must(t, c.Tell("FDSTORE=1", 0, 1))
	if text, pid, files := next(t, systemd); text != "READY=1" || pid != s.PID || files != 0 {
		t.Errorf("process %d said %q with %d files", pid, text, files)
	}
	if text, _, files := next(t, systemd); text != "FDSTORE=1" || files != 2 {
		t.Errorf("%q came with %d files", text, files)
	}
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(s.ManagerPID()) + "/environ")
	if os.Geteuid() == 0 {
		must(t, err)
	}
	if strings.Contains(string(environ), "NOTIFY_SOCKET") {
		t.Error("the manager has what was meant for the keeper")
	}
}

// systemd may be slow: the keeper does not wait for it, and what it cannot take yet
// follows, even when the manager is gone; there is an end of that.
func TestTellASlowListener(t *testing.T) {
	path := filepath.Join(directory(t), "notify")
	systemd := listener(t, path)
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", path))
	c := s.Manager(keeper.Handler{})
	told := 0
	for {
		err := c.Tell("STATUS=" + strconv.Itoa(told))
		if err == unix.EAGAIN {
			break
		}
		must(t, err)
		if told++; told > 100_000 {
			t.Fatal("it remembers all")
		}
	}
	s.Kill()
	s.Manager(keeper.Handler{})
	becomesIdle(t, s.PID)
	for i := range told {
		if text, _, _ := next(t, systemd); text != "STATUS="+strconv.Itoa(i) {
			t.Fatalf("after %d came %q", i, text)
		}
	}
}

// systemd may listen anew.
func TestTellAnotherListener(t *testing.T) {
	path := filepath.Join(directory(t), "notify")
	systemd := listener(t, path)
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", path))
	c := s.Manager(keeper.Handler{})
	must(t, c.Tell("READY=1"))
	next(t, systemd)
	systemd.Close()
	os.Remove(path)
	if err := c.Tell("STATUS=nobody hears it"); err == nil {
		t.Error("nobody heard it, and it does not say so")
	}
	systemd = listener(t, path)
	must(t, c.Tell("STATUS=well"))
	if text, _, _ := next(t, systemd); text != "STATUS=well" {
		t.Errorf("it heard %q", text)
	}
	becomesIdle(t, s.PID)
}

func TestTellNobody(t *testing.T) {
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", ""))
	must(t, s.Manager(keeper.Handler{}).Tell("READY=1"))
}

// The watchdog of systemd is answered whether there is a manager or not.
func TestTheWatchdogIsAnswered(t *testing.T) {
	path := filepath.Join(directory(t), "notify")
	systemd := listener(t, path)
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", path), keepertest.Setenv("WATCHDOG_USEC", "2000"))
	s.Connect(keeper.Handler{})
	for range 3 {
		if text, pid, _ := next(t, systemd); text != "WATCHDOG=1" || pid != s.PID {
			t.Errorf("process %d said %q", pid, text)
		}
	}
}

// A watchdog of somebody else is not.
func TestTheWatchdogOfAnother(t *testing.T) {
	path := filepath.Join(directory(t), "notify")
	systemd := listener(t, path)
	s := keepertest.Serve(t, keepertest.Setenv("NOTIFY_SOCKET", path), keepertest.Setenv("WATCHDOG_USEC", "2000"), keepertest.Setenv("WATCHDOG_PID", "1"))
	must(t, s.Manager(keeper.Handler{}).Tell("READY=1"))
	if text, _, _ := next(t, systemd); text != "READY=1" {
		t.Errorf("it said %q", text)
	}
}

// What systemd passes is kept under its numbers.
func TestGivenDescriptors(t *testing.T) {
	r, w := pipe(t)
	s := keepertest.Serve(t, keepertest.Files(r, w), keepertest.Setenv("LISTEN_FDS", "3"), keepertest.Setenv("LISTEN_FDNAMES", "http:web"), keepertest.Listening())
	c := s.Manager(keeper.Handler{})
	all, err := c.List()
	must(t, err)
	defer keysOf(all)
	if len(all) != 2 || all[0].Key != "given/0" || all[0].Meta != "http" || all[1].Key != "given/1" || all[1].Meta != "web" {
		t.Fatalf("the list is %+v", all)
	}
	if inode(t, all[0].FDs[0]) != inode(t, int(r.Fd())) || inode(t, all[1].FDs[0]) != inode(t, int(w.Fd())) {
		t.Error("these are others")
	}
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(s.ManagerPID()) + "/fd")
	if os.Geteuid() == 0 {
		must(t, err)
		for _, fd := range fds {
			to, _ := os.Readlink("/proc/" + strconv.Itoa(s.ManagerPID()) + "/fd/" + fd.Name())
			if slices.Contains([]string{"pipe:[" + strconv.FormatUint(inode(t, int(r.Fd())), 10) + "]"}, to) {
				t.Errorf("the manager has it as %s", fd.Name())
			}
		}
	}
}
