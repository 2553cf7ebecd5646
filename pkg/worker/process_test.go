package worker_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this package start their own binary as workers: what a worker
// then does is its role. This file is the supervisor of those tests.

// patience is for what takes an instant on a machine that is not busy.
const patience = 60 * time.Second

// roles are what this binary does as a worker, by the value of WORKER_ROLE.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	role := os.Getenv("WORKER_ROLE")
	if role == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("LISTEN_FDS") != "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // as the supervisor does
	}
	if err := roles[role](); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A socket is a bare descriptor: the fd of a net.Listener comes blocking.
type socket struct {
	name    string
	fd      int
	network string
	address string
}

func openSocket(t *testing.T, name string, domain, kind int, address syscall.Sockaddr) socket {
	t.Helper()
	fd, err := syscall.Socket(domain, kind|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, address); err != nil {
		t.Fatal(err)
	}
	if kind == syscall.SOCK_STREAM {
		if err := syscall.Listen(fd, 512); err != nil {
			t.Fatal(err)
		}
	}
	return socket{name: name, fd: fd}
}

func listenTCP(t *testing.T, name string) socket {
	t.Helper()
	return inet(t, openSocket(t, name, syscall.AF_INET, syscall.SOCK_STREAM, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), "tcp")
}

func listenUDP(t *testing.T, name string) socket {
	t.Helper()
	return inet(t, openSocket(t, name, syscall.AF_INET, syscall.SOCK_DGRAM, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), "udp")
}

func inet(t *testing.T, s socket, network string) socket {
	t.Helper()
	name, err := syscall.Getsockname(s.fd)
	if err != nil {
		t.Fatal(err)
	}
	s.network, s.address = network, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	return s
}

func listenUnix(t *testing.T, name string) socket {
	t.Helper()
	return unixSocket(t, name, syscall.SOCK_STREAM, "unix")
}

func unixSocket(t *testing.T, name string, kind int, network string) socket {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	s := openSocket(t, name, syscall.AF_UNIX, kind, &syscall.SockaddrUnix{Name: path})
	s.network, s.address = network, path
	return s
}

// shortDir is a directory for sockets, whose paths must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A process is a worker that was given sockets.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *bytes.Buffer
	reaped chan struct{}
	exited chan struct{} // and all that it has said is heard

	mu   sync.Mutex
	news *sync.Cond
	said []string // the assignments of its notify messages
	fds  []int    // what they carried
}

// spec is what a worker is started with.
type spec struct {
	role    string
	sockets []socket
	pair    []int // of the handover, or nil
	env     []string
}

func startWorker(t *testing.T, s spec) *process {
	t.Helper()
	w := &process{t: t, output: new(bytes.Buffer), reaped: make(chan struct{}), exited: make(chan struct{})}
	w.news = sync.NewCond(&w.mu)
	path := filepath.Join(shortDir(t), "n")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() }) // after the process has ended, below
	go w.hear(notify)

	w.cmd = exec.Command("/proc/self/exe")
	w.cmd.Stdout, w.cmd.Stderr = w.output, w.output
	w.cmd.Env = append(os.Environ(), "WORKER_ROLE="+s.role, "NOTIFY_SOCKET="+path, "GORACE=atexit_sleep_ms=0")
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.pass(s)
	w.cmd.Env = append(w.cmd.Env, s.env...)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.cmd.Wait()
		close(w.reaped)
		w.last(path)
	}()
	t.Cleanup(func() {
		w.cmd.Process.Kill()
		<-w.exited
		if t.Failed() && w.output.Len() > 0 {
			t.Logf("worker %d said:\n%s", w.cmd.Process.Pid, w.output)
		}
	})
	return w
}

// pass adds the descriptors. os.NewFile leaves a descriptor's mode as it is.
func (w *process) pass(s spec) {
	var names []string
	for _, socket := range s.sockets {
		names = append(names, socket.name)
		w.passFD(socket.fd)
	}
	if len(names) > 0 {
		w.cmd.Env = append(w.cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	if s.pair != nil {
		first := 3 + len(names)
		w.passFD(s.pair[0])
		w.passFD(s.pair[1])
		w.cmd.Env = append(w.cmd.Env, fmt.Sprintf("SUPERVISORD_HANDOVER=%d:%d", first, first+1))
	}
}

func (w *process) passFD(fd int) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	file := os.NewFile(uintptr(dup), "passed")
	w.t.Cleanup(func() { file.Close() })
	w.cmd.ExtraFiles = append(w.cmd.ExtraFiles, file)
}

// lastWords are said after the worker has ended, so that they are heard last.
const lastWords = "X_ENDED=1"

func (w *process) last(path string) {
	c, err := net.Dial("unixgram", path)
	if err == nil {
		defer c.Close()
		_, err = io.WriteString(c, lastWords)
	}
	if err != nil {
		w.end() // the test is over, and its socket is closed
	}
}

func (w *process) end() {
	<-w.reaped
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.exited)
	w.news.Broadcast()
}

// hear keeps what the worker says. It closes what a barrier brings, and keeps
// other descriptors open.
func (w *process) hear(notify *net.UnixConn) {
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, nControl, _, _, err := notify.ReadMsgUnix(message, control)
		if err != nil {
			return
		}
		if string(message[:n]) == lastWords {
			w.end()
			return
		}
		var fds []int
		messages, _ := unix.ParseSocketControlMessage(control[:nControl])
		for _, m := range messages {
			rights, _ := unix.ParseUnixRights(&m)
			fds = append(fds, rights...)
		}
		w.mu.Lock()
		w.said = append(w.said, strings.Split(string(message[:n]), "\n")...)
		if string(message[:n]) != "BARRIER=1" {
			w.fds = append(w.fds, fds...)
			fds = nil
		}
		w.news.Broadcast()
		w.mu.Unlock()
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// await returns when the worker has said something, and fails the test if it ends
// before.
func (w *process) await(assignment string) {
	w.t.Helper()
	stop := time.AfterFunc(patience, func() { w.cmd.Process.Kill() })
	defer stop.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !contains(w.said, assignment) {
		select {
		case <-w.exited:
			w.t.Fatalf("worker ended (%v) and said %q, never %q\n%s", w.cmd.ProcessState, w.said, assignment, w.output)
		default:
		}
		w.news.Wait()
	}
}

func contains(said []string, assignment string) bool {
	for _, s := range said {
		if s == assignment || strings.HasSuffix(assignment, "=") && strings.HasPrefix(s, assignment) {
			return true
		}
	}
	return false
}

func (w *process) terminate() {
	w.t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatalf("%v\n%s", err, w.output)
	}
}

// awaitExit returns when the worker has ended, which must be with status 0.
func (w *process) awaitExit() {
	w.t.Helper()
	select {
	case <-w.exited:
	case <-time.After(patience):
		w.cmd.Process.Signal(syscall.SIGQUIT)
		<-w.exited
		w.t.Fatalf("worker did not end\n%s", w.output)
	}
	if !w.cmd.ProcessState.Success() {
		w.t.Fatalf("worker ended with %v\n%s", w.cmd.ProcessState, w.output)
	}
}
