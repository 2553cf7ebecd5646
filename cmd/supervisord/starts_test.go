package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/internal/forbid"
)

// forbidden makes a test binary run its arguments with system calls that fail.
const forbidden = "TEST_FORBIDDEN"

func startWithout(calls string) {
	os.Unsetenv(forbidden)
	err := forbid.Calls(calls)
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(3)
}

// Without the process that starts others there is nothing that supervisord could do.
func TestNothingToStartWith(t *testing.T) {
	r := at(t, sleeper)
	b, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r.run(exec.Command(self, b.Supervisord(), "-c", r.path("supervisord.toml")),
		forbidden+"="+forbid.Call(unix.SYS_CLONE, unix.EAGAIN, int(unix.SIGCHLD)))
	r.has(r.line("cannot fork the process that starts others: resource temporarily unavailable"), "supervisord: ")
	r.has(r.line("hint:"), "TasksMax=")
	r.end(1)
}

// Whoever kills or stops that process holds up nothing for long.
func TestTemplateOfARunningSupervisord(t *testing.T) {
	t.Parallel()
	r := at(t, sleeper)
	r.start()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		template := r.template()
		syscall.Kill(template, sig)
		r.ctl(0, "reload", "api")
		if now := r.template(); now == template {
			t.Errorf("after %v it is still %d", sig, now)
		}
	}
	r.stop()
}

// A template that is stopped ends with supervisord, though it cannot see that.
func TestStoppedTemplateOfAKilledSupervisord(t *testing.T) {
	t.Parallel()
	r := at(t, "[service.api]\nexec_start = [\"/bin/sleep\", \"1000\"]\nstart = \"manual\"\n")
	r.start()
	template := r.template()
	pidfd, err := unix.PidfdOpen(template, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	r.kill(template, syscall.SIGSTOP)
	r.signal(syscall.SIGKILL)
	r.end(-1)
	const enough = 20_000 // ms; nobody waits for it unless the template stays
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, enough)
		if err == unix.EINTR {
			continue
		}
		if n == 0 {
			t.Error("the template is still there")
			r.kill(template, syscall.SIGKILL)
		}
		return
	}
}

// A template that was killed is not left for the next start to be taken off.
func TestKilledTemplateIsReaped(t *testing.T) {
	t.Parallel()
	r := at(t, sleeper)
	r.start()
	r.ctl(0, "start", "api")
	was := r.template()
	r.kill(was, syscall.SIGKILL)
	for end := time.Now().Add(20 * time.Second); syscall.Kill(was, 0) == nil; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it is not reaped")
		}
	}
	r.ctl(0, "reload", "api")
	if r.template() == was {
		t.Error("it is still there")
	}
	r.stop()
}

// While there can be no template a start fails, says why, and is tried again.
func TestNoTemplateForAWhile(t *testing.T) {
	t.Parallel()
	r := at(t, `
[service.api]
exec_start = ["/bin/sleep", "1000"]
restart_sec = "10ms"
restart_max_delay_sec = "50ms"
`)
	r.start()
	r.ctl(0, "start", "api")
	was := r.pid("api")
	var limit unix.Rlimit
	if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(soft uint64) {
		if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: soft, Max: limit.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	template := r.template()
	set(4)
	syscall.Kill(template, syscall.SIGKILL)
	syscall.Kill(was, syscall.SIGKILL)
	r.line(`"unit":"api"`, "restarts in ", "too many open files")
	set(limit.Cur)
	r.line(`"unit":"api"`, "running (was ")
	if now := r.template(); now == template {
		t.Errorf("it is still %d", now)
	}
	r.stop()
}

// A supervisord that has as many files as it may answers, and does what needs no more.
func TestNoMoreFiles(t *testing.T) {
	t.Parallel()
	r := at(t, sleeper)
	r.start()
	r.ctl(0, "start", "api")
	var limit unix.Rlimit
	if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	free := uint64(0)
	for link := func() error {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.cmd.Process.Pid, free))
		return err
	}; link() == nil; {
		free++
	}
	if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: free, Max: limit.Max}, nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r.has(r.ctl(0, "status"), "running")
	}
	r.ctl(0, "stop", "api")
	r.stop()
}

// template is the child of supervisord's that starts others. One that was killed may
// not be reaped yet.
func (r *running) template() int {
	r.Helper()
	for {
		if all := r.forks(); len(all) == 1 {
			return all[0]
		}
		runtime.Gosched()
	}
}

// forks are the children of supervisord that have executed nothing: the template, and
// what it has forked.
func (r *running) forks() (pids []int) {
	r.Helper()
	dir := fmt.Sprintf("/proc/%d/task/", r.cmd.Process.Pid)
	tasks, err := os.ReadDir(dir)
	if err != nil {
		r.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(dir + task.Name() + "/children")
		if os.IsNotExist(err) && task.Name() == strconv.Itoa(r.cmd.Process.Pid) {
			r.Skip("needs CONFIG_PROC_CHILDREN: ", err)
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, _ := strconv.Atoi(field)
			if comm, _ := os.ReadFile("/proc/" + field + "/comm"); string(comm) == "superv-template\n" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// unitCgroup is the directory of a service's cgroup; "": it has none.
func (r *running) unitCgroup(service string) string {
	r.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.pid(service)))
	if err != nil {
		r.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && strings.Contains(path, service+".service") {
			for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
				if _, err := os.Stat(root + path); err == nil {
					return filepath.Dir(root + path)
				}
			}
		}
	}
	return ""
}

// Sixty-four starts wait in the kernel, each in its own process, while the cgroup of a
// unit is frozen: nobody else waits for any of them, and they end when they are told to.
func TestStartsThatWait(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system, and starts programs as another user")
	}
	t.Parallel()
	const waiting, questions = 64, 400
	r := at(t, "")
	if err := os.Mkdir(r.path("theirs"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chown(r.path("theirs"), 65534, 65534)
	os.Chmod(r.dir, 0o755)
	configuration := sleeper + "[service.frozen]\nexec_start = [\"/bin/sleep\", \"1000\"]\ntimeout_stop_sec = \"1s\"\n"
	names := []string{}
	for i := range waiting {
		names = append(names, fmt.Sprintf("wait%d", i))
		configuration += fmt.Sprintf("[service.wait%d]\nexec_start = [\"/bin/sleep\", \"1000\"]\nuser = \"65534\"\ngroup = \"65534\"\nstart = \"manual\"\ntimeout_stop_sec = \"1h\"\nenvironment_file = [\"$DIR/theirs/fs/env\"]\n", i)
	}
	r.write(configuration)
	fs := mountSlow(t, r.path("theirs/fs"))
	r.start()
	fs.hang()
	r.ctl(0, append([]string{"start", "--no-block"}, names...)...)
	for len(r.forks()) < 1+waiting {
		runtime.Gosched()
	}
	if dir := r.unitCgroup("frozen"); dir == "" {
		t.Log("without a cgroup nothing is frozen")
	} else if err := os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0); err != nil {
		t.Error(err)
	} else {
		defer os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0)
	}
	var all sync.WaitGroup
	var answered atomic.Int64
	for range 4 {
		all.Go(func() {
			for range questions / 4 {
				if a, err := r.Call(context.WithoutCancel(r.Context()), "status"); err == nil && a.Status == 0 {
					answered.Add(1)
				} else {
					t.Log(a, err)
				}
			}
		})
	}
	r.ctl(0, "reload", "api")
	all.Wait()
	if n := answered.Load(); n != questions {
		t.Errorf("%d of %d questions were answered", n, questions)
	}
	r.stop()
}
