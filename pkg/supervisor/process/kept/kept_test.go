package kept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// victim makes a test binary a manager that launches what a test wants launched, in this
// directory, until somebody kills it.
const victim = "TEST_VICTIM"

// patience ends tests that would hang; no test is right or wrong by it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		if err := beVictim(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A manager has a launcher over the keeper.
type manager struct {
	client   *keeper.Client
	parent   *Parent
	launcher *process.Launcher
}

func newManager(c *keeper.Client, dir string, cgroups bool) (manager, error) {
	p := New(c)
	l, err := process.NewLauncher(process.Options{Parent: p, RuntimeDirectory: dir, NoCgroups: !cgroups})
	return manager{c, p, l}, err
}

// children are those that the keeper has, which has nothing else.
func (m manager) children() (map[unit.Invocation]process.Kept, error) {
	list, err := m.client.List()
	if err != nil {
		return nil, err
	}
	children, rest, err := m.parent.Take(list)
	if len(rest) > 0 {
		err = fmt.Errorf("left are %v", rest)
	}
	all := map[unit.Invocation]process.Kept{}
	for _, k := range children {
		all[k.ID] = k
	}
	return all, err
}

// starts is how many programs a victim launches.
const starts = 6

// nobody is who runs them: environment files of another are read by the process itself.
const nobody = 65534

// task says once that it runs and what it has from its environment files. Every third
// cannot run.
func task(dir string, id unit.Invocation) process.Task {
	script := fmt.Sprintf(`echo %d $A $B >>%s/ran; exit %d`, id, dir, 10+id)
	t := process.Task{
		ID: id, Service: "web", Output: -1, Account: process.Account{UID: nobody, GID: nobody, Groups: []uint32{nobody}, Set: true},
		Program: &unit.Program{Path: "/bin/sh", Argv: []string{"sh", "-c", script}, EnvironmentFiles: []string{dir + "/a", dir + "/b"}},
	}
	if id%3 == 0 {
		t.Program.Dir = "/no/such"
	}
	return t
}

// beVictim takes up what there is, and launches the rest. It says a line before each start,
// in the midst of it, and after it.
func beVictim(dir string) error {
	c, err := keeper.Connect(3, keeper.Handler{})
	if err != nil {
		return err
	}
	if _, err = c.Up(); err == nil {
		err = c.Serving()
	}
	if err != nil {
		return err
	}
	m, err := newManager(c, dir, os.Getenv("TEST_CGROUPS") != "")
	if err != nil {
		return err
	}
	there, err := m.children()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for id := range unit.Invocation(starts) {
		all.Go(func() {
			fmt.Println("begins", id)
			staged := func(*process.Process) error { fmt.Println("staged", id); return nil }
			if k, ok := there[id]; ok {
				m.launcher.Resume(context.Background(), k, staged)
			} else {
				m.launcher.Launch(context.Background(), task(dir, id), staged)
			}
			fmt.Println("done", id)
		})
	}
	all.Wait()
	time.Sleep(patience) // until it is killed, and not for ever
	return nil
}

// Managers are killed, one after the other, while they launch and resume, each after some of its words. Whoever comes next
// has each program run once, and hears how each has ended, or why it could not run.
func TestKilledWhileItLaunches(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts programs as another user")
	}
	for _, words := range [][]int{{1, 2, 3}, {7, 1, 7}, {9, 9, 9}, {12, 7, 7}, {13, 12, 11}, {16, 10}, {18}} {
		t.Run(fmt.Sprint("after ", words), func(t *testing.T) {
			t.Run("cgroup", func(t *testing.T) { killAfter(t, words, true) })
			t.Run("session", func(t *testing.T) { killAfter(t, words, false) })
		})
	}
}

func killAfter(t *testing.T, words []int, cgroups bool) {
	dir := directory(t)
	s := keepertest.Serve(t)
	for _, n := range words {
		runVictim(t, s, dir, n, cgroups)
	}
	m, err := newManager(s.Manager(keeper.Handler{}), dir, cgroups)
	if err != nil {
		t.Fatal(err)
	}
	defer m.launcher.Close()
	children, err := m.children()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d have said that they run, %d are kept", len(lines(t, filepath.Join(dir, "ran"))), len(children))
	var all sync.WaitGroup
	ran := make([]bool, starts)
	for _, k := range children {
		all.Go(func() { ran[k.ID] = m.resume(t, k) })
	}
	all.Wait()
	said := lines(t, filepath.Join(dir, "ran"))
	for id := range starts {
		n := len(slices.DeleteFunc(slices.Clone(said), func(line string) bool { return line != fmt.Sprint(id, " right right\n") }))
		if ran[id] && n != 1 || !ran[id] && n != 0 {
			t.Errorf("process %d has run: %t, and said so %d times: %q", id, ran[id], n, said)
		}
	}
	if list, err := m.client.List(); err != nil || len(list) > 0 {
		t.Errorf("kept are %v, %v", list, err)
	}
}

// resume says whether the program has run.
func (m manager) resume(t *testing.T, k process.Kept) bool {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := m.launcher.Resume(ctx, k, nil)
	if k.ID%3 == 0 {
		e := (*process.StartError)(nil)
		if !errors.As(err, &e) || e.Step != "chdir" || e.Errno != unix.ENOENT {
			t.Errorf("process %d: %v", k.ID, err)
		}
		m.parent.Release(k.Name)
		return false
	}
	if err != nil {
		t.Errorf("process %d: %v", k.ID, err)
		return false
	}
	if exit := p.Wait(); exit != (unit.Exit{Kind: unit.ByStatus, Code: 10 + int(k.ID)}) {
		t.Errorf("process %d ended with %+v", k.ID, exit)
	}
	if p.WaitGone(ctx) != nil {
		t.Errorf("process %d is not gone", k.ID)
	}
	if err := m.parent.Release(k.Name); err != nil {
		t.Error(err)
	}
	p.Release()
	return true
}

func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kept")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	os.WriteFile(dir+"/ran", nil, 0o666)
	os.Chmod(dir+"/ran", 0o666)
	write(t, dir, "right")
	return dir
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(dir+"/"+name, []byte(strings.ToUpper(name)+"="+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chown(dir+"/"+name, nobody, nobody)
	}
}

// runVictim has a victim be the keeper's manager until it has said so many words.
func runVictim(t *testing.T, s *keepertest.Server, dir string, words int, cgroups bool) {
	t.Helper()
	fd, _ := s.Line()
	line := os.NewFile(uintptr(fd), "line")
	defer line.Close()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), victim+"="+dir)
	if cgroups {
		c.Env = append(c.Env, "TEST_CGROUPS=1")
	}
	c.ExtraFiles = []*os.File{line}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	heard := bufio.NewScanner(out)
	for n := 0; n < words && heard.Scan(); n++ {
	}
	c.Process.Kill()
	if c.Wait(); c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the victim has ended: %v", c.ProcessState)
	}
	s.Kill()
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(text)))
}

// birth is of a child that waits for programs.
func birth(id unit.Invocation) process.Birth {
	return process.Birth{Name: process.Name{Service: "web", ID: id}, Cgroup: -1, Meta: "memo"}
}

// A name is had once, and what is kept of it is not touched by whoever wants it again.
func TestNameIsHadOnce(t *testing.T) {
	c := keepertest.Serve(t).Manager(keeper.Handler{})
	p := New(c)
	child, err := p.Spawn(birth(7))
	if err != nil {
		t.Fatal(err)
	}
	defer closeChild(child)
	if _, err := p.Spawn(birth(7)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("it says %v", err)
	}
	if want := []string{"start/web/7", "proc/web/7", "ctl/web/7"}; !slices.Equal(keys(t, c), want) {
		t.Errorf("kept are %v, not %v", keys(t, c), want)
	}
	p.Started(process.Name{Service: "web", ID: 7})
	if _, err := p.Spawn(birth(7)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("after its start it says %v", err)
	}
	if want := []string{"proc/web/7"}; !slices.Equal(keys(t, c), want) {
		t.Errorf("kept are %v, not %v", keys(t, c), want)
	}
}

// What was put for a child that was never spawned is nobody's, what is no child's is the
// rest, and a child without its start is one that was started.
func TestTakePicksTheChildren(t *testing.T) {
	c := keepertest.Serve(t).Manager(keeper.Handler{})
	p := New(c)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, key := range []string{"start/web/8", "ctl/web/8", "lock", "proc/web", "sock/1"} {
		if err := c.Put(key, "", int(null.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	for id := range unit.Invocation(2) {
		child, err := p.Spawn(birth(id))
		if err != nil {
			t.Fatal(err)
		}
		defer closeChild(child)
	}
	if err := p.Started(process.Name{Service: "web", ID: 1}); err != nil {
		t.Fatal(err)
	}
	list, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	children, rest, err := New(c).Take(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range children {
		defer closeChild(k.Child)
		if k.Meta != "memo" || k.PID == 0 || (k.Control >= 0) != (k.ID == 0) {
			t.Errorf("got %+v", k)
		}
	}
	var others []string
	for _, e := range rest {
		others = append(others, e.Key)
		e.Close()
	}
	if want := []string{"lock", "proc/web", "sock/1"}; !slices.Equal(others, want) || len(children) != 2 {
		t.Errorf("%d children, and the rest is %v, not %v", len(children), others, want)
	}
	if all := keys(t, c); slices.Contains(all, "start/web/8") || slices.Contains(all, "ctl/web/8") {
		t.Errorf("kept are %v", all)
	}
}

// A lost keeper is named.
func TestStartWithoutAKeeper(t *testing.T) {
	lost := make(chan struct{})
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{Lost: func(error) { close(lost) }})
	unix.Kill(s.PID, unix.SIGKILL)
	<-lost
	_, err := New(c).Spawn(birth(1))
	if e := (*process.StartError)(nil); !errors.As(err, &e) || e.Error() != "cannot start a process for web: the keeper is gone" {
		t.Errorf("it says %v", err)
	}
}

func closeChild(c process.Child) {
	unix.Close(c.PIDFD)
	if c.Control >= 0 {
		unix.Close(c.Control)
	}
}

func keys(t *testing.T, c *keeper.Client) (all []string) {
	t.Helper()
	list, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		all = append(all, e.Key)
		e.Close()
	}
	return all
}

// Whom the keeper has forked is no orphan, told or not; whoever came to it is one.
func TestWhoseChildren(t *testing.T) {
	s := keepertest.Serve(t)
	p := New(s.Manager(keeper.Handler{}))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID(), p.PID()))
	if err != nil {
		t.Skip("needs lists of children: ", err)
	}
	for _, field := range strings.Fields(string(text)) { // the template, and the manager
		var pid int
		fmt.Sscan(field, &pid)
		if p.Whose(pid, pid) != process.Forked {
			t.Errorf("process %d is %v", pid, p.Whose(pid, pid))
		}
	}
	c, err := p.Spawn(birth(1))
	if err != nil {
		t.Fatal(err)
	}
	defer closeChild(c)
	if p.Whose(c.PID, c.PID) != process.Forked || New(p.client).Whose(c.PID, c.PID) != process.Forked {
		t.Error("a child that waits for programs is taken for an orphan")
	}
	if p.Whose(os.Getpid(), -1) != process.Orphan {
		t.Error("another process is none")
	}
}

// What has the key of a child and is none is left alone.
func TestTakeOfWhatIsNoChild(t *testing.T) {
	c := keepertest.Serve(t).Manager(keeper.Handler{})
	p := New(c)
	_, err := c.Spawn(keeper.Spawn{Key: "proc/web/3", Control: "other", Cgroup: -1})
	err = errors.Join(err, c.Put("proc/web/1", ""), c.Put("proc/web/02", "", 0), c.Put("ctl/web/3", ""), c.Put("start/web/3", ""))
	list, e := c.List()
	if err = errors.Join(err, e); err != nil {
		t.Fatal(err)
	}
	children, rest, err := p.Take(list)
	if len(children) != 1 || children[0].Name != birth(3).Name || children[0].Control >= 0 || err != nil {
		t.Errorf("children are %+v, %v", children, err)
	}
	var left []string
	for _, e := range rest {
		left = append(left, e.Key)
	}
	if !slices.Equal(left, []string{"other", "proc/web/1", "proc/web/02"}) {
		t.Errorf("left are %q", left)
	}
}
