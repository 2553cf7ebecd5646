// Package examples holds small services to run under supervisord. Its tests
// start each of them as a supervisor does, with what sd_listen_fds(3) and
// sd_notify(3) ask of one and nothing more.
package examples

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for what takes an instant on a machine that is not busy.
const patience = 60 * time.Second

// build compiles one of the examples.
func build(t *testing.T, name string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	args := append(append([]string{"build", "-o", path}, flags...), "./"+name)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", name, err, out)
	}
	return path
}

// A listener is a socket that outlives whom it is passed to. It is a bare
// descriptor: the fd of a net.Listener comes blocking.
type listener struct {
	fd      int
	address string
}

func listen(t *testing.T) listener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 128); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return listener{fd, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)}
}

// A service is a process that was given a listener.
type service struct {
	t       *testing.T
	process *os.Process
	notify  *net.UnixConn
}

// start runs a program with the listener as its descriptor 3 and waits until it
// says READY=1. The shell is there since LISTEN_PID must be the pid of the
// program, which it keeps over exec.
func start(t *testing.T, l listener, argv ...string) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() })
	pid, err := syscall.ForkExec("/bin/sh", append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, argv...), &syscall.ProcAttr{
		Env:   []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LISTEN_FDS=1", "NOTIFY_SOCKET=" + filepath.Join(dir, "s")},
		Files: []uintptr{0, 1, 2, uintptr(l.fd)},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		t.Fatal(err)
	}
	process, _ := os.FindProcess(pid)
	s := &service{t, process, notify}
	t.Cleanup(func() { process.Kill(); process.Wait() })
	s.says("READY=1")
	return s
}

func (s *service) says(want string) {
	s.t.Helper()
	s.notify.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := s.notify.Read(buf)
	if err != nil || string(buf[:n]) != want {
		s.t.Fatalf("the service said %q (%v), want %s", buf[:n], err, want)
	}
}

// leaves tells it to go. It ends well, and by itself.
func (s *service) leaves() {
	s.t.Helper()
	s.process.Signal(syscall.SIGTERM)
	s.says("STOPPING=1")
	state, err := s.process.Wait()
	if err != nil || !state.Success() {
		s.t.Fatalf("the service ended with %v (%v)", state, err)
	}
}

// get asks once, on a connection of its own.
func get(t *testing.T, address string) string {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("%s, %v", r.Status, err)
	}
	return string(body)
}

func TestHelloIsReplacedWhileItServes(t *testing.T) {
	l := listen(t)
	old := start(t, l, build(t, "hello"))
	if got, want := get(t, l.address), fmt.Sprintf("hello from version 1, pid %d\n", old.process.Pid); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	next := start(t, l, build(t, "hello", "-ldflags", "-X main.version=2"))
	old.leaves()
	if got, want := get(t, l.address), fmt.Sprintf("hello from version 2, pid %d\n", next.process.Pid); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	next.leaves()
}

// A client that holds a connection when hello is told to go has its next request
// answered, and is told that it was the last on this connection.
func TestHelloAnswersTheConnectionsThatItHas(t *testing.T) {
	l := listen(t)
	s := start(t, l, build(t, "hello"))
	c, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	ask := func() *http.Response {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: hello\r\n\r\n")
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		return answer
	}
	if ask().Close {
		t.Error("a server that stays ended the connection")
	}
	s.process.Signal(syscall.SIGTERM)
	s.says("STOPPING=1")
	for !ask().Close { // it may say STOPPING=1 an instant before it means it
	}
	if state, err := s.process.Wait(); err != nil || !state.Success() {
		t.Errorf("hello ended with %v (%v)", state, err)
	}
}

func TestPythonIsReplacedWhileItServes(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3: ", err)
	}
	l := listen(t)
	old := start(t, l, "python3", "python/hello.py")
	next := start(t, l, "python3", "python/hello.py")
	old.leaves()
	if got, want := get(t, l.address), fmt.Sprintf("hello from python version 1, pid %d\n", next.process.Pid); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	next.leaves()
}

func TestLegacyBindsItsOwnPort(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	address := free.Addr().String()
	legacy := exec.Command(build(t, "legacy"), "-listen", address)
	legacy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := legacy.Start(); err != nil {
		t.Fatal(err)
	}
	defer legacy.Wait()
	defer legacy.Process.Kill()
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if got := get(t, address); !strings.HasPrefix(got, "hello from pid ") {
		t.Errorf("got %q", got)
	}
}
