package process

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// ask starts the program that dumps what it was given.
func ask(t *testing.T, l *Launcher, task Task) (g given) {
	t.Helper()
	path, _ := os.Executable()
	task.Program.Argv, task.Program.Path = []string{"fake-dump"}, path
	if task.Account.Set { // the test's directory is closed to others
		file, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		task.Executable = file
	}
	r := launch(t, l, task)
	r.lines.Buffer(nil, 1<<20)
	if err := json.Unmarshal([]byte(r.line()), &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestProgramGetsWhatItIsToldAndNothingElse(t *testing.T) {
	needsRoot(t)
	// What supervisord happens to have: open files, ignored signals, a umask, a nice value.
	secret := secretFile(t)
	for fd := 40; fd < 200; fd++ {
		unix.Dup3(rawFd(t, secret), fd, 0) // passed on by any exec
		defer syscall.Close(fd)
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGUSR1)
	t.Setenv("SECRET", "of supervisord")
	each(t, func(t *testing.T, l *Launcher) {
		nice, oom := 7, 321
		task := as(alice, Task{Program: &unit.Program{
			Dir: "/usr", Umask: 0o027, Nice: &nice, OOMScoreAdj: &oom,
			Environment: []string{"A=1", "PATH=/bin", "LISTEN_FDS=9"},
			Limits:      []unit.Limit{{Resource: unix.RLIMIT_CORE, Soft: 0, Hard: 0}, {Resource: unix.RLIMIT_DATA, Soft: 1 << 40, Hard: 1 << 40}},
		}})
		task.Account.Groups = []uint32{alice, bob}
		g := ask(t, l, task)
		pid := g.Status["Pid"]
		invocation := fmt.Sprintf("INVOCATION_ID=%d-%d", os.Getpid(), lastInvocation.Load())
		pipe := g.Files[1]
		want := given{
			Argv:  []string{"fake-dump"},
			Env:   []string{"A=1", invocation, "LANG=C.UTF-8", "LISTEN_FDS=9", "PATH=/bin", "SYSTEMD_EXEC_PID=" + pid},
			Files: map[int]string{0: "/dev/null", 1: pipe, 2: pipe},
			Dir:   "/usr", Umask: 0o027, Nice: 7, OOMScoreAdj: "321", Leads: true,
			Core: [2]uint64{0, 0}, Data: [2]uint64{1 << 40, 1 << 40},
			Status: g.Status, Keyring: g.Keyring, NoFile: g.NoFile, SetuidRefused: true,
		}
		if diff := cmp.Diff(want, g); diff != "" {
			t.Errorf("want (-), got (+):\n%s", diff)
		}
		ids := fmt.Sprintf("%d %[1]d %[1]d %[1]d", alice)
		checkStatus(t, g, map[string]string{
			"Uid": ids, "Gid": ids, "Groups": fmt.Sprint(alice, " ", bob),
			"CapInh": zeros, "CapPrm": zeros, "CapEff": zeros, "CapAmb": zeros,
			"SigIgn": zeros, "SigBlk": zeros, "Seccomp": "0", "TracerPid": "0",
		})
		if own, _ := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); own == g.Keyring {
			t.Error("the program has our session keyring")
		}
	})
}

const zeros = "0000000000000000"

func checkStatus(t *testing.T, g given, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if g.Status[key] != value {
			t.Errorf("%s is %q, want %q", key, g.Status[key], value)
		}
	}
}

func secretFile(t *testing.T) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Root's programs that name no user keep its rights, but hand nothing on that a
// later change of user would not take away.
func TestRootKeepsNoInheritableCapabilities(t *testing.T) {
	needsRoot(t)
	g := ask(t, newTestLauncher(t, Options{}), Task{Program: &unit.Program{}})
	checkStatus(t, g, map[string]string{"Uid": "0 0 0 0", "CapInh": zeros, "CapAmb": zeros})
	if g.Status["CapEff"] == zeros {
		t.Error("root's program has no capabilities")
	}
}

func TestSoftLimitOfFilesIsNotTheOneGoRaised(t *testing.T) {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if limit.Max < 4096 {
		t.Skip("needs a hard limit of 4096 files")
	}
	l := newTestLauncher(t, Options{})
	task := sh("ulimit -Sn; ulimit -Hn")
	task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 300, Hard: 4000}}
	r := launch(t, l, task)
	r.expect("300")
	r.expect("4000")
	t.Run("inherited", func(t *testing.T) { // sh, with a soft limit of its own, starts us, and we sh
		cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 1000; exec "$0" -test.run TestShowSoftLimit -test.v`, selfPath())
		cmd.Env = append(os.Environ(), "TEST_SOFT_LIMIT=1000")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func selfPath() string { path, _ := os.Executable(); return path }

func TestShowSoftLimit(t *testing.T) {
	want := os.Getenv("TEST_SOFT_LIMIT")
	if want == "" {
		t.Skip("runs within another test")
	}
	launch(t, newTestLauncher(t, Options{}), sh("ulimit -Sn")).expect(want)
}

func TestLimitsBeyondTheAllowedFallToTheClosest(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{})
	again(t, alice, "^TestClosestLimit$", "TEST_CLOSEST=1")
	_ = l
}

func TestClosestLimit(t *testing.T) {
	if os.Getenv("TEST_CLOSEST") == "" {
		t.Skip("runs within another test, as an ordinary user")
	}
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	task := sh("ulimit -Sn; ulimit -Hn")
	task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: limit.Max + 5, Hard: limit.Max + 10}}
	r := launch(t, newTestLauncher(t, Options{}), task)
	r.expect(fmt.Sprint(limit.Max))
	r.expect(fmt.Sprint(limit.Max))
}

// T32: what acts on a Go or C program before its first line acts on the unit's
// program alone, not on the process before, which still is root.
func TestEnvironmentActsOnTheProgramAlone(t *testing.T) {
	l := newTestLauncher(t, Options{})
	dir := t.TempDir()
	os.Chmod(dir, 0o777)
	task := sh("echo program; ls -A " + dir)
	task.Program.Environment = []string{
		"GODEBUG=inittrace=1", "GOTRACEBACK=crash", "GOCOVERDIR=" + dir, "GORACE=log_path=" + dir + "/race",
		"LD_PRELOAD=/nonexistent/" + filepath.Base(dir), "LD_DEBUG=",
	}
	r := launch(t, l, task)
	out := r.rest()
	// The loader of sh, and of ls, complains; nobody's before them.
	complaints := strings.Count(out, "cannot be preloaded")
	if strings.Contains(out, "init ") || !strings.Contains(out, "program\n") || complaints > 2 {
		t.Errorf("got output:\n%s", out)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("somebody has written %v", entries)
	}
}

func listen(t *testing.T, n int) (fds []File, addrs []string) {
	t.Helper()
	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 8); err != nil {
			t.Fatal(err)
		}
		sa, _ := unix.Getsockname(fd)
		fds = append(fds, File{fd, fmt.Sprintf("socket-%02d", i)})
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port))
	}
	return fds, addrs
}

func TestFortySocketsReachAStockClientInOrder(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		fds, addrs := listen(t, 40)
		task := fake("fake-sockets")
		task.Sockets = fds
		r := launch(t, l, task)
		for i, addr := range addrs {
			if got, want := greet(t, addr), fmt.Sprintf("%d socket-%02d", i, i); got != want {
				t.Errorf("socket %d answers %q, want %q", i, got, want)
			}
		}
		r.expect("served 40 as 40 names")
		if exit := r.Wait(); exit.Code != 0 {
			t.Errorf("the client ended with %+v", exit)
		}
		for _, f := range fds {
			if flags, _ := unix.FcntlInt(uintptr(f.FD), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
				t.Errorf("%s has become blocking", f.Name)
			}
		}
	})
}

func greet(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 100)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

// The kernel lets one message carry 253 fds.
func TestThreeHundredSockets(t *testing.T) {
	fds, _ := listen(t, 1)
	task := sh("echo $LISTEN_FDS; ls /proc/self/fd | sort -n | tail -n 2 | head -n 1") // the last is ls's own
	for range 300 {
		task.Sockets = append(task.Sockets, fds[0])
	}
	l := newTestLauncher(t, Options{})
	if p, ok := l.parent.(interface{ Put(string, int) error }); ok { // it has them itself
		if err := p.Put("sock/1", fds[0].FD); err != nil {
			t.Fatal(err)
		}
		task.Keys = map[int]string{fds[0].FD: "sock/1#0"}
	}
	r := launch(t, l, task)
	r.expect("300")
	r.expect("302")
}

func TestSocketsReachPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	fds, addrs := listen(t, 2)
	const script = `
import os, socket
assert int(os.environ["LISTEN_PID"]) == os.getpid()
for i, name in enumerate(os.environ["LISTEN_FDNAMES"].split(":")):
    s = socket.socket(fileno=3 + i)
    s.setblocking(True)
    c, _ = s.accept()
    c.send(("%d %s" % (i, name)).encode())
    c.close()
try:
    from systemd.daemon import listen_fds_with_names
    assert len(listen_fds_with_names()) == 2
    print("by the protocol and python-systemd")
except ImportError:
    print("by the protocol")
`
	task := Task{Program: &unit.Program{Argv: []string{"python3", "-c", script}, Path: python}, Sockets: fds}
	r := launch(t, newTestLauncher(t, Options{}), task)
	for i, addr := range addrs {
		if got, want := greet(t, addr), fmt.Sprintf("%d socket-%02d", i, i); got != want {
			t.Errorf("socket %d answers %q, want %q", i, got, want)
		}
	}
	if out := r.line(); !strings.HasPrefix(out, "by the protocol") {
		t.Errorf("python says %q\n%s", out, r.rest())
	}
}

func TestSocketsReachC(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc")
	}
	if _, err := os.Stat("/usr/include/systemd/sd-daemon.h"); err != nil {
		t.Skip("needs libsystemd-dev")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "c.c")
	os.WriteFile(source, []byte(`#include <stdio.h>
#include <systemd/sd-daemon.h>
int main() {
	char **names;
	int n = sd_listen_fds_with_names(0, &names);
	printf("%d", n);
	for (int i = 0; i < n; i++) printf(" %s", names[i]);
	uint64_t usec;
	printf(" %d\n", sd_watchdog_enabled(0, &usec));
	return 0;
}
`), 0o644)
	if out, err := exec.Command(gcc, "-o", filepath.Join(dir, "c"), source, "-lsystemd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fds, _ := listen(t, 3)
	task := Task{Program: &unit.Program{Argv: []string{"c"}, Path: filepath.Join(dir, "c")}, Sockets: fds, Watchdog: 1e9}
	launch(t, newTestLauncher(t, Options{}), task).expect("3 socket-00 socket-01 socket-02 1")
}

func TestPidVariablesAreThoseOfTheProgram(t *testing.T) {
	fds, _ := listen(t, 1)
	task := sh("env; echo end")
	task.Sockets, task.Watchdog = fds, 1500e6
	r := launch(t, newTestLauncher(t, Options{}), task)
	env := map[string]string{}
	for line := r.line(); line != "end"; line = r.line() {
		key, value, _ := strings.Cut(line, "=")
		env[key] = value
	}
	pid := fmt.Sprint(r.PID())
	want := map[string]string{
		"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "socket-00",
		"WATCHDOG_PID": pid, "WATCHDOG_USEC": "1500000", "SYSTEMD_EXEC_PID": pid,
	}
	if ino := r.Identity().PidfdInode; ino != 0 {
		want["LISTEN_PIDFDID"] = fmt.Sprint(ino)
	}
	for key, value := range want {
		if env[key] != value {
			t.Errorf("%s=%s, want %s", key, env[key], value)
		}
	}
}

// T37: with a terminal of supervisord's own there is still none for the program.
func TestProgramHasNoTerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("needs script(1), which runs a command on a terminal")
	}
	cmd := exec.Command(script, "-qec", selfPath()+" -test.run '^TestNoTerminalBelow$' -test.v", "/dev/null")
	cmd.Env = append(os.Environ(), "TEST_ON_TERMINAL=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNoTerminalBelow(t *testing.T) {
	if os.Getenv("TEST_ON_TERMINAL") == "" {
		t.Skip("runs within another test, on a terminal")
	}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		t.Fatal("this test is not on a terminal")
	}
	g := ask(t, newTestLauncher(t, Options{}), Task{Program: &unit.Program{}})
	if g.Terminal != 0 {
		t.Errorf("the program has controlling terminal %d", g.Terminal)
	}
	if slices.ContainsFunc([]string{g.Files[0], g.Files[1], g.Files[2]}, func(f string) bool { return strings.HasPrefix(f, "/dev/pts") }) {
		t.Errorf("the program holds a terminal: %v", g.Files)
	}
}

// T34: where groups cannot be set, the program does not start with ours.
func TestGroupsThatCannotBeSetFailTheStart(t *testing.T) {
	needsRoot(t)
	again(t, alice, "^TestNoOtherUserUnlessRoot$", "TEST_ORDINARY=1")
}

func TestNoOtherUserUnlessRoot(t *testing.T) {
	if os.Getenv("TEST_ORDINARY") == "" {
		t.Skip("runs within another test, as an ordinary user")
	}
	_, err := tryLaunch(t, newTestLauncher(t, Options{}), as(bob, sh("echo ran")), nil)
	mustFail(t, err, "group", 216, syscall.EPERM)
}
