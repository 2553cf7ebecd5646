package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *Tree {
	t.Helper()
	tree, err := Open(t.TempDir())
	if err != nil {
		t.Skip("needs cgroup2, and leave to write to it: ", err)
	}
	t.Cleanup(func() {
		tree.Close()
		if _, err := os.Stat(tree.top); err == nil {
			t.Errorf("%s is left behind", tree.Path())
		}
	})
	return tree
}

func makeGroup(t *testing.T, tree *Tree, unit, invocation string) *Group {
	t.Helper()
	g, err := tree.Make(unit, invocation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Remove() })
	return g
}

// start starts a process in a cgroup; it ends when it is killed or its input does.
func start(t *testing.T, g *Group) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestGroupHoldsWhatIsForked(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "api", "7")
	if populated, err := g.Populated(); populated || err != nil {
		t.Errorf("a new cgroup is populated: %v, %v", populated, err)
	}
	first, second := start(t, g), start(t, g)
	os.Mkdir(filepath.Join(g.dir(), "below"), 0o755)
	below := &Group{tree: tree, path: g.path + "/below"}
	third := start(t, below)
	want := []int{first.Process.Pid, second.Process.Pid, third.Process.Pid}
	slices.Sort(want)
	got, err := g.PIDs()
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("it has %v, want %v: %v", got, want, err)
	}
	if !g.Has(third.Process.Pid) || below.Has(first.Process.Pid) || g.Has(os.Getpid()) || g.Has(1<<22) {
		t.Error("Has is wrong")
	}
	if err := g.Remove(); err == nil {
		t.Error("a cgroup with processes was removed")
	}
	events, err := g.Events()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	empty := make(chan error)
	go func() { empty <- events.WaitEmpty() }()
	select {
	case err := <-empty:
		t.Fatalf("it is said to be empty: %v", err)
	default:
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-empty; err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(); err != nil { // before anybody was reaped
		t.Error(err)
	}
	if pids, err := g.PIDs(); len(pids) > 0 || err != nil {
		t.Errorf("a cgroup that is gone has %v, %v", pids, err)
	}
	if populated, err := g.Populated(); populated || err != nil {
		t.Errorf("a cgroup that is gone is populated: %v, %v", populated, err)
	}
}

func TestInvocationsOfAUnitComeAndGo(t *testing.T) {
	tree := open(t)
	first := makeGroup(t, tree, "cgroup.procs", "1") // a unit may have that name
	second := makeGroup(t, tree, "cgroup.procs", "2")
	if err := first.Remove(); err != nil {
		t.Error(err)
	}
	if populated, err := second.Populated(); populated || err != nil {
		t.Errorf("the other: %v, %v", populated, err)
	}
	again := makeGroup(t, tree, "cgroup.procs", "2") // left by another supervisord, and empty
	start(t, again)
	if g, err := tree.Make("cgroup.procs", "2"); err == nil {
		t.Errorf("%v is made anew while it has processes", g.Path())
	}
	again.Kill()
	events, _ := again.Events()
	defer events.Close()
	events.WaitEmpty()
}

func TestWhatADeadSupervisordLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	dead, err := Open(dir)
	if err != nil {
		t.Skip("needs cgroup2, and leave to write to it: ", err)
	}
	empty, alive := makeGroup(t, dead, "api", "1"), makeGroup(t, dead, "api", "2")
	start(t, alive)
	next, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	if _, err := os.Stat(empty.dir()); err == nil {
		t.Error("the empty cgroup is still there")
	}
	if populated, err := alive.Populated(); !populated || err != nil {
		t.Errorf("the other: %v, %v", populated, err)
	}
	alive.Kill()
	events, _ := alive.Events()
	defer events.Close()
	events.WaitEmpty()
}

// The directory of a unit goes with its last invocation, while the next is made.
func TestMakeAgainstRemove(t *testing.T) {
	tree := open(t)
	done := make(chan error)
	for worker := range 4 {
		go func() {
			for i := range 200 {
				g, err := tree.Make("api", fmt.Sprintf("%d-%d", worker, i))
				if err == nil {
					err = g.Remove()
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestTwoSupervisordsShareNoCgroup(t *testing.T) {
	a, b := open(t), (*Tree)(nil)
	t.Run("another", func(t *testing.T) {
		b = open(t)
		if a.Path() == b.Path() {
			t.Errorf("both have %s", a.Path())
		}
	})
}

func TestMountIsFound(t *testing.T) {
	for name, c := range map[string]struct{ info, mount, root, problem string }{
		"unified": {"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup", "/", ""},
		"hybrid": {
			"38 30 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/unified", "/", "",
		},
		"a part":     {"30 24 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "/sys/fs/cgroup", "/docker/ab", ""},
		"with blank": {`30 24 0:26 / /mnt/my\040cgroup rw - cgroup2 none rw` + "\n", "/mnt/my cgroup", "/", ""},
		"version 1":  {"38 30 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", "", "", "cgroup2 is not mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "mountinfo")
			os.WriteFile(file, []byte(c.info), 0o600)
			m, err := findMount(file)
			if m != (mount{c.mount, c.root}) || (err != nil || c.problem != "") && (err == nil || err.Error() != c.problem) {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

func TestCgroupBelowTheMount(t *testing.T) {
	for _, c := range []struct{ root, path, want string }{
		{"/", "/", "/m"},
		{"/", "/system.slice/x.service", "/m/system.slice/x.service"},
		{"/docker/ab", "/docker/ab", "/m"},
		{"/docker/ab", "/docker/ab/x", "/m/x"},
		{"/docker/ab", "/docker/abc", ""},
		{"/docker/ab", "/user.slice", ""},
	} {
		got, err := mount{dir: "/m", root: c.root}.dirOf(c.path)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s below %s is %q, %v", c.path, c.root, got, err)
		}
	}
}

// A cgroup is found by its path, whatever supervisord made it, and goes with all
// that was made for it.
func TestCgroupOfADeadSupervisordIsFound(t *testing.T) {
	dead, err := Open(t.TempDir())
	if err != nil {
		t.Skip("needs cgroup2, and leave to write to it: ", err)
	}
	left := makeGroup(t, dead, "api", "7")
	start(t, left)
	g, err := Find(left.Path())
	if err != nil {
		t.Fatal(err)
	}
	if g.dir() != left.dir() || g.Path() != left.Path() {
		t.Errorf("found %s in %s, want %s in %s", g.Path(), g.dir(), left.Path(), left.dir())
	}
	if populated, err := g.Populated(); !populated || err != nil {
		t.Errorf("populated: %v, %v", populated, err)
	}
	events, _ := g.Events()
	defer events.Close()
	g.Kill()
	events.WaitEmpty()
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dead.top); err == nil {
		t.Errorf("%s is left behind", dead.Path())
	}
	if populated, err := g.Populated(); populated || err != nil {
		t.Errorf("one that is gone is populated: %v, %v", populated, err)
	}
}

// What the state says is not to be believed where much would be lost by it.
func TestOnlyWhatIsMadeIsFound(t *testing.T) {
	for _, path := range []string{
		"", "/", ".", "supervisord-0123456789ab/api.service/7", "/system.slice", "/supervisord-0123456789ab",
		"/supervisord-0123456789ab/api.service", "/supervisord-0123456789ab/api.service/", "/supervisord-0123456789ab/api/7",
		"/supervisord-0123456789ab/api.service/..", "/supervisord-0123456789ab/../7", "/supervisord-0123456789ab/api.service/7/below",
		"/supervisord-0123456789ab/../supervisord-0123456789ab/api.service/7", "/x/../supervisord-0123456789ab/api.service/7",
		"/supervisord-0123456789abc/api.service/7", "/supervisord-0123456789ab/.service/7", "/supervisord-0123456789ab/api.service/7\n",
	} {
		if g, err := Find(path); err == nil {
			t.Errorf("%q is found in %s", path, g.dir())
		}
	}
}

// The last of all cgroups takes those above it along, while others are made: none
// of those fails.
func TestTreeComesAndGoes(t *testing.T) {
	tree := open(t)
	var all sync.WaitGroup
	for unit := range 4 {
		all.Go(func() {
			for n := range 100 {
				g, err := tree.Make(fmt.Sprint("unit", unit), fmt.Sprint(n))
				if err != nil {
					t.Error(err)
					return
				}
				if err := g.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(tree.top); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", tree.top, err)
	}
}

func TestFrozen(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "cold", "1")
	above := filepath.Dir(g.dir())
	for _, frozen := range []string{"0", "1", "0"} {
		if err := os.WriteFile(filepath.Join(above, "cgroup.freeze"), []byte(frozen), 0); err != nil {
			t.Skip("needs the freezer: ", err)
		}
		if got, err := g.Frozen(); got != (frozen == "1") || err != nil {
			t.Errorf("with %s above it, it is frozen: %t, %v", frozen, got, err)
		}
	}
	g.Remove()
	if got, err := g.Frozen(); got || err != nil || g.ID() != 0 {
		t.Errorf("it is gone, and frozen: %t, %v, id %d", got, err, g.ID())
	}
}

func TestTreeHasAndID(t *testing.T) {
	tree := open(t)
	one, two := makeGroup(t, tree, "a", "1"), makeGroup(t, tree, "a", "2")
	in := start(t, one)
	if !tree.Has(in.Process.Pid) || tree.Has(os.Getpid()) {
		t.Error("the tree does not know who is in it")
	}
	if one.ID() == 0 || one.ID() == two.ID() {
		t.Errorf("their ids are %d and %d", one.ID(), two.ID())
	}
	in.Process.Kill()
	in.Wait()
}
