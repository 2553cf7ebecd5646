package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// hello is the path of a real web server, built once.
var hello = sync.OnceValues(func() (string, error) {
	b, err := binaries()
	if err != nil {
		return "", err
	}
	path := b.Dir + "/hello"
	out, err := exec.Command("go", "build", "-o", path, module+"examples/hello").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the server: %w\n%s", err, out)
	}
	return path, nil
})

// serving starts a supervisord whose service is hello.
func serving(t *testing.T, configuration string) *running {
	t.Helper()
	path, err := hello()
	if err != nil {
		t.Fatal(err)
	}
	r := at(t, strings.ReplaceAll(configuration, "$HELLO", path))
	r.start()
	r.ctl(0, "start", "api")
	return r
}

// address of a socket that has any free port.
func (r *running) address() string {
	r.Helper()
	text := r.ctl(0, "sockets")
	a := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(text)
	if a == "" {
		r.Fatalf("no address in\n%s", text)
	}
	return a
}

var named = regexp.MustCompile(`pid (\d+)`)

// whoAnswers asks on a connection of its own, and returns the pid in the answer.
func whoAnswers(network, address string) (int, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := ask(c); err != nil {
		return 0, err
	}
	return answer(c)
}

func ask(c net.Conn) error {
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
	return err
}

func answer(c net.Conn) (int, error) {
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	m := named.FindSubmatch(body)
	if err != nil || m == nil {
		return 0, fmt.Errorf("no pid in %q: %w", body, err)
	}
	return strconv.Atoi(string(m[1]))
}

// all answers of n new connections come from one process.
func (r *running) allFrom(pid, n int, address, when string) {
	r.Helper()
	for range n {
		if got, err := whoAnswers("tcp", address); got != pid {
			r.Fatalf("%s: pid %d answers (%v); want only %d", when, got, err, pid)
		}
	}
}

const steered = `
[socket.http]
listen_stream = ["127.0.0.1:0"]
steer = "connections"
[service.api]
exec_start = ["$HELLO"]
type = "notify"
sockets = ["http"]
`

// A new process gets no connection before it has baked, and an old one none after.
func TestSteeredReload(t *testing.T) {
	r := serving(t, steered+"[service.api.reload]\nbake = \"1s\"\nsettle = \"200ms\"\n")
	address, old := r.address(), r.pid("api")
	r.allFrom(old, 50, address, "before the reload")
	done := make(chan rig.Answer, 1)
	go func() {
		a, _ := r.Call(context.Background(), "reload", "--wait=drained", "api")
		done <- a
	}()
	r.line("baking for 1s", `"role":"next"`)
	r.allFrom(old, 20, address, "while the new process bakes")
	r.line("switched to generation")
	r.allFrom(r.pid("api"), 50, address, "after the switch")
	if a := <-done; a.Status != 0 || !strings.Contains(a.Stdout, "gets no new connections") || !strings.Contains(a.Stdout, address+": 0 of 4096 in the queue") {
		t.Errorf("the reload ended with status %d and said\n%s%s", a.Status, a.Stdout, a.Stderr)
	}
	r.has(r.ctl(0, "status", "api"), "100% of new connections", "steered")
	r.stop()
}

// A canary gets its share while it bakes.
func TestCanary(t *testing.T) {
	r := serving(t, steered+"[service.api.reload]\nbake = \"1h\"\ncanary = \"50%\"\n")
	address, old := r.address(), r.pid("api")
	r.ctl(0, "reload", "--no-block", "api")
	r.line("baking for", `"role":"next"`)
	got := map[int]int{}
	for range 400 {
		pid, err := whoAnswers("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		got[pid]++
	}
	if n := got[old]; len(got) != 2 || n < 199 || n > 201 {
		t.Errorf("of 400 connections to two processes with half of them each: %v", got)
	}
	r.has(r.ctl(0, "sockets"), "50%")
	r.ctl(0, "stop", "api")
	r.stop()
}

// withoutBPF is a command that runs another one which may load no program into the
// kernel, whoever runs it. CAP_SYS_ADMIN includes CAP_BPF (capabilities(7)).
func withoutBPF(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() != 0 {
		return cmd
	}
	return exec.Command("setpriv", append([]string{"--bounding-set", "-bpf,-sys_admin", "--"}, cmd.Args...)...)
}

// A supervisord that may not steer shares the socket, serves, and says so wherever
// somebody might count on it.
func TestWithoutTheCapability(t *testing.T) {
	path, err := hello()
	if err != nil {
		t.Fatal(err)
	}
	r := at(t, strings.ReplaceAll(steered, "$HELLO", path)+"[service.api.reload]\nbake = \"10ms\"\ncanary = \"5%\"\n")
	r.startWith(withoutBPF(r.command()))
	const why = "steering needs CAP_BPF"
	r.has(r.line("shared"), why)
	r.ctl(0, "start", "api")
	r.allFrom(r.pid("api"), 20, r.address(), "at a socket that is shared")
	r.has(r.ctl(0, "status", "api"), "canary 5% is not possible")
	r.has(r.ctl(0, "sockets"), "shared", why)
	r.has(r.ctl(0, "reload", "api"), why, "canary 5% is not possible")
	r.has(r.ctl(1, "sockets", "--try", "api"), why)
	r.write(strings.ReplaceAll(strings.ReplaceAll(steered, "$HELLO", path), "steer =", "# steer ="))
	r.has(r.ctl(0, "daemon-reload"), "changed")
	if text := r.ctl(0, "reload", "api"); strings.Contains(text, why) {
		t.Errorf("nobody has asked, and is told\n%s", text)
	}
	r.has(r.ctl(1, "sockets", "--try", "api"), "none can be steered here: "+why)
	r.stop()
}

// A new process can be asked at the clients' address while they all still get the old
// one.
func TestTry(t *testing.T) {
	r := serving(t, steered+"[service.api.reload]\nbake = \"1h\"\n")
	address, old := r.address(), r.pid("api")
	r.has(r.ctl(3, "sockets", "--try", "api/next"), "no new process is coming up")
	r.ctl(0, "reload", "--no-block", "api")
	r.line("baking for", `"role":"next"`)
	for range 3 {
		text := r.ctl(0, "sockets", "--try", "api")
		who := named.FindAllStringSubmatch(text, -1)
		if len(who) != 2 || who[0][1] != who[1][1] || who[0][1] == strconv.Itoa(old) {
			t.Errorf("not the new process, but another than pid %d, is to say that it is the one that was asked:\n%s", old, text)
		}
		r.has(text, "(next, generation 2) at "+address, "HTTP/1.1 200 OK")
	}
	r.has(r.ctl(0, "sockets", "--try", "api/main"), fmt.Sprintf("pid %d (main, generation 1) at %s", old, address))
	r.allFrom(old, 20, address, "while the new process is tried")
	r.ctl(0, "stop", "api")
	r.has(r.ctl(3, "sockets", "--try", "api"), "it has no process")
	r.stop()
}

// freeze stops a process. The signal is on its way when kill(2) returns, so each
// of its threads is looked at until it has arrived.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		stopped := func(file string) bool {
			text, _ := os.ReadFile(file)
			return strings.Contains(string(text), ") T ")
		}
		if len(stats) == 0 {
			t.Fatalf("pid %d is gone", pid)
		}
		if !slices.ContainsFunc(stats, func(file string) bool { return !stopped(file) }) {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("it does not stop")
		}
	}
}

// Clients of the only process that had not been accepted when it crashed are
// answered by the next one.
func TestCrashOfTheOnlySteeredProcess(t *testing.T) {
	r := serving(t, steered)
	address, pid := r.address(), r.pid("api")
	freeze(t, pid)
	clients := waiting(t, 5, address)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if got, err := answer(c); err != nil || got == pid {
			t.Errorf("pid %d answers: %v", got, err)
		}
	}
	r.stop()
}

// waiting are clients that have asked and have no answer.
func waiting(t *testing.T, n int, address string) (clients []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", address)
		if err == nil {
			err = ask(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	return clients
}

// Who waits for a process that is stopped is answered, as soon as it is replaced, and not
// when the old one is gone, which takes as long as timeout_stop_sec: by the new process,
// or by the old one, which the signal to leave lets run on.
func TestReloadOfAHungProcess(t *testing.T) {
	r := serving(t, steered+"timeout_stop_sec = \"1h\"\n[service.api.reload]\nbake = \"10ms\"\nsettle = \"1h\"\n")
	address, pid := r.address(), r.pid("api")
	freeze(t, pid)
	clients := waiting(t, 60, address)
	r.ctl(0, "reload", "api")
	next := r.pid("api")
	for _, c := range clients {
		if got, err := answer(c); err != nil || got != next && got != pid {
			t.Fatalf("pid %d answers, and not %d or %d: %v", got, next, pid, err)
		}
	}
	r.stop()
}

// A stop refuses clients from its first step on, however long the process takes.
func TestStopRefusesAtOnce(t *testing.T) {
	r := serving(t, steered+"timeout_stop_sec = \"1h\"\n")
	address, pid := r.address(), r.pid("api")
	freeze(t, pid)
	r.ctl(0, "stop", "--no-block", "api")
	r.line("stop-sigterm") // it is said when it is done
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a client gets %v", err)
	}
	syscall.Kill(pid, syscall.SIGKILL) // the signal to leave lets it run on: it may be gone
	r.ctl(0, "stop", "api")
	r.stop()
}

// Each instance has what {instance} says, and there are as many as scale says.
func TestScale(t *testing.T) {
	r := serving(t, `
[socket.each]
listen_stream = ["$DIR/{instance}.sock"]
[socket.http]
listen_stream = ["127.0.0.1:0"]
steer = "connections"
[service.api]
exec_start = ["$HELLO"]
environment = { NAME = "api-{instance}" }
type = "notify"
sockets = ["each", "http"]
instances = 2
[service.api.reload]
bake = "50ms"
settle = "20ms"
max_draining = 50
`)
	at := func(i int) (int, error) { return whoAnswers("unix", r.path(fmt.Sprint(i)+".sock")) }
	wantInstances := func(n int) {
		t.Helper()
		seen := map[int]bool{}
		for i := range n {
			pid, err := at(i)
			if err != nil || seen[pid] {
				t.Errorf("instance %d of %d: pid %d, %v", i, n, pid, err)
				continue
			}
			seen[pid] = true
			environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			r.has(string(environ), fmt.Sprintf("NAME=api-%d\x00", i))
		}
		if pid, err := at(n); err == nil {
			t.Errorf("there are %d instances, but pid %d answers as one more", n, pid)
		}
		r.has(r.ctl(0, "status"), fmt.Sprintf("%d/%d", n, n))
	}
	wantInstances(2)
	r.has(r.ctl(0, "scale", "api", "4"), "instances: 4")
	wantInstances(4)
	first, _ := at(0)
	r.ctl(0, "reload", "--wait=drained", "api")
	wantInstances(4)
	if pid, _ := at(0); pid == first {
		t.Error("a reload has not replaced the first instance")
	}
	r.ctl(0, "scale", "--wait=drained", "api", "1")
	wantInstances(1)
	r.has(r.ctl(1, "scale", "api", "1000"), "cannot scale api to 1000", "steered, which 1023 processes can be")
	r.has(r.ctl(2, "scale", "api", "0"), "invalid number of instances")
	r.ctl(0, "stop", "api")
	r.has(r.ctl(0, "scale", "api", "2"), "note: api is down and stays down: the number counts from its next start", "hint: superctl --socket ", " start api")
	r.has(r.ctl(3, "status", "api"), "dead")
	r.ctl(0, "start", "api")
	wantInstances(2)
	r.stop()
}

// What a process does to a socket that it shares is named and undone (T45).
func TestRuinedSocketIsMended(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	r := at(t, `
[socket.http]
listen_stream = ["127.0.0.1:0"]
steer = "off"
[service.api]
exec_start = ["python3", "-c", """
import socket, struct, time
s = socket.socket(fileno=3)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.shutdown(socket.SHUT_RD)
print('done', flush=True)
time.sleep(1000)
"""]
sockets = ["http"]
[service.api.reload]
bake = "10ms"
`)
	r.start()
	address := r.address()
	r.ctl(0, "start", "api")
	r.line("http.socket", "shut it down")
	r.has(r.ctl(0, "sockets"), "SO_LINGER", "listening")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	r.stop()
}
