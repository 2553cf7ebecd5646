package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// T25, T34: an ordinary user may have been given capabilities, with which it starts
// programs as other users. None of these reads more by that than its user may.
func TestCapableOrdinaryUser(t *testing.T) {
	needsRoot(t)
	againAs(t, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: alice, Gid: alice},
		AmbientCaps: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_KILL},
	}, "^TestFileOfAnotherUser$", "TEST_CAPABLE=1")
}

func TestFileOfAnotherUser(t *testing.T) {
	if os.Getenv("TEST_CAPABLE") == "" {
		t.Skip("runs within another test, as an ordinary user with capabilities")
	}
	secret := filepath.Join(openDir(t), "secret")
	os.WriteFile(secret, []byte("KEY=canary\n"), 0o600)
	theirs := openDir(t)
	link := filepath.Join(theirs, "env")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, int(bob), int(bob)); err != nil {
		t.Fatal(err)
	}
	l := newTestLauncher(t, Options{NoCgroups: true})
	task := as(bob, sh(`echo "$KEY"`))
	task.Program.EnvironmentFiles = []string{link}
	_, err := tryLaunch(t, l, task, nil)
	mustFail(t, err, "environment", 255, syscall.EACCES)

	// What nobody else can have put there is read for it, as root does.
	task = as(bob, sh(`echo "$KEY"`))
	task.Program.EnvironmentFiles = []string{secret}
	launch(t, l, task).expect("canary")

	// Nor does it get anywhere else.
	task = as(bob, sh("echo ran"))
	task.Program.Dir = t.TempDir()
	os.Chmod(task.Program.Dir, 0o700)
	_, err = tryLaunch(t, l, task, nil)
	mustFail(t, err, "chdir", 200, syscall.EACCES)
	g := ask(t, l, as(bob, Task{Program: &unit.Program{}}))
	checkStatus(t, g, map[string]string{"CapInh": zeros, "CapPrm": zeros, "CapEff": zeros, "CapAmb": zeros})
}

// Securebits may have capabilities outlive the change of a user (capabilities(7)).
func TestRootThatKeepsItsCapabilities(t *testing.T) {
	needsRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv(1)")
	}
	cmd := exec.Command(setpriv, "--securebits", "+no_setuid_fixup", selfPath(), "-test.run", "^TestEnvironmentFileThatLeadsElsewhere$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A file that only root may read is found wrong by root: its program's user could only
// say that it may not read it.
func TestWrongFileThatOnlyRootMayRead(t *testing.T) {
	needsRoot(t)
	dir, err := os.MkdirTemp("/root", "process")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	large := filepath.Join(dir, "large")
	os.WriteFile(large, make([]byte, maxFile+1), 0o600)
	l := newTestLauncher(t, Options{NoCgroups: true})
	for path, want := range map[string]string{
		large:          "cannot read environment file " + large + ": it is larger than 1048576 bytes",
		dir:            "cannot read environment file " + dir + ": it is not a regular file",
		large + "/env": "cannot read environment file " + large + "/env: not a directory",
	} {
		task := as(alice, sh("echo ran"))
		task.Program.EnvironmentFiles = []string{path}
		if _, err := tryLaunch(t, l, task, nil); err == nil || err.Error() != want {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

// A template that is killed again and again, or does not answer, is named.
func TestHintsAboutTheTemplate(t *testing.T) {
	for errno, want := range map[syscall.Errno][2]string{
		syscall.EPIPE:     {"cannot start a process for api: superv-template, which would fork it, was killed twice", "who kills"},
		syscall.ETIMEDOUT: {"cannot start a process for api: superv-template, which would fork it, does not answer", "who stops"},
	} {
		e := spawnError(errno, &Task{Service: "api"}).(*StartError)
		if e.Error() != want[0] || !strings.Contains(e.Hint(), want[1]) {
			t.Errorf("%v: %v [%s]", errno, e, e.Hint())
		}
	}
}
