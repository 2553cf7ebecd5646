package history

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// alone runs the test that calls it once more, in a mount namespace of its own
// where dir is an empty tmpfs of 64 kB. It says whether this is that run.
func alone(t *testing.T) (dir string, inside bool) {
	if dir := os.Getenv("HISTORY_TEST_TMPFS"); dir != "" {
		must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0755"))
		return dir, true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small tmpfs in a namespace of its own")
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), "HISTORY_TEST_TMPFS="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("needs root with CAP_SYS_ADMIN: it mounts a small tmpfs in a namespace of its own: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return "", false
}

// A full disk costs nothing that memory has room for: it is written whole when
// there is space again.
func TestDiskFull(t *testing.T) {
	dir, inside := alone(t)
	if !inside {
		return
	}
	inTime(t, dir, func(k *keeper) {
		ballast := k.path("ballast")
		must(t, os.WriteFile(ballast, make([]byte, 32<<10), 0o600))
		k.add(1, 10)
		k.add(11, 3000) // more than fits
		k.said("cannot keep the history: " + k.path(Name) + ": no space left on device")
		text, err := os.ReadFile(k.path(Name))
		must(t, err)
		if len(text) == 0 || text[len(text)-1] != '\n' {
			t.Errorf("half of what could not be written is there: %q", text[max(0, len(text)-80):])
		}
		time.Sleep(retryAfter)
		synctest.Wait()
		k.said() // once
		k.wants(0, 3000, 2999)
		must(t, os.Remove(ballast))
		k.add(3001, 3001)
		if k.Err() == nil {
			t.Error("it did not wait for its next try")
		}
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=256k"))
		time.Sleep(retryAfter)
		synctest.Wait()
		if err := k.Err(); err != nil {
			t.Error(err)
		}
		k.Close()
		k.reopen()
		k.wants(0, 3001, 3000, 2999)
	})
}

func TestDiskReadOnly(t *testing.T) {
	dir, inside := alone(t)
	if !inside {
		return
	}
	inTime(t, dir, func(k *keeper) {
		k.add(1, 1)
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64k"))
		k.add(2, 2)
		k.said("read-only file system")
		k.wants(0, 2, 1)
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64k"))
		time.Sleep(retryAfter)
		synctest.Wait()
		if err := k.Err(); err != nil {
			t.Error(err)
		}
		k.wants(0, 2, 1)
	})
}
