package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What an ordinary user can do with supervisord is tested by one.
const forOrdinaryUsers = "^(Test(KillReachesTheWholeTree|TreeOutlives|KillModes|Signal|Orphans|FortySockets|Pinned|Script|WhatFails|Stage|CallerThat|PidVariables|Identity).*)$"

func TestAsOrdinaryUser(t *testing.T) {
	needsRoot(t)
	again(t, alice, forOrdinaryUsers)
}

// Harden closes /proc/PID to others of the same user: our own stage is one.
func TestAsHardenedOrdinaryUser(t *testing.T) {
	needsRoot(t)
	again(t, alice, forOrdinaryUsers, hardened+"=1")
}

func TestAsHardenedRoot(t *testing.T) {
	needsRoot(t)
	again(t, 0, forOrdinaryUsers, hardened+"=1")
}

// Containers take CAP_SYS_PTRACE from root, which is what opens the /proc/PID of
// a process that is not dumpable.
func TestAsHardenedRootOfAContainer(t *testing.T) {
	needsRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv(1)")
	}
	cmd := exec.Command(setpriv, "--bounding-set", "-sys_ptrace,-sys_admin,-sys_resource", selfPath(), "-test.run", forOrdinaryUsers, "-test.v")
	cmd.Env = append(os.Environ(), hardened+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
