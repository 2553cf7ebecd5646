package socket

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const stranger = 65534

// roles are the other processes that the tests need: this binary again, with
// ROLE and its words in the environment.
var roles = map[string]func(args []string){
	"listen":    listenAndWait,
	"flip":      flip,
	"bind":      bindAndWait,
	"active":    serveActivated,
	"say":       sayBind,
	"meddle":    meddleWith3,
	"hold":      hold,
	"supervise": supervise,
}

func TestMain(m *testing.M) {
	if role := strings.Fields(os.Getenv("ROLE")); len(role) > 0 {
		roles[role[0]](role[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// role prepares another process, whose standard input ends with this one.
func role(words ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	cmd.Env = []string{"ROLE=" + strings.Join(words, " ")}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// begin starts it and returns its first line; it is killed when the test ends.
func begin(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s ended before it said anything: %v", cmd.Env, err)
	}
	return strings.TrimSpace(line)
}

func as(uid uint32) *syscall.Credential { return &syscall.Credential{Uid: uid, Gid: uid} }

// asStranger runs the calling test once more as an ordinary user, and says
// whether this is that run.
func asStranger(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as(stranger)}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as uid %d: %v\n%s", stranger, err, out)
	}
	return false
}

// inChild runs the calling test once more in a process that is started with
// these files from fd 3 on, and says whether this is that process. LISTEN_PID
// is the child's if the environment has LISTEN_PID=own.
func inChild(t *testing.T, files []*os.File, env ...string) bool {
	t.Helper()
	if os.Getenv("CHILD") != "" {
		if os.Getenv("LISTEN_PID") == "own" {
			os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(env, "CHILD=1", "PATH=/usr/bin:/bin")
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in the child: %v\n%s", err, out)
	}
	return false
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: " + why)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shortDir is a directory whose paths fit into a unix address.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sock")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func tcp(host string, port int) unit.Address {
	return unit.Address{Network: "tcp", Host: host, Port: port}
}

func file(p string) unit.Address { return unit.Address{Network: "unix", Path: p} }

func spec(name string, a ...unit.Address) *unit.Socket {
	return &unit.Socket{Name: name, Listen: a, Backlog: 64, Mode: 0o600, NonBlocking: true, WhenDown: unit.Refuse}
}

// everyKind is one address of each kind that this machine has.
func everyKind(t *testing.T) map[string]unit.Address {
	dir := shortDir(t)
	all := map[string]unit.Address{
		"v4":       tcp("127.0.0.1", 0),
		"v6":       tcp("::1", 0),
		"any":      tcp("", 0),
		"path":     file(filepath.Join(dir, "api.sock")),
		"abstract": file("@" + filepath.Base(dir)),
	}
	if !haveIPv6() {
		t.Log("no IPv6 loopback here: v6 is not tested")
		delete(all, "v6")
	}
	return all
}

func haveIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// dial connects to where the Table says that it listens.
func dial(address string) (net.Conn, error) {
	if address[0] == '/' || address[0] == '@' {
		return net.Dial("unix", address)
	}
	return net.Dial("tcp", address)
}

// accept waits for a connection, whatever the socket's O_NONBLOCK.
func accept(listener int) (int, error) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		return fd, err
	}
}

// listenAndWait is a server that somebody else runs: it prints its address.
func listenAndWait(args []string) {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Addr())
	wait()
}

// wait is no select {}: the runtime would call that a deadlock.
func wait() {
	for {
		unix.Pause()
	}
}

// bindAndWait is another supervisord that has a path and does not serve it yet.
func bindAndWait(args []string) {
	err := NewTable(nil).Bind(spec("other", file(args[0])))
	fmt.Println(err)
	wait()
}

// lose takes both names from the socket at a path, so that nothing can put it back.
func lose(at string) error { return errors.Join(os.Remove(at+".spare"), os.Remove(at)) }
