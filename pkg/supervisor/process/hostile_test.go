package process

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// T33: a user stops every process that has its id, over and over. A child is
// one as soon as it has become that user. That unit hangs until it is killed;
// others start meanwhile.
func TestUserWhoStopsTheChild(t *testing.T) {
	needsRoot(t)
	each(t, func(t *testing.T, l *Launcher) {
		hostile := launch(t, l, as(alice, sh(`echo ready; while [ -d $T ]; do kill -STOP -1 2>/dev/null; done; kill -KILL -1`)))
		hostile.expect("ready")
		const victims = 5
		staged := make(chan *Process, victims)
		var all sync.WaitGroup
		for range victims {
			all.Go(func() {
				task := as(alice, sh("sleep 1000"))
				task.ID, task.Output, task.Service = unit.Invocation(lastInvocation.Add(1)), -1, "victim"
				l.Launch(t.Context(), task, func(p *Process) error { staged <- p; return nil })
			})
		}
		for range 3 {
			launch(t, l, as(bob, sh("echo ran"))).expect("ran")
		}
		for range victims {
			p := <-staged
			if err := p.Signal(syscall.SIGKILL, unit.ControlGroup); err != nil {
				t.Errorf("cannot kill a victim: %v", err)
			}
			mustGo(t, p)
		}
		all.Wait() // every Launch has returned, of a process that died before its program or in it
		hostile.Signal(syscall.SIGKILL, unit.ControlGroup)
		mustGo(t, hostile.Process)
		if n := processesOf(t, alice); n > 0 {
			t.Errorf("%d processes are left", n)
		}
	})
}

// T25: an environment file in a user's directory is a link to one that only root
// may read.
func TestEnvironmentFileThatLeadsElsewhere(t *testing.T) {
	needsRoot(t)
	dir := openDir(t)
	os.Chown(dir, int(alice), int(alice))
	secret := filepath.Join(openDir(t), "secret")
	os.WriteFile(secret, []byte("KEY=canary\ncanary line\n"), 0o600)
	link := filepath.Join(dir, "env")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	l := newTestLauncher(t, Options{})
	task := as(alice, sh("env"))
	task.Program.EnvironmentFiles = []string{link}
	_, err := tryLaunch(t, l, task, nil)
	e := mustFail(t, err, "environment", 255, syscall.EACCES)
	if want := "cannot read environment file " + link + ": permission denied"; e.Error() != want {
		t.Errorf("error is %q, want %q", e, want)
	}

	// The user's own file is read, though by the user.
	os.Remove(link)
	os.WriteFile(link, []byte("FROM=alice\nOVER=file\n"), 0o600)
	os.Chown(link, int(alice), int(alice))
	task = as(alice, sh("echo $FROM $OVER"))
	task.Program.EnvironmentFiles = []string{link}
	task.Program.Environment = append(task.Program.Environment, "OVER=environment")
	launch(t, l, task).expect("alice file")

	// An error shows no line of it.
	os.WriteFile(link, []byte("FROM=alice\nthis is a canary\n"), 0o600)
	_, err = tryLaunch(t, l, task, nil)
	e = mustFail(t, err, "environment", 255, syscall.EBADMSG)
	if want := "cannot read environment file " + link + ":2: the line is not KEY=VALUE, or has a quote that is never closed"; e.Error() != want {
		t.Errorf("error is %q, want %q", e, want)
	}
}

// openDir is a directory that every user can reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "process")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	return dir
}

// A file that root alone can have written is read by supervisord: the program's
// user need not see it. Later files count more, whoever reads them.
func TestEnvironmentFilesInOrder(t *testing.T) {
	needsRoot(t)
	trusted, err := os.MkdirTemp("/root", "process")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(trusted)
	users := openDir(t)
	os.Chown(users, int(alice), int(alice))
	write := func(path, text string, uid int) string {
		os.WriteFile(path, []byte(text), 0o600)
		os.Chown(path, uid, uid)
		return path
	}
	task := as(alice, sh("echo $A $B $C"))
	task.Program.EnvironmentFiles = []string{
		write(filepath.Join(trusted, "1"), "A=1\nB=1\nC=1\n", 0),
		write(filepath.Join(users, "2"), "B=2\nC=2\n", int(alice)),
		"-" + filepath.Join(users, "missing"),
		write(filepath.Join(trusted, "3"), "C=3\n", 0),
	}
	l := newTestLauncher(t, Options{})
	launch(t, l, task).expect("1 2 3")

	// The program's limits are not in the way of what it is started with.
	files := task.Program.EnvironmentFiles
	task = as(alice, sh("echo $A $B $C ${#D}"))
	task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_FSIZE}, {Resource: unix.RLIMIT_DATA, Soft: 1 << 20, Hard: 1 << 20}, {Resource: unix.RLIMIT_MEMLOCK}}
	large := write(filepath.Join(users, "4"), "D="+strings.Repeat("x", 100_000)+"\n", int(alice))
	task.Program.EnvironmentFiles = append(files, large, large, large)
	launch(t, l, task).expect("1 2 3 100000")
}

// T28: what setresuid(2) takes for "leave it" is no id, neither here nor there.
func TestIDs(t *testing.T) {
	for _, bad := range []string{
		"", "0day", "0x0", "-1", "4294967295", "4294967296", "65535", " root", "root ", "+1", "01", "1e3", "a b", "a/b", "a:b",
		"nobody-by-this-name", strings.Repeat("9", 40), "root\x00", "\u0661",
	} {
		if bad == "" {
			continue // the configuration's affair: here it means supervisord's own
		}
		if a, err := ResolveAccount(t.Context(), &unit.Program{User: bad}); err == nil {
			t.Errorf("user %q is %+v", bad, a)
		} else {
			mustFail(t, err, "user", 217, 0)
		}
		if a, err := ResolveAccount(t.Context(), &unit.Program{Group: bad}); err == nil {
			t.Errorf("group %q is %+v", bad, a)
		} else {
			mustFail(t, err, "group", 216, 0)
		}
		for _, c := range [][2]string{{bad, ""}, {"", bad}} {
			if uid, gid, err := ResolveOwner(t.Context(), c[0], c[1]); err == nil {
				t.Errorf("a file of %q is %d:%d's", c, uid, gid)
			}
		}
	}
	_, err := ResolveAccount(t.Context(), &unit.Program{User: "nobody-by-this-name"})
	if e := mustFail(t, err, "user", 217, 0); e.Hint() != "give a numeric user and group" {
		t.Errorf("hint is %q", e.Hint())
	}
	if _, err := ResolveAccount(t.Context(), &unit.Program{User: "61231"}); err == nil || !strings.Contains(err.Error(), "group must be given") {
		t.Errorf("a number without a group: %v", err)
	}
	a, err := ResolveAccount(t.Context(), &unit.Program{User: "61231", Group: "0"})
	if err != nil || a.UID != 61231 || a.GID != 0 || !a.Set || a.Home != "" || len(a.Groups) != 1 {
		t.Errorf("by number: %+v, %v", a, err)
	}
	a, err = ResolveAccount(t.Context(), &unit.Program{User: "daemon"})
	if err != nil || a.UID == 0 || a.Name != "daemon" || a.Home == "" || a.Shell == "" {
		t.Errorf("by name: %+v, %v", a, err)
	}
	if a, err = ResolveAccount(t.Context(), &unit.Program{}); err != nil || a.Set || a.UID != uint32(os.Geteuid()) {
		t.Errorf("our own: %+v, %v", a, err)
	}
}

func TestChildRefusesTheIDThatMeansNone(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{})
	task := sh("id -u")
	task.Account = Account{UID: 1<<32 - 1, GID: alice, Groups: []uint32{alice}, Set: true}
	_, err := tryLaunch(t, l, task, nil)
	mustFail(t, err, "user", 217, syscall.EINVAL)
	task.Account = Account{UID: alice, GID: 1<<32 - 1, Groups: []uint32{alice}, Set: true}
	_, err = tryLaunch(t, l, task, nil)
	mustFail(t, err, "group", 216, syscall.EINVAL)
}

func TestAccountGivesItsVariables(t *testing.T) {
	needsRoot(t)
	a, err := ResolveAccount(t.Context(), &unit.Program{User: "daemon"})
	if err != nil {
		t.Fatal(err)
	}
	task := sh("echo $USER $LOGNAME $HOME $SHELL; id -u; id -G")
	task.Account = a
	r := launch(t, newTestLauncher(t, Options{}), task)
	r.expect(strings.Join([]string{a.Name, a.Name, a.Home, a.Shell}, " "))
	r.expect(decimal(int(a.UID)))
	r.expect(decimal(int(a.GID)))
}

// T38: no signal to a number that may stand for many, or for another.
func TestGroupsOfEverybodyAreNotSignalled(t *testing.T) {
	for _, pgid := range []int{-5, -1, 0, 1} {
		if err := killGroup(pgid, 0); err != unix.EINVAL {
			t.Errorf("killGroup(%d) says %v", pgid, err)
		}
	}
}

// What must not be in this package's code, and the one place where it may be.
func TestForbiddenCalls(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	more, _ := filepath.Glob("spawn/*.go")
	for _, rule := range []struct {
		call  string
		times int
		why   string
	}{
		{`Credential:|\.Credential\b`, 0, "a process with a user's id that shares our memory can be frozen by that user, and we with it"},
		{`\bKill\(-?[a-z0-9]`, 2, "signals go by pidfd; killGroup alone goes by number, and who owns a template"},
		{`\.Fd\(\)`, 0, "it makes the open file blocking, for all who share it"},
		{`Wait4\(|P_ALL`, 0, "it steals the status of a child that somebody else waits for"},
		{`Pdeathsig`, 0, "it follows the thread, not the process"},
		{`os/exec`, 0, "it passes files by Fd"},
	} {
		n := 0
		for _, name := range append(files, more...) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n += len(regexp.MustCompile(rule.call).FindAll(text, -1))
		}
		if n != rule.times {
			t.Errorf("%s is there %d times, not %d: %s", rule.call, n, rule.times, rule.why)
		}
	}
}
