package keeper_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entries is the list by its keys. Its descriptors are closed with the test.
func entries(t *testing.T, c *keeper.Client) map[string]keeper.Entry {
	t.Helper()
	all := listed(t, c)
	t.Cleanup(func() {
		for _, e := range all {
			e.Close()
		}
	})
	return all
}

func listed(t *testing.T, c *keeper.Client) map[string]keeper.Entry {
	t.Helper()
	all, err := c.List()
	must(t, err)
	by := map[string]keeper.Entry{}
	for _, e := range all {
		if _, twice := by[e.Key]; twice {
			t.Errorf("%s is there twice", e.Key)
		}
		by[e.Key] = e
	}
	return by
}

func keysOf(all []keeper.Entry) (keys []string) {
	for _, e := range all {
		keys = append(keys, e.Key)
		e.Close()
	}
	return keys
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func again(call func() error) {
	for call() == unix.EINTR {
	}
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	return st.Ino
}

func TestWhatIsKeptOutlivesTheManager(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	must(t, c.Put("out/web/1", "a text", int(r.Fd()), int(w.Fd())))
	must(t, c.Put("epoch", "17"))
	must(t, c.Put("gone", "", int(w.Fd())))
	must(t, c.Drop("gone"))
	must(t, c.Drop("never there"))
	w.WriteString("said before")
	s.Kill()

	c = s.Manager(keeper.Handler{})
	all, err := c.List()
	must(t, err)
	if len(all) != 2 || all[0].Key != "out/web/1" || all[0].Meta != "a text" || all[1].Key != "epoch" || all[1].Meta != "17" || len(all[1].FDs) != 0 {
		t.Fatalf("the list is %+v", all)
	}
	defer all[0].Close()
	if len(all[0].FDs) != 2 || inode(t, all[0].FDs[0]) != inode(t, int(r.Fd())) || inode(t, all[0].FDs[1]) != inode(t, int(w.Fd())) {
		t.Fatalf("the descriptors are others: %+v", all[0])
	}
	for _, fd := range all[0].FDs {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d would be inherited: %v, %v", fd, flags, err)
		}
	}
	var b [64]byte
	n, err := unix.Read(all[0].FDs[0], b[:])
	if string(b[:max(n, 0)]) != "said before" {
		t.Errorf("the pipe has %q, %v", b[:max(n, 0)], err)
	}
}

// The last copy of what is dropped is closed.
func TestDropCloses(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	must(t, c.Put("out", "", int(w.Fd())))
	w.Close()
	must(t, c.Drop("out"))
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil { // or it waits for ever
		t.Errorf("read %d, %v", n, err)
	}
}

func TestAKeyIsThereOnce(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	must(t, c.Put("a", ""))
	for name, err := range map[string]error{
		"put":            c.Put("a", "other"),
		"spawn":          errorOf(c.Spawn(keeper.Spawn{Key: "a", Control: "ctl", Cgroup: -1})),
		"its control":    errorOf(c.Spawn(keeper.Spawn{Key: "proc", Control: "a", Cgroup: -1})),
		"twice the same": errorOf(c.Spawn(keeper.Spawn{Key: "b", Control: "b", Cgroup: -1})),
		"adopt":          errorOf(c.Adopt("a", "", os.Getpid(), self(t))),
	} {
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, _ := c.List(); !slices.Equal(keysOf(all), []string{"a"}) || all[0].Meta != "" {
		t.Errorf("the list is %+v", all)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func self(t *testing.T) int {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestWhatCannotBeKept(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	long := strings.Repeat("x", 1<<20)
	for _, e := range []struct {
		name string
		err  error
		want error
	}{
		{"no key", c.Put("", ""), unix.EINVAL},
		{"long key", c.Put(long[:256], ""), unix.EINVAL},
		{"long meta", c.Put("a", long[:65<<10]), unix.EMSGSIZE},
		{"longer than a message", c.Put("a", long), unix.EMSGSIZE},
		{"many files", c.Put("a", "", make([]int, 251)...), unix.EMSGSIZE},
		{"no file", c.Put("a", "", 1<<20), unix.EBADF},
		{"no pidfd", errorOf(c.Adopt("a", "", 1, 0)), unix.EBADF},
		{"a file that is not kept", errorOf(c.Spawn(keeper.Spawn{Key: "a", Control: "b", Cgroup: -1, Files: []keeper.File{keeper.Of("out", 0)}})), unix.ENOENT},
		{"a file without a key", errorOf(c.Spawn(keeper.Spawn{Key: "a", Control: "b", Cgroup: -1, Files: []keeper.File{keeper.Of("", 0)}})), unix.ENOENT},
		{"no process", errorOf(c.Adopt("a", "", 0, self(t))), unix.EINVAL},
		{"no signal", c.Heard(keeper.Signal{}), unix.EINVAL},
		{"no cgroup", errorOf(c.Spawn(keeper.Spawn{Key: "a", Control: "b", Cgroup: 0})), unix.EBADF},
	} {
		if !errors.Is(e.err, e.want) {
			t.Errorf("%s: %v, want %v", e.name, e.err, e.want)
		}
	}
	if all, err := c.List(); err != nil || len(all) != 0 {
		t.Errorf("the list is %+v, %v", all, err)
	}
	must(t, c.Put(long[:255], long[:64<<10], make([]int, keeper.MaxFiles)...))
	all, err := c.List()
	if err != nil || len(all) != 1 || len(all[0].Meta) != 64<<10 || len(all[0].FDs) != keeper.MaxFiles {
		t.Errorf("the list has %d, %v", len(all), err)
	}
	keysOf(all)
}

// A child is a process that waits for programs.
type child struct {
	keeper.Child
	t *testing.T
}

func start(t *testing.T, c *keeper.Client, inv string, files ...keeper.File) *child {
	t.Helper()
	got, err := c.Spawn(keeper.Spawn{Key: "proc/" + inv, Meta: "meta of " + inv, Control: "ctl/" + inv, Cgroup: -1, Files: files})
	must(t, err)
	t.Cleanup(func() { got.Close(); unix.Close(got.Control) })
	return &child{got, t}
}

// found is a child that an earlier manager has started.
func found(t *testing.T, all map[string]keeper.Entry, inv string) *child {
	t.Helper()
	process, control := all["proc/"+inv], all["ctl/"+inv]
	if len(process.FDs) != 1 || len(control.FDs) != 1 {
		t.Fatalf("%s is not there: %+v", inv, all)
	}
	return &child{keeper.Child{Entry: process, Control: control.FDs[0]}, t}
}

// run lets it become sh with a script. Its first file, if it has one, is its output.
func (c *child) run(script string) *child {
	c.t.Helper()
	b := spawn.NewBuilder(c.Base, 0)
	b.Call(unix.SYS_DUP3, uintptr(c.First), 1, 0).AllowAny()
	b.Call(unix.SYS_DUP3, uintptr(c.First+1), 3, 0).AllowAny()
	path, argv, env := b.Text("/bin/sh"), b.Texts([]string{"sh", "-c", script}), b.Texts([]string{"PATH=/usr/bin:/bin"})
	b.AnswerValue(spawn.Exec, 0)
	b.Call(unix.SYS_EXECVE, path, argv, env)
	if err := spawn.Tell(c.Control, b.Program()); err != nil && err != unix.EPIPE {
		c.t.Fatal(err)
	}
	return c
}

func (c *child) ends() syscall.WaitStatus {
	c.t.Helper()
	return <-c.End
}

func TestSpawn(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	must(t, c.Put("out/web/1", "", int(r.Fd()), int(w.Fd())))
	p := start(t, c, "web/1", keeper.Of("out/web/1", 1), keeper.Given(int(w.Fd())))
	if p.State != keeper.Running || p.PID <= 1 || p.First < 3 || p.Base == 0 || p.NoFile == 0 || p.Meta != "meta of web/1" || p.Foreign {
		t.Errorf("the child is %+v", p)
	}
	poll := []unix.PollFd{{Fd: int32(p.Control), Events: unix.POLLIN}}
	again(func() error { _, err := unix.Poll(poll, -1); return err })
	f, ok, err := spawn.Hear(p.Control)
	if !ok || err != nil || f.Kind != spawn.Born {
		t.Errorf("its first word is %+v, %v, %v", f, ok, err)
	}
	p.run("test $PPID = " + strconv.Itoa(s.PID) + " && echo hello && echo again >&3 && exit 42")
	if ws := p.ends(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
	var b [64]byte
	n, _ := r.Read(b[:])
	if string(b[:n]) != "hello\nagain\n" {
		t.Errorf("it said %q", b[:n])
	}
}

func TestAManagerIsWhatItIs(t *testing.T) {
	s := keepertest.Serve(t)
	s.Manager(keeper.Handler{})
	for pid, want := range map[int]string{s.PID: "supervisord", s.ManagerPID(): "supervisord-mgr"} {
		if comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); strings.TrimSpace(string(comm)) != want {
			t.Errorf("process %d is called %s, want %s", pid, comm, want)
		}
	}
	if sid, err := unix.Getsid(s.ManagerPID()); err != nil || sid != s.ManagerPID() {
		t.Errorf("the manager is in session %d, %v", sid, err)
	}
	line, _ := os.ReadFile("/proc/" + strconv.Itoa(s.ManagerPID()) + "/cmdline")
	if string(line) != keeper.ManagerName+"\x00" {
		t.Errorf("the manager was executed as %q", line)
	}
}
