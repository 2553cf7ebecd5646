package keeper_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// nobody is an ordinary user.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
}

// Everything works for an ordinary user.
func TestAsAnOrdinaryUser(t *testing.T) {
	needRoot(t)
	s := keepertest.Serve(t, keepertest.As(nobody))
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	must(t, c.Put("out/web/1", "", int(w.Fd())))
	p := start(t, c, "web/1", keeper.Of("out/web/1", 0))
	s.Kill()
	c = s.Manager(keeper.Handler{})
	q := found(t, entries(t, c), "web/1")
	if q.run("id -u; exit 42").ends(); q.PID != p.PID {
		t.Errorf("it is %d, not %d", q.PID, p.PID)
	}
	b := make([]byte, 16)
	if n, _ := r.Read(b); string(b[:n]) != strconv.Itoa(nobody)+"\n" {
		t.Errorf("it said %q", b[:n])
	}
	gr, gw := pipe(t)
	pid := orphan(t, c, "web/2", gr)
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(fd)
	gw.Close()
	waitUntilReaped(t, fd)
}

// Whatever runs as our user cannot look into keeper or manager, nor take their
// descriptors.
func TestNobodyLooksIn(t *testing.T) {
	needRoot(t)
	s := keepertest.Serve(t, keepertest.As(nobody))
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	p := start(t, c, "web/1", keeper.Given(int(w.Fd())))
	for who, pid := range map[string]int{"keeper": s.PID, "manager": s.ManagerPID()} {
		var st syscall.Stat_t
		if err := syscall.Stat("/proc/"+strconv.Itoa(pid)+"/environ", &st); err != nil || st.Uid != 0 {
			t.Errorf("what /proc has of the %s is user %d's, %v", who, st.Uid, err)
		}
	}
	p.run("for p in " + strconv.Itoa(s.PID) + " " + strconv.Itoa(s.ManagerPID()) + `; do for f in mem environ maps fd/0 fd/3; do cat /proc/$p/$f >/dev/null 2>&1 && echo $p $f; done; done; exit 0`)
	p.ends()
	w.Close()
	b := make([]byte, 256)
	if n, _ := r.Read(b); n > 0 {
		t.Errorf("it could read %q", b[:n])
	}
}

// A child has the oom_score_adj that supervisord was started with, also one of a later
// template; so has the manager.
func TestOnlyTheKeeperIsSpared(t *testing.T) {
	needRoot(t)
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	before := score(t, os.Getpid())
	if got := score(t, s.PID); got != -900 {
		t.Skip("the keeper's oom_score_adj cannot be lowered here: ", got)
	}
	if got := c.Keeper().OOMScoreAdj; got != before {
		t.Errorf("the keeper says %d", got)
	}
	p := start(t, c, "web/1")
	must(t, unix.Kill(templateOf(t, s.PID, p.PID), unix.SIGKILL))
	q := start(t, c, "web/2")
	for who, pid := range map[string]int{"manager": s.ManagerPID(), "child": p.PID, "next child": q.PID} {
		if got := score(t, pid); got != before {
			t.Errorf("the %s has %d, not %d", who, got, before)
		}
	}
}

func score(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	return n
}

// A manager is one that its parent has given a line.
func TestLineIsForManagers(t *testing.T) {
	if _, err := keeper.Line(); err == nil {
		t.Error("a test is one")
	}
	unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

// All calls fail when the keeper is gone, and whoever waits for the end of a child waits
// on.
func TestTheKeeperIsGone(t *testing.T) {
	s := keepertest.Serve(t)
	lost := make(chan error, 1)
	c := s.Manager(keeper.Handler{Lost: func(err error) { lost <- err }})
	p := start(t, c, "web/1")
	must(t, unix.Kill(s.PID, unix.SIGKILL))
	if err := <-lost; !errors.Is(err, keeper.ErrLost) {
		t.Errorf("it is told %v", err)
	}
	for name, err := range map[string]error{"put": c.Put("a", ""), "list": errorOf(c.List()), "up": errorOf(c.Up())} {
		if !errors.Is(err, keeper.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(p.End) > 0 {
		t.Errorf("the child ended with %x", <-p.End)
	}
}
