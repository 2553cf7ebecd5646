package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// What the poller does not take would be said to have ended at once, so it is not
// taken either.
func TestWhatCannotBeWatched(t *testing.T) {
	f, err := os.Open("/proc/self/exe") // like a pidfd that is one too many
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, firstHigh)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPidfd(fd)
	defer p.close()
	if !errors.Is(err, errUnwatched) {
		t.Errorf("it says %v", err)
	}
	if e := unwatched(err); e.Hint() == "" || e.Error() != err.Error() {
		t.Errorf("a start says %q, hint %q", e, e.Hint())
	}
}

// A child that nobody could wait for is ended, and leaves no zombie.
func TestDiscardedChild(t *testing.T) {
	fd := -1
	c := exec.Command("/bin/sleep", "60")
	c.SysProcAttr = &unix.SysProcAttr{PidFD: &fd}
	own.begin()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	own.end(c.Process.Pid)
	defer own.reaped(c.Process.Pid)
	p, err := newPidfd(fd)
	if err != nil {
		t.Fatal(err)
	}
	p.discard()
	if _, err := readStat(c.Process.Pid); !errors.Is(err, unix.ENOENT) {
		t.Errorf("it is there: %v", err)
	}
}
