package main

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// In a user namespace that has root alone no file can be given to another group. The
// logs are root's then, and all else is as everywhere.
func TestUserNamespaceOfRootAlone(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	r := at(t, "read_group = \"4\"\n"+sleeper)
	cmd := r.command()
	root := []syscall.SysProcIDMap{{Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: root, GidMappings: root}
	r.startWith(cmd)
	r.has(r.line("cannot give "+r.path("log")+" to group 4: invalid argument"), "read_group")
	r.ctl(0, "start", "api")
	r.stop()
}

// A group may be given by its number, as the reference says.
func TestGroupOfTheLogsByNumber(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	r := at(t, "read_group = \"4\"\n"+sleeper)
	r.start()
	var st unix.Stat_t
	if err := unix.Stat(r.path("log"), &st); err != nil || st.Gid != 4 {
		t.Errorf("the logs are those of group %d, %v", st.Gid, err)
	}
	r.stop()
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
