package keeper_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

func hearing() (keeper.Handler, chan keeper.Signal) {
	heard := make(chan keeper.Signal, 1000)
	return keeper.Handler{Signal: func(s keeper.Signal) { heard <- s }}, heard
}

func TestASignalIsKeptUntilItIsHeard(t *testing.T) {
	s := keepertest.Serve(t)
	h, heard := hearing()
	s.Manager(h)
	must(t, unix.Kill(s.PID, unix.SIGTERM))
	if got := <-heard; got.Signal != unix.SIGTERM {
		t.Errorf("it was told %v", got)
	}
	s.Kill() // before it could store that

	c := s.Manager(h)
	got := <-heard
	if got.Signal != unix.SIGTERM {
		t.Errorf("the next was told %v", got)
	}
	must(t, unix.Kill(s.PID, unix.SIGINT))
	if got := <-heard; got.Signal != unix.SIGINT {
		t.Errorf("the next was told %v", got)
	}
	must(t, c.Heard(got))
	s.Kill()

	c = s.Manager(h)
	if got := <-heard; got.Signal != unix.SIGINT {
		t.Errorf("the last was told %v", got)
	}
	_, err := c.List()
	must(t, err)
	if len(heard) > 0 {
		t.Errorf("the last was also told %v", <-heard)
	}
}

// A signal that comes again before it is heard is another one.
func TestASignalThatComesAgain(t *testing.T) {
	s := keepertest.Serve(t)
	h, heard := hearing()
	c := s.Manager(h)
	must(t, unix.Kill(s.PID, unix.SIGINT))
	first := <-heard
	must(t, unix.Kill(s.PID, unix.SIGINT))
	second := <-heard
	must(t, c.Heard(first)) // that is not the second
	s.Kill()
	c = s.Manager(h)
	if again := <-heard; again != second {
		t.Errorf("it was told %v, not %v", again, second)
	}
	must(t, c.Heard(second))
	s.Kill()
	_, err := s.Manager(h).List()
	must(t, err)
	if len(heard) > 0 {
		t.Errorf("it was told %v", <-heard)
	}
}

// While nobody rules, however many of a kind are one.
func TestSignalsWhileNobodyRules(t *testing.T) {
	s := keepertest.Serve(t)
	s.Manager(keeper.Handler{})
	s.Kill()
	h, heard := hearing()
	c := s.Connect(h)
	all := []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGINT}
	for range 100 {
		for _, sig := range all {
			must(t, unix.Kill(s.PID, sig))
		}
	}
	waitUntilHandled(t, s.PID)
	if _, err := c.List(); err != nil || len(heard) > 0 {
		t.Errorf("it was told before it rules: %d, %v", len(heard), err)
	}
	_, err := c.Up()
	must(t, err)
	_, err = c.List()
	must(t, err)
	got := map[syscall.Signal]int{}
	for len(heard) > 0 {
		got[(<-heard).Signal]++
	}
	for _, sig := range all {
		if got[sig] != 1 {
			t.Errorf("%v was told %d times", sig, got[sig])
		}
	}
}

// waitUntilHandled waits until no signal is pending and the process is idle.
func waitUntilHandled(t *testing.T, pid int) {
	t.Helper()
	for {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		must(t, err)
		_, pending, _ := strings.Cut(string(status), "\nShdPnd:")
		pending, _, _ = strings.Cut(pending, "\n")
		if strings.Trim(pending, "\t 0") == "" && idle(t, pid) {
			return
		}
	}
}

// The terminal's user wants the prompt back, and gets it; whatever waits then is done
// when he goes on.
func TestSIGTSTPStopsTheKeeperAlone(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	must(t, unix.Kill(s.PID, unix.SIGTSTP))
	var stopped unix.Siginfo
	must(t, unix.Waitid(unix.P_PID, s.PID, &stopped, unix.WSTOPPED|unix.WNOWAIT, nil))
	if state := stateOf(t, s.ManagerPID()); state == "T" {
		t.Error("the manager was stopped as well")
	}
	put := make(chan error, 1)
	go func() { put <- c.Put("a", "") }()
	must(t, unix.Kill(s.PID, unix.SIGCONT))
	must(t, <-put)
}

func stateOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[:1]
}

// That its terminal is closed tells supervisord nothing that anybody wants.
func TestTheTerminalIsClosed(t *testing.T) {
	master, slave := terminal(t)
	s := keepertest.Serve(t, func(c *exec.Cmd) {
		c.Stdin = slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	})
	h, heard := hearing()
	s.Manager(h)
	must(t, unix.Kill(s.PID, unix.SIGHUP))
	if got := <-heard; got.Signal != unix.SIGHUP {
		t.Errorf("it was told %v", got)
	}
	slave.Close()
	must(t, master.Close()) // from here on the kernel sends SIGHUP
	waitUntilHandled(t, s.PID)
	must(t, unix.Kill(s.PID, unix.SIGTERM))
	if got := <-heard; got.Signal != unix.SIGTERM {
		t.Errorf("it was told %v", got)
	}
}

func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals: ", err)
	}
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return master, slave
}
