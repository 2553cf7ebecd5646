package store

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

const stranger = 65534

type value struct {
	Name  string
	Count int
	Pad   string `json:",omitempty"`
}

// scratch is a path for a runtime directory, below one that others can look into.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "store")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/run"
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// again runs the calling test in another process with ROLE set, as configured.
func again(t *testing.T, role string, how func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"ROLE=" + role}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	how(cmd)
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestValuesOutliveTheStore: what was put is there for the next supervisord of
// this boot, in files for it alone.
func TestValuesOutliveTheStore(t *testing.T) {
	dir := scratch(t)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	s := open(t, dir)
	must(t, s.Put("api", value{Name: "api", Count: 1}))
	must(t, s.Put("api", value{Name: "api", Count: 2}))
	must(t, s.Put("worker@3", value{Name: "worker"}))
	must(t, s.Put("gone", value{}))
	must(t, s.Delete("gone"))
	must(t, s.Delete("gone"))
	must(t, s.Close())
	for path, mode := range map[string]fs.FileMode{
		"": 0o711, "/state": 0o700, "/supervisord.lock": 0o600, "/state/api.json": 0o600,
	} {
		if st, err := os.Stat(dir + path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, not %v (%v)", path, st.Mode(), mode, err)
		}
	}

	s = open(t, dir)
	defer s.Close()
	keys, err := s.Keys()
	must(t, err)
	if !slices.Equal(keys, []string{"api", "worker@3"}) {
		t.Errorf("keys are %q", keys)
	}
	var v value
	must(t, s.Get("api", &v))
	if v.Count != 2 {
		t.Errorf("it is %+v", v)
	}
	if err := s.Get("gone", &v); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
}

// TestKeysCannotLeaveTheDirectory is what T22 asks of names.
func TestKeysCannotLeaveTheDirectory(t *testing.T) {
	s := open(t, scratch(t))
	defer s.Close()
	for _, key := range []string{"", ".", "..", "../x", "a/b", "-rf", ".hidden", "a b", "a\n", strings.Repeat("x", 201)} {
		for name, err := range map[string]error{
			"Put": s.Put(key, 1), "Get": s.Get(key, new(int)), "Delete": s.Delete(key), "SetAside": s.SetAside(key),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%q): %v", name, key, err)
			}
		}
	}
	if err := s.Put("api", func() {}); err == nil || !strings.HasPrefix(err.Error(), "cannot store api: ") {
		t.Errorf("no JSON: %v", err)
	}
}

// TestSecondSupervisordIsTurnedAway and told who has the directory (T11). It
// gets it as soon as the first is gone, however that went.
func TestSecondSupervisordIsTurnedAway(t *testing.T) {
	if dir := os.Getenv("ROLE"); dir != "" {
		open(t, dir)
		fmt.Println("locked")
		for { // no select {}: the runtime would call that a deadlock
			unix.Pause()
		}
	}
	dir := scratch(t)
	first := again(t, dir, func(*exec.Cmd) {})
	out, err := first.StdoutPipe()
	must(t, err)
	must(t, first.Start())
	defer func() { first.Process.Kill(); first.Wait() }()
	await(t, bufio.NewScanner(out), "locked")
	_, err = Open(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != first.Process.Pid {
		t.Fatalf("the second: %v", err)
	}
	if want := fmt.Sprintf("cannot use %s: another supervisord (pid %d) has it", dir, first.Process.Pid); err.Error() != want {
		t.Errorf("it says %q", err)
	}
	must(t, first.Process.Kill())
	first.Wait()
	must(t, open(t, dir).Close())
}

func await(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if lines.Text() == want {
			return
		}
	}
	t.Fatalf("the other process ended before it said %q", want)
}

// TestStrangerCannotHoldTheLock: T11. He can look at the directory's entries by
// name, and open none of them.
func TestStrangerCannotHoldTheLock(t *testing.T) {
	if dir := os.Getenv("ROLE"); dir != "" {
		for _, name := range []string{"/supervisord.lock", "/state/api.json"} {
			if f, err := os.Open(dir + name); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v, %v", name, f, err)
			}
		}
		if _, err := Open(dir); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Open: %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	dir := scratch(t)
	s := open(t, dir)
	defer s.Close()
	must(t, s.Put("api", value{}))
	run(t, again(t, dir, func(c *exec.Cmd) {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: stranger, Gid: stranger}
	}))
}

// TestRuntimeDirectoryOfSomebodyElse: T2. The component is named and nothing is
// made.
func TestRuntimeDirectoryOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a directory of another user")
	}
	dir := filepath.Dir(scratch(t))
	must(t, os.Mkdir(dir+"/theirs", 0o755))
	must(t, os.Chown(dir+"/theirs", stranger, stranger))
	must(t, os.Symlink("theirs", dir+"/link"))
	for _, path := range []string{"/theirs", "/theirs/run", "/link/run"} {
		_, err := Open(dir + path)
		var e *safepath.Error
		if !errors.As(err, &e) || e.Component != dir+"/theirs" {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	if names, _ := os.ReadDir(dir + "/theirs"); len(names) != 0 {
		t.Errorf("it made %v", names)
	}
}

// TestForgedStateIsNotRead: T47, and what stays of it.
func TestForgedStateIsNotRead(t *testing.T) {
	dir := scratch(t)
	s := open(t, dir)
	defer s.Close()
	good := `{"boot":"` + s.boot + `","value":{"Name":"forged"}}`
	write := func(key, text string) string {
		name := dir + "/state/" + key + ".json"
		must(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	for key, forge := range map[string]func(){
		"open":     func() { must(t, os.Chmod(write("open", good), 0o640)) },
		"hardlink": func() { must(t, os.Link(write("hardlink", good), dir+"/state/other")) },
		"symlink":  func() { must(t, os.Symlink(write("target", good), dir+"/state/symlink.json")) },
		"fifo":     func() { must(t, unix.Mkfifo(dir+"/state/fifo.json", 0o600)) },
		"dir":      func() { must(t, os.Mkdir(dir+"/state/dir.json", 0o700)) },
		"huge":     func() { must(t, os.Truncate(write("huge", good), 4<<30)) },
		"boot":     func() { write("boot", strings.Replace(good, s.boot, "another", 1)) },
		"deep":     func() { write("deep", `{"boot":"","value":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`) },
		"cut":      func() { write("cut", good[:len(good)-3]) },
		"empty":    func() { write("empty", "") },
		"after":    func() { write("after", good+"{}") },
		"unknown":  func() { write("unknown", `{"boot":"`+s.boot+`","extra":1,"value":{}}`) },
		"type":     func() { write("type", strings.Replace(good, `"forged"`, "7", 1)) },
	} {
		forge()
		var v value
		err := s.Get(key, &v)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Key != key || v.Name != "" {
			t.Errorf("%s: %+v, %v", key, v, err)
		}
		must(t, s.SetAside(key))
		if err := s.Get(key, &v); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was set aside and then: %v", key, err)
		}
		if _, err := os.Lstat(dir + "/state/" + key + ".aside"); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if os.Geteuid() == 0 {
		must(t, os.Chown(write("theirs", good), stranger, stranger))
		if err := s.Get("theirs", new(value)); err == nil || !strings.Contains(err.Error(), "belongs to uid 65534") {
			t.Errorf("a stranger's: %v", err)
		}
	}
}

// TestOrdinaryUserDoesNotBelieveRoot: what root left, under sudo say, is not our
// state.
func TestOrdinaryUserDoesNotBelieveRoot(t *testing.T) {
	if dir := os.Getenv("ROLE"); dir != "" {
		s := open(t, dir)
		defer s.Close()
		err := s.Get("api", new(value))
		if err == nil || !strings.Contains(err.Error(), "its file") {
			t.Errorf("root's value: %v", err)
		}
		must(t, s.Put("own", value{}))
		must(t, s.Get("own", new(value)))
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	dir := scratch(t)
	s := open(t, dir)
	must(t, s.Put("api", value{}))
	must(t, s.Close())
	for _, path := range []string{"", "/state", "/supervisord.lock"} {
		must(t, os.Chown(dir+path, stranger, stranger))
	}
	must(t, os.Chmod(dir+"/state/api.json", 0o644))
	run(t, again(t, dir, func(c *exec.Cmd) {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: stranger, Gid: stranger}
	}))
}

// TestEveryStepOfAWriteLeavesAWholeValue: R20, with each state of the directory
// that a write goes through.
func TestEveryStepOfAWriteLeavesAWholeValue(t *testing.T) {
	dir := scratch(t)
	s := open(t, dir)
	must(t, s.Put("api", value{Count: 1}))
	text, err := s.encode("api", value{Count: 2})
	must(t, err)
	must(t, s.Close())
	temp := dir + "/state/.api.1.tmp"
	for cut := 0; cut <= len(text); cut++ {
		must(t, os.WriteFile(temp, text[:cut], 0o600))
		expectCount(t, dir, 1)
		if _, err := os.Stat(temp); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("what the writer left is still there: %v", err)
		}
	}
	must(t, os.WriteFile(temp, text, 0o600))
	must(t, os.Rename(temp, dir+"/state/api.json"))
	expectCount(t, dir, 2)
}

func expectCount(t *testing.T, dir string, want int) {
	t.Helper()
	s := open(t, dir)
	defer s.Close()
	var v value
	must(t, s.Get("api", &v))
	if v.Count != want {
		t.Fatalf("count is %d, not %d", v.Count, want)
	}
}

// TestWriterKilledAtAnyPoint: R20 with a real writer and a real SIGKILL. The
// value is the last that was acknowledged, or a later one, and whole.
func TestWriterKilledAtAnyPoint(t *testing.T) {
	if dir := os.Getenv("ROLE"); dir != "" {
		s := open(t, dir)
		for i := 1; ; i++ {
			must(t, s.Put("api", value{Count: i, Pad: strings.Repeat("x", i%5000)}))
			fmt.Println("put", i)
		}
	}
	dir := scratch(t)
	for round := range 10 {
		writer := again(t, dir, func(*exec.Cmd) {})
		out, err := writer.StdoutPipe()
		must(t, err)
		must(t, writer.Start())
		lines := bufio.NewScanner(out)
		await(t, lines, "put "+strconv.Itoa(round*7+1))
		must(t, writer.Process.Kill())
		acknowledged := round*7 + 1
		for lines.Scan() {
			fmt.Sscanf(lines.Text(), "put %d", &acknowledged)
		}
		writer.Wait()
		s := open(t, dir)
		var v value
		must(t, s.Get("api", &v))
		if v.Count != acknowledged && v.Count != acknowledged+1 || len(v.Pad) != v.Count%5000 {
			t.Errorf("acknowledged %d, stored %d with %d bytes", acknowledged, v.Count, len(v.Pad))
		}
		must(t, s.Delete("api"))
		must(t, s.Close())
	}
}

// TestFullDisk: R9. The value from before stays, the error says why,
// and the next Put works as soon as there is room.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("ROLE"); dir != "" {
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=755"))
		s := open(t, dir+"/run")
		defer s.Close()
		must(t, s.Put("api", value{Count: 1}))
		full := value{Count: 2, Pad: strings.Repeat("x", 1<<17)}
		for range 3 {
			if err := s.Put("api", full); !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "cannot store api: ") {
				t.Fatalf("full: %v", err)
			}
			var v value
			if err := s.Get("api", &v); err != nil || v.Count != 1 {
				t.Fatalf("after that: %+v, %v", v, err)
			}
		}
		must(t, s.Put("api", value{Count: 3}))
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small file system, in a namespace of its own")
	}
	run(t, again(t, filepath.Dir(scratch(t)), func(c *exec.Cmd) {
		c.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}))
}

// TestEightOperationsAtATime: the ninth waits for a slot, not for a thread.
func TestEightOperationsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, scratch(t))
		defer s.Close()
		var done []func()
		for range operations {
			done = append(done, s.turn())
		}
		ninth := make(chan error, 1)
		go func() { ninth <- s.Put("ninth", 9) }()
		synctest.Wait()
		if len(ninth) > 0 {
			t.Error("the ninth did not wait")
		}
		for _, d := range done {
			d()
		}
		must(t, <-ninth)
	})
}

// TestManyWriters: values never mix, whoever is last.
func TestManyWriters(t *testing.T) {
	s := open(t, scratch(t))
	defer s.Close()
	var all sync.WaitGroup
	for w := range 40 {
		all.Go(func() {
			for i := range 10 {
				key := "k" + strconv.Itoa(w%4)
				if err := s.Put(key, value{Name: key, Count: w, Pad: strings.Repeat(strconv.Itoa(w%10), 100*i)}); err != nil {
					t.Error(err)
				}
				var v value
				if err := s.Get(key, &v); err != nil || v.Name != key || strings.Trim(v.Pad, strconv.Itoa(v.Count%10)) != "" {
					t.Errorf("%s is %+v, %v", key, v, err)
				}
			}
		})
	}
	all.Wait()
	names, err := s.state.Names()
	must(t, err)
	if want := []string{"k0.json", "k1.json", "k2.json", "k3.json"}; !reflect.DeepEqual(names, want) {
		t.Errorf("the directory holds %q", names)
	}
}
