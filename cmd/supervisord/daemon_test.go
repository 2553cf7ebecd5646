package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// The two binaries as a user has them: started, asked, signalled, killed.

// $SUPERVISORD_BINARIES is a directory that has others than those of this tree:
// built with the race detector, or of an older commit.
var binaries = sync.OnceValues(func() (rig.Binaries, error) {
	if dir := os.Getenv("SUPERVISORD_BINARIES"); dir != "" {
		return rig.Binaries{Dir: dir}, nil
	}
	dir, err := rig.TempDir()
	if err != nil {
		return rig.Binaries{}, err
	}
	return rig.Build(context.Background(), dir)
})

func TestMain(m *testing.M) {
	if calls := os.Getenv(forbidden); calls != "" {
		startWithout(calls)
	}
	status := m.Run()
	if b, err := binaries(); err == nil && b.Dir != os.Getenv("SUPERVISORD_BINARIES") {
		os.RemoveAll(b.Dir)
	}
	os.Exit(status)
}

// A running is a supervisord in a directory of its own.
type running struct {
	*testing.T
	rig.Ctl
	dir   string
	extra []*os.File // that it is started with
	cmd   *exec.Cmd
	lines chan string // of its stderr; closed when it has ended
}

// at makes a place for a supervisord with a configuration: all but [manager].
func at(t *testing.T, configuration string) *running {
	t.Helper()
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := rig.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{T: t, dir: dir, Ctl: rig.Ctl{Superctl: b.Superctl(), Socket: dir + "/run/control.sock"}}
	t.Cleanup(func() {
		r.abandon()
		if err := rig.Sweep(dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	r.write(configuration)
	return r
}

// abandon ends a supervisord that a test has not, with all that it runs.
func (r *running) abandon() {
	if r.cmd == nil || r.cmd.Process == nil || r.cmd.ProcessState != nil {
		return
	}
	for range 2 { // the second one kills
		r.cmd.Process.Signal(syscall.SIGINT)
	}
	for range r.lines {
	}
	r.cmd.Wait()
}

func (r *running) path(name string) string { return filepath.Join(r.dir, name) }

func (r *running) write(configuration string) {
	r.Helper()
	manager := fmt.Sprintf("[manager]\nruntime_directory = %q\nstate_directory = %q\nlog_directory = %q\n", r.path("run"), r.path("state"), r.path("log"))
	text := strings.ReplaceAll(manager+configuration, "$DIR", r.dir)
	if err := os.WriteFile(r.path("supervisord.toml"), []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}

// start runs it, and returns when its control socket answers.
func (r *running) start() {
	r.Helper()
	r.startWith(r.command())
}

// startWith is start of a command that is, or becomes, a supervisord.
func (r *running) startWith(cmd *exec.Cmd) {
	r.Helper()
	ready, err := rig.ListenReady(r.path("notify"))
	if err != nil {
		r.Fatal(err)
	}
	defer ready.Close()
	exited := r.run(cmd, ready.Env())
	if err := ready.Wait(r.Context(), exited); err != nil {
		for line := range r.lines {
			r.Log(line)
		}
		r.Fatal(err)
	}
}

func (r *running) command() *exec.Cmd {
	r.Helper()
	b, err := binaries()
	if err != nil {
		r.Fatal(err)
	}
	return exec.Command(b.Supervisord(), "-c", r.path("supervisord.toml"))
}

func (r *running) launch(env ...string) <-chan struct{} {
	r.Helper()
	return r.run(r.command(), env...)
}

// run runs a command that is, or becomes, a supervisord.
func (r *running) run(cmd *exec.Cmd, env ...string) <-chan struct{} {
	r.Helper()
	r.cmd = cmd
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Dir, r.cmd.ExtraFiles = r.dir, append(r.cmd.ExtraFiles, r.extra...)
	if r.cmd.SysProcAttr == nil {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	r.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // nothing outlives a test that is killed
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.lines = make(chan string, 10_000)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		defer close(r.lines)
		for in := bufio.NewScanner(stderr); in.Scan(); {
			r.lines <- in.Text()
		}
	}()
	return exited
}

// line returns the next line of its own log that has all of the parts.
func (r *running) line(parts ...string) string {
	r.Helper()
	for line := range r.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return line
		}
	}
	r.Fatalf("it ended without saying %q", parts)
	return ""
}

func (r *running) signal(sig syscall.Signal) {
	r.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.Fatal(err)
	}
}

// end waits for it to exit with a status.
func (r *running) end(status int) {
	r.Helper()
	for range r.lines {
	}
	r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != status {
		r.Errorf("supervisord ended with %v; want status %d", r.cmd.ProcessState, status)
	}
}

func (r *running) stop() {
	r.Helper()
	r.signal(syscall.SIGTERM)
	r.end(0)
}

// ctl calls superctl, wants its exit status, and returns what it printed.
func (r *running) ctl(status int, args ...string) string {
	r.Helper()
	a, err := r.Call(r.Context(), args...)
	if err != nil {
		r.Fatal(err)
	}
	if a.Status != status {
		r.Errorf("superctl %s exited with status %d; want %d\n%s%s", strings.Join(args, " "), a.Status, status, a.Stdout, a.Stderr)
	}
	return a.Stdout + a.Stderr
}

// follow waits until superctl logs -f has a line with the word.
func (r *running) follow(word string, args ...string) {
	r.Helper()
	stop, err := r.Until(r.Context(), word, append([]string{"logs", "-f"}, args...)...)
	if err != nil {
		r.Fatal(err)
	}
	stop()
}

func (r *running) has(text string, parts ...string) {
	r.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			r.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}

// pid of a service's main process.
func (r *running) pid(service string) int {
	r.Helper()
	text := r.ctl(0, "status", "-o", "json", service)
	m := regexp.MustCompile(`"main_pid":\s*(\d+)`).FindStringSubmatch(text)
	if m == nil {
		r.Fatalf("no main_pid in %s", text)
	}
	pid, _ := strconv.Atoi(m[1])
	return pid
}

const sleeper = `
[service.api]
exec_start = ["/bin/sleep", "1000"]
[service.api.reload]
bake = "10ms"
`

func TestSignals(t *testing.T) {
	r := at(t, sleeper)
	r.start()
	r.write(sleeper + "[service.more]\nexec_start = [\"/bin/sleep\", \"1000\"]\n")
	r.signal(syscall.SIGHUP)
	r.has(r.line("loaded the configuration"), `"added":["more"]`)
	r.has(r.ctl(0, "status"), "more", "dead") // known, not started
	r.write(sleeper + "[service.more]\nexec_strat = 1\n")
	r.signal(syscall.SIGHUP)
	r.has(r.line("cannot load the configuration"), "exec_strat")
	r.signal(syscall.SIGUSR2)
	r.line("refused SIGUSR2")
	r.ctl(0, "start", "api") // which it is, or about to be
	r.stop()
}

// USR1 is for logrotate: what was moved away is not written to any more.
func TestLogsAreOpenedAnew(t *testing.T) {
	r := at(t, `
[service.api]
exec_start = ["/bin/sh", "-c", "echo hello; exec sleep 1000"]
[service.api.reload]
bake = "10ms"
`)
	r.start()
	r.follow("hello", "--generation", "1", "api")
	r.ctl(0, "restart", "api") // what is gone has its output in the file
	if err := os.Rename(r.path("log/api.log"), r.path("log/moved")); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGUSR1)
	r.line("opened the logs anew")
	r.ctl(0, "restart", "api")
	r.follow("hello", "--generation", "3", "api")
	r.ctl(0, "restart", "api")
	r.stop()
	if text, err := os.ReadFile(r.path("log/api.log")); err != nil || !strings.HasSuffix(string(text), "hello\n") {
		t.Errorf("the new file has %q, %v", text, err)
	}
}

func TestSecondSupervisordIsTurnedAway(t *testing.T) {
	r := at(t, sleeper)
	r.start()
	second := *r
	second.launch()
	r.has(second.line("cannot use"), fmt.Sprintf("another supervisord (pid %d) has it", r.cmd.Process.Pid))
	second.end(1)
	r.ctl(0, "start", "api")
	r.stop()
}

// What a killed supervisord leaves is named, and never started a second time.
func TestAfterAKill(t *testing.T) {
	r := at(t, sleeper)
	r.start()
	r.ctl(0, "restart", "api") // generation 2
	pid := r.pid("api")
	r.signal(syscall.SIGKILL)
	r.end(-1)
	r.launch()
	r.has(r.line("still run"), fmt.Sprintf("pid %d of api", pid))
	r.has(r.line("hint"), fmt.Sprintf("supervisord again: kill %d (if they stay: kill -KILL %[1]d)", pid))
	r.end(1)
	worker, _ := os.FindProcess(pid)
	if err := worker.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the worker is gone: %v", err)
	}
	worker.Signal(syscall.SIGKILL)
	for rig.Alive(pid) {
	}
	r.start()
	r.has(r.ctl(0, "restart", "api"), "generation 3 -> 4")
	r.stop()
}

// What happened under one supervisord is known to the next, once.
func TestHistoryGoesOn(t *testing.T) {
	configuration := `
[socket.http]
listen_stream = ["127.0.0.1:0"]
[service.api]
exec_start = ["/bin/sleep", "1000"]
sockets = ["http"]
[service.api.reload]
bake = "10ms"
`
	r := at(t, configuration)
	r.start()
	r.ctl(0, "reload", "api")
	pid := r.pid("api")
	r.ctl(0, "kill", "--whom", "main", "-s", "SEGV", "api") // the old one may still be there
	r.line(fmt.Sprintf("pid %d was killed by SIGSEGV", pid))
	r.line("running")
	first := r.ctl(0, "history")
	r.has(first, fmt.Sprintf("was killed by SIGSEGV (pid %d)", pid), "127.0.0.1:", " 0 dropped")
	r.stop()

	r.write("[service.other]\nexec_start = [\"/bin/sleep\", \"1000\"]\n[service.other.reload]\nbake = \"10ms\"\n")
	r.start()
	r.ctl(0, "start", "other")
	second := r.ctl(0, "history", "api") // which is configured no more
	if want := len(strings.Split(first, "\n")) + 1; len(strings.Split(second, "\n")) != want {
		t.Errorf("the first supervisord knew\n%sand the second\n%s", first, second)
	}
	events := regexp.MustCompile(`(?m)^\S+ \S+ +(\S+) +(\S+)`).FindAllStringSubmatch(r.ctl(0, "history"), -1)
	got := ""
	for _, e := range events {
		got += e[1] + " " + e[2] + ", "
	}
	r.has(got, "api start, api reload, api exit, api stop, other start, ")
	r.ctl(4, "history", "nope")
	r.stop()
}

func TestWrongConfigurationStartsNothing(t *testing.T) {
	r := at(t, "log_level = \"loud\"\n[service.api]\nexec_start = \"/bin/true\"\ntype = \"notfy\"\n") // of [manager]
	r.launch()
	r.has(r.line("manager.log_level"), "supervisord.toml:5:", `"warn"`)
	r.has(r.line("service.api.type"), "supervisord.toml:8:", `"notify"`)
	r.end(1)
	if _, err := os.Stat(r.path("run")); err == nil {
		t.Error("it made its runtime directory")
	}
}

func TestUsage(t *testing.T) {
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--bogus"}, {"stray"}, {"--demo", "-c", "x"}, {"-c", ""}} {
		cmd := exec.Command(b.Supervisord(), args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(out), "supervisord: ") {
			t.Errorf("%q: status %d, %s", args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

// A socket that somebody else has is the problem of the service that needs it.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := at(t, fmt.Sprintf(`
[socket.http]
listen_stream = [%q]
[service.web]
exec_start = ["/bin/sleep", "1000"]
sockets = ["http"]
restart_max_delay_sec = "100ms"
[service.web.reload]
bake = "10ms"
`, l.Addr())+sleeper)
	r.start()
	text := r.ctl(3, "start", "web")
	r.has(text, "cannot start web: cannot bind "+l.Addr().String(), fmt.Sprintf("pid %d", os.Getpid()), "hint: stop that process, or listen elsewhere")
	r.ctl(0, "start", "api")
	r.has(r.ctl(0, "status", "api"), "running")
	l.Close() // a child of ours that is between fork and exec may have it a moment longer
	r.line(`"unit":"web"`, "running (was ")
	r.has(r.ctl(0, "status", "web"), "running")
	r.stop()
}

// What the files no longer name stays until it has ended.
func TestRemovedService(t *testing.T) {
	r := at(t, sleeper+"[service.more]\nexec_start = [\"/bin/sleep\", \"1000\"]\n")
	r.start()
	r.ctl(0, "start", "more")
	r.write(sleeper)
	r.has(r.ctl(0, "daemon-reload"), "more")
	r.has(r.ctl(0, "status", "more"), "the configuration no longer names it")
	r.has(r.ctl(4, "reload", "more"), "no longer names it", "put it back into the configuration")
	r.ctl(0, "stop", "more")
	r.line(`"unit":"more"`, "forgotten")
	r.ctl(4, "status", "more")
	r.stop()
}

// A build that has baked is started again from the file that it ran from, also
// when the path has another by now, or none (R14).
func TestCrashRunsTheBuildThatBaked(t *testing.T) {
	r := at(t, `
[service.api]
exec_start = ["$DIR/api", "1000"]
restart_reset_sec = "1ms"
[service.api.reload]
mode = "overlap"
bake = "2s"
`)
	install := func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(r.path("new"), text, 0o755)
		}
		if err == nil {
			err = os.Rename(r.path("new"), r.path("api"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	install("/bin/sleep")
	r.start()
	r.ctl(0, "restart", "api") // it has baked
	install("/bin/false")
	r.has(r.ctl(1, "reload", "api"), "exited with status 1", "still serves")
	r.has(r.ctl(0, "status", "api"), "file on disk differs")
	for range 2 {
		r.ctl(0, "kill", "-s", "KILL", "api")
		r.line("started pid", `"generation":2`)
		r.ctl(0, "start", "api")
		os.Remove(r.path("api"))
	}
	r.has(r.ctl(1, "reload", "api"), "no such file")
	install("/bin/sleep")
	r.has(r.ctl(0, "reload", "api"), "generation 2 -> ")
	r.stop()
}

// A build that never baked is what is at the path, as soon as there is something.
func TestMissingProgramComesBack(t *testing.T) {
	r := at(t, "[service.api]\nexec_start = [\"$DIR/api\", \"1000\"]\nrestart_max_delay_sec = \"200ms\"\n")
	r.start()
	r.line("cannot execute", "no such file")
	if err := os.Symlink("/bin/sleep", r.path("api")); err != nil {
		t.Fatal(err)
	}
	r.line("started pid")
	r.ctl(0, "start", "api")
	r.stop()
}

// Whoever asks last wins, and nothing runs twice (R3).
func TestManyVerbsAtOnce(t *testing.T) {
	r := at(t, sleeper)
	r.start()
	var all sync.WaitGroup
	for i := range 12 {
		verb := []string{"reload", "restart", "start", "stop"}[i%4]
		all.Go(func() {
			if a, err := r.Call(r.Context(), verb, "api"); err != nil || a.Status > 3 {
				t.Errorf("%s: status %d, %v\n%s%s", verb, a.Status, err, a.Stdout, a.Stderr)
			}
		})
	}
	all.Wait()
	r.ctl(0, "start", "api")
	r.ctl(0, "reload", "--wait=drained", "api")
	text := r.ctl(0, "status", "-o", "json", "api")
	if n := strings.Count(text, `"role": "main"`); n != 1 {
		t.Errorf("%d main processes in\n%s", n, text)
	}
	r.stop()
}

// Every command that the demo prints works when it is pasted alone, and nothing
// is left when it has ended. It needs no root.
func TestDemo(t *testing.T) {
	for _, uid := range []uint32{0, 65534} {
		t.Run(fmt.Sprint("uid ", uid), func(t *testing.T) {
			if os.Geteuid() != 0 && uid != uint32(os.Geteuid()) {
				t.Skip("needs root, to be another user")
			}
			demo(t, uid)
		})
	}
}

func demo(t *testing.T, uid uint32) {
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := rig.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o777|os.ModeSticky)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGTERM}
	cmd := exec.Command(b.Supervisord(), "--demo")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "TMPDIR=" + dir}
	cmd.SysProcAttr = as
	stderr, _ := cmd.StderrPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	commands, said := 0, ""
	in := bufio.NewScanner(stderr)
	for in.Scan() && !strings.Contains(in.Text(), "behind.") {
		said += in.Text() + "\n"
		line, ok := strings.CutPrefix(in.Text(), "  ")
		if !ok || strings.HasPrefix(line, "curl") && exec.Command("curl", "--version").Run() != nil {
			continue
		}
		commands++
		sh := exec.Command("/bin/sh", "-c", line)
		sh.Env, sh.SysProcAttr, sh.Dir = cmd.Env, as, "/"
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	go io.Copy(io.Discard, stderr)
	if commands < 3 {
		t.Errorf("it printed %d commands:\n%s", commands, said)
	}
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, said)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it left %v behind", left)
	}
}
