package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// A service that writes its pid into a FIFO each time it is started.
const announcing = `
[service.api]
exec_start = ["/bin/sh", "-c", "echo $$ >$DIR/pids; echo said; exec sleep 1000"]
restart = "always"
restart_sec = "1ms"
[service.api.reload]
bake = "10ms"
`

// pids is that FIFO.
func (r *running) pids() (next func() int) {
	r.Helper()
	if err := unix.Mkfifo(r.path("pids"), 0o600); err != nil {
		r.Fatal(err)
	}
	f, err := os.OpenFile(r.path("pids"), os.O_RDWR, 0)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { f.Close() })
	f.SetReadDeadline(time.Now().Add(rig.Patience))
	return func() int {
		r.Helper()
		var line [20]byte
		n, err := f.Read(line[:])
		pid, perr := strconv.Atoi(strings.TrimSpace(string(line[:n])))
		if err != nil || perr != nil {
			r.Fatalf("it was not started: %v, %v", err, perr)
		}
		return pid
	}
}

// stuck are files that nobody reads from any more.
var stuck = map[string]func(t *testing.T) *os.File{
	"a full pipe": func(t *testing.T) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		fill(t, w)
		return w
	},
	"a terminal after Ctrl-S": func(t *testing.T) *os.File {
		host, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Skip("needs a terminal: ", err)
		}
		t.Cleanup(func() { host.Close() })
		unix.IoctlSetPointerInt(int(host.Fd()), unix.TIOCSPTLCK, 0)
		n, err := unix.IoctlGetInt(int(host.Fd()), unix.TIOCGPTN)
		if err != nil {
			t.Skip("needs a terminal: ", err)
		}
		w, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Skip("needs a terminal: ", err)
		}
		host.Write([]byte{'S' & 0x1f})
		return w
	},
}

// fill leaves no room in a pipe. The flags of w stay as they are.
func fill(t *testing.T, w *os.File) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, n := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = unix.Write(fd, make([]byte, n))
		}
	}
}

// Who reads what supervisord prints has nothing to do with what it does.
func TestNobodyReadsWhatItPrints(t *testing.T) {
	for name, file := range stuck {
		t.Run(name, func(t *testing.T) {
			r := at(t, announcing+"[service.api.log]\nforward = true\n")
			next := r.pids()
			w := file(t)
			r.startOn(w)
			w.Close()
			for range 3 {
				if err := syscall.Kill(next(), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			next()
			r.ctl(0, "stop", "api")
			r.ctl(0, "start", "api")
			r.signal(syscall.SIGHUP)
			r.signal(syscall.SIGUSR1)
			r.stop()
		})
	}
}

// startOn runs it with its output going to a file.
func (r *running) startOn(w *os.File) {
	r.Helper()
	ready, err := rig.ListenReady(r.path("notify"))
	if err != nil {
		r.Fatal(err)
	}
	defer ready.Close()
	b, _ := binaries()
	r.cmd = exec.Command(b.Supervisord(), "-c", r.path("supervisord.toml"))
	r.cmd.Env, r.cmd.Dir = append(os.Environ(), ready.Env()), r.dir
	r.cmd.Stdout, r.cmd.Stderr = w, w
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.lines = make(chan string)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		defer close(r.lines)
		r.cmd.Wait()
	}()
	if err := ready.Wait(r.Context(), exited); err != nil {
		r.Fatal(err)
	}
}

// How many lines are missing is said when somebody reads again.
func TestLostLinesOfTheLogAreSaid(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, pw)
	stderr, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	unix.Dup3(int(pw.Fd()), 2, unix.O_CLOEXEC)
	restore := func() { unix.Dup3(stderr, 2, 0) }
	t.Cleanup(restore)
	out := newOutput()
	log, err := out.log("info")
	if err != nil {
		t.Fatal(err)
	}
	const n = 15_000
	for i := range n {
		log.Info().Msgf("message %d", i)
	}
	go func() {
		out.own.Flush(rig.Patience)
		restore()
		pw.Close()
	}()
	text, _ := io.ReadAll(pr)
	got := bytes.Count(text, []byte(`"message":"message `))
	if want := fmt.Sprintf(`"lines":%d,`, n-got); got == 0 || got == n || !strings.Contains(string(text), want) {
		t.Errorf("%d of %d lines are there, and no %s: %s", got, n, want, text[len(text)-200:])
	}
}

// A descriptor that supervisord was started with is closed, whatever its number.
func TestInheritedDescriptorsAreClosed(t *testing.T) {
	r := at(t, sleeper)
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	r.extra = []*os.File{pw, pw, pw}
	r.start()
	pw.Close()
	pr.SetReadDeadline(time.Now().Add(rig.Patience))
	if n, err := pr.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("whoever waits for its end gets %d, %v", n, err)
	}
	r.stop()
}

// One that hangs in close(2) keeps no other open.
func TestInheritedDescriptorThatCannotBeClosed(t *testing.T) {
	var fds []int
	for range closers - 1 {
		fds = append(fds, lingering(t))
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	pr := os.NewFile(uintptr(pipe[0]), "pipe")
	defer pr.Close()
	go closeAll(append(fds, pipe[1]))
	pr.SetReadDeadline(time.Now().Add(rig.Patience))
	if n, err := pr.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("whoever waits for its end gets %d, %v", n, err)
	}
}

// lingering is a socket whose close waits until the test is over: what was written to
// it does not arrive.
func lingering(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	unix.SetNonblock(fd, true)
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 1<<16))
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 600}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// A program with more rights than whoever starts it is refused.
func TestFileCapabilitiesAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file capabilities")
	}
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	r := at(t, sleeper)
	text, err := os.ReadFile(b.Supervisord())
	if err == nil {
		err = os.WriteFile(r.path("supervisord"), text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(r.path("supervisord"), "security.capability", bindService(), 0); err != nil {
		t.Skip("needs file capabilities: ", err)
	}
	cmd := exec.Command(r.path("supervisord"), "--demo")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"HOME=/nonexistent", "TMPDIR=/nonexistent"}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "file capabilities") {
		t.Errorf("status %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

// bindService is cap_net_bind_service=ep, as capabilities(7) stores it.
func bindService() []byte {
	const revision2, effective = 0x02000000, 1
	attr := binary.LittleEndian.AppendUint32(nil, revision2|effective)
	attr = binary.LittleEndian.AppendUint32(attr, 1<<unix.CAP_NET_BIND_SERVICE)
	return append(attr, make([]byte, 12)...)
}

// removeAll removes the runtime directory, in which supervisord may just write.
func removeAll(r *running) (err error) {
	for range 10 {
		if err = os.RemoveAll(r.path("run")); err == nil {
			break
		}
	}
	return err
}

// Whatever is removed of the runtime directory, supervisord is reached again by
// itself and starts what has crashed; at its end nothing is left in it.
func TestRuntimeDirectoryIsRemoved(t *testing.T) {
	for name, remove := range map[string]func(r *running) error{
		"all of it":          removeAll,
		"the control socket": func(r *running) error { return os.Remove(r.path("run/control.sock")) },
		"notify":             func(r *running) error { return os.RemoveAll(r.path("run/notify")) },
		"moved":              func(r *running) error { return os.Rename(r.path("run"), r.path("old")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := at(t, announcing)
			next := r.pids()
			r.start()
			pid := next()
			if err := remove(r); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			next()
			if name != "notify" {
				r.line("bound it again")
			}
			r.ctl(0, "restart", "api")
			next()
			second := *r
			second.launch()
			second.line("another supervisord")
			second.end(1)
			r.signal(syscall.SIGHUP)
			r.line("loaded the configuration")
			r.stop()
			if _, err := os.Stat(r.path("run/control.sock")); err == nil {
				t.Error("the control socket is left")
			}
		})
	}
}

// Whoever starts a second supervisord in the moment when the directory is gone, is
// turned away as well.
func TestSecondSupervisordWithoutADirectory(t *testing.T) {
	r := at(t, sleeper)
	r.start()
	r.signal(syscall.SIGSTOP) // it does not notice
	if err := os.RemoveAll(r.path("run")); err != nil {
		t.Fatal(err)
	}
	second := *r
	second.launch()
	r.has(second.line("cannot use"), fmt.Sprintf("another supervisord (pid %d) has it", r.cmd.Process.Pid))
	second.end(1)
	r.signal(syscall.SIGCONT)
	r.line("bound it again")
	r.ctl(0, "start", "api")
	r.stop()
}

// A service that says that it is alive can go on doing so, whatever was removed: or its
// watchdog would end it.
func TestNotifySocketsAreRemoved(t *testing.T) {
	for name, remove := range map[string]func(r *running, socket string) error{
		"the socket": func(_ *running, socket string) error { return os.Remove(socket) },
		"all of it":  func(r *running, _ string) error { return removeAll(r) },
	} {
		t.Run(name, func(t *testing.T) {
			r := at(t, announcing)
			next := r.pids()
			r.start()
			next()
			sockets, err := filepath.Glob(r.path("run/notify/*"))
			if err != nil || len(sockets) != 1 {
				t.Fatal(sockets, err)
			}
			if err := remove(r, sockets[0]); err != nil {
				t.Fatal(err)
			}
			r.line("removed its notify socket")
			conn, err := net.Dial("unixgram", sockets[0])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte("READY=1\nSTATUS=here"))
			r.stop()
		})
	}
}

// What an entrypoint has left running when it became supervisord is reaped.
func TestEntrypointsChildrenAreReaped(t *testing.T) {
	r := at(t, sleeper)
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	r.run(exec.Command("/bin/sh", "-c", `sh -c 'exit 0' & exec "$@"`, "sh", b.Supervisord(), "-c", r.path("supervisord.toml")))
	r.line("start: done")
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", r.cmd.Process.Pid)
	for end := time.Now().Add(rig.Patience); ; runtime.Gosched() {
		zombie := false
		text, _ := os.ReadFile(children)
		for _, pid := range strings.Fields(string(text)) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			zombie = zombie || strings.Contains(string(stat), ") Z ")
		}
		if !zombie {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is a zombie still")
		}
	}
	r.stop()
}

// Too few descriptors to begin with: the limit is named, not only the file that it
// hit.
func TestTooFewDescriptorsToStart(t *testing.T) {
	r := at(t, sleeper)
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	r.run(exec.Command("/bin/sh", "-c", `ulimit -n 16; exec "$@"`, "sh", b.Supervisord(), "-c", r.path("supervisord.toml")))
	r.has(r.line("hint: "), "ulimit -n")
	r.end(1)
}
