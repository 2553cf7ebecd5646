package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What an ordinary user can do with supervisord is tested by one.
const forOrdinaryUsers = "^(Test(KillReachesTheWholeTree|TreeOutlives|KillModes|Signal|Orphans|FortySockets|Pinned|Script|WhatFails|Child|CallerThat|PidVariables|Identity).*)$"

// What may depend on the rights that are left to root, or on being PID 1.
const forOtherRoots = "^(Test(KillReachesTheWholeTree|Signal|Orphans|FortySockets|Pinned|ChildEnds|CallerThatSaysNo).*)$"

func TestAsOrdinaryUser(t *testing.T) {
	needsRoot(t)
	again(t, alice, forOrdinaryUsers)
}

// Harden closes /proc/PID to others of the same user, and a child to itself.
func TestAsHardenedOrdinaryUser(t *testing.T) {
	needsRoot(t)
	again(t, alice, forOtherRoots, hardened+"=1")
}

// A service manager can give an ordinary user a cgroup of its own.
func TestAsOrdinaryUserWithACgroup(t *testing.T) {
	needsRoot(t)
	l := newTestLauncher(t, Options{})
	if l.cgroups == nil {
		t.Skip("needs cgroups: " + l.without)
	}
	group, err := l.cgroups.Make("delegated", "1")
	if err != nil {
		t.Fatal(err)
	}
	defer group.Remove()
	dir := "/sys/fs/cgroup/unified" + group.Path()
	if _, err := os.Stat(dir); err != nil {
		t.Skip("needs a hybrid mount")
	}
	for _, name := range []string{dir, dir + "/cgroup.procs", dir + "/cgroup.threads", dir + "/cgroup.subtree_control"} {
		os.Chown(name, int(alice), int(alice))
	}
	fd, err := group.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	out := againIn(t, alice, fd, "^TestKillReachesTheWholeTree$/^cgroup$", hardened+"=1")
	if !strings.Contains(out, "a_double_fork") {
		t.Errorf("without a cgroup:\n%s", out)
	}
}

func TestAsPID1(t *testing.T) {
	needsRoot(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("needs unshare(1)")
	}
	cmd := exec.Command(unshare, "--pid", "--fork", "--mount-proc", selfPath(), "-test.run", forOtherRoots, "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// T41: a binary with more rights than its caller runs what the caller says.
func TestHardenRefusesCapabilitiesOfTheFile(t *testing.T) {
	needsRoot(t)
	binary := filepath.Join(openDir(t), "process.test")
	copyFile(t, binary, selfPath(), 0o755)
	const revision2 = "\x01\x00\x00\x02" // vfs_cap_data, effective
	if err := unix.Setxattr(binary, "security.capability", []byte(revision2+"\xc0"+strings.Repeat("\x00", 15)), 0); err != nil {
		t.Skip("needs a file system with file capabilities: ", err)
	}
	cmd := exec.Command(binary, "-test.run", "^TestIDs$")
	cmd.Env, cmd.Dir = append(os.Environ(), hardened+"=1"), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: alice, Gid: alice}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "file capabilities") {
		t.Errorf("it runs: %v\n%s", err, out)
	}
}

// What supervisord has without being root, like CAP_BPF to steer sockets, it has alone:
// its programs could load programs of their own into the kernel.
func TestNobodyInheritsAmbientCapabilities(t *testing.T) {
	needsRoot(t)
	if !capable(unix.CAP_BPF) {
		t.Skip("needs CAP_BPF, to have it as another user")
	}
	againAs(t, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: alice, Gid: alice},
		AmbientCaps: []uintptr{unix.CAP_BPF},
	}, "^TestAmbient$", ambient+"=1", hardened+"=1")
}

const ambient = "TEST_AMBIENT"

func TestAmbient(t *testing.T) {
	if os.Getenv(ambient) == "" {
		t.Skip("runs within another test, as an ordinary user with a capability")
	}
	if !capable(unix.CAP_BPF) {
		t.Fatal("supervisord itself has lost it")
	}
	g := ask(t, newTestLauncher(t, Options{}), Task{Program: &unit.Program{}})
	checkStatus(t, g, map[string]string{"CapInh": zeros, "CapPrm": zeros, "CapEff": zeros, "CapAmb": zeros})
	if !capable(unix.CAP_BPF) {
		t.Error("supervisord has lost it by starting a program")
	}
}

// T38: whatever we do, kill(2) is not called for everybody, for our own group, or
// for PID 1.
func TestNoSignalToEverybody(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace(1)")
	}
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, "-f", "-qq", "-e", "trace=kill,pidfd_send_signal", "-e", "signal=none", "-o", log, selfPath(), "-test.run", "^TestKillModes$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Skipf("strace does not work here: %v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if everybody.MatchString(line) {
			t.Errorf("a signal for many: %s", line)
		}
	}
	if !strings.Contains(string(text), "pidfd_send_signal(") {
		t.Errorf("no signal was sent at all:\n%s", text)
	}
}

var everybody = regexp.MustCompile(`\bkill\((-1|0|1),`)

func TestAsHardenedRoot(t *testing.T) {
	needsRoot(t)
	again(t, 0, forOtherRoots, hardened+"=1")
}

// Containers take CAP_SYS_PTRACE from root, which is what opens the /proc/PID of
// a process that is not dumpable.
func TestAsHardenedRootOfAContainer(t *testing.T) {
	needsRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv(1)")
	}
	cmd := exec.Command(setpriv, "--bounding-set", "-sys_ptrace,-sys_admin,-sys_resource", selfPath(), "-test.run", forOtherRoots, "-test.v")
	cmd.Env = append(os.Environ(), hardened+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The rights that the kernel says we have beyond our caller's end it, and so does
// a kernel that says nothing.
func TestMayRun(t *testing.T) {
	for _, c := range []struct {
		auxv [][2]uintptr
		may  bool
	}{
		{[][2]uintptr{{6, 4096}, {23, 0}}, true},
		{[][2]uintptr{{6, 4096}, {23, 1}}, false},
		{[][2]uintptr{{6, 4096}}, false},
		{nil, false},
	} {
		if err := mayRun(c.auxv); (err == nil) != c.may {
			t.Errorf("%v: %v", c.auxv, err)
		}
	}
}

// Who may not become a service's user says so before anything is made for that user.
func TestOtherUserIsRefusedEarly(t *testing.T) {
	needsRoot(t)
	if a, err := ResolveAccount(t.Context(), &unit.Program{User: "65533", Group: "65533"}); err != nil || a.UID != 65533 {
		t.Errorf("root gets %+v, %v", a, err)
	}
	again(t, alice, "^TestRefusedUser$", "TEST_REFUSED=1")
}

func TestRefusedUser(t *testing.T) {
	if os.Getenv("TEST_REFUSED") == "" {
		t.Skip("runs within another test, as an ordinary user")
	}
	own := strconv.Itoa(os.Geteuid())
	for _, c := range []struct{ user, group, want string }{
		{"65533", "65533", "cannot become user 65533: operation not permitted [only root may run programs as another user]"},
		{own, "65533", "cannot become group 65533: operation not permitted [only root may run programs as another user]"},
		{own, own, ""},
	} {
		_, err := ResolveAccount(t.Context(), &unit.Program{User: c.user, Group: c.group})
		got := ""
		var e *StartError
		if errors.As(err, &e) {
			got = e.Error() + " [" + e.Hint() + "]"
		}
		if got != c.want {
			t.Errorf("%s:%s: got %q, want %q", c.user, c.group, got, c.want)
		}
	}
}
