package keeper_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// A child that ended while nobody ruled is a zombie, whose number is nobody else's, and
// whose status each manager is told until one drops it.
func TestAnEndIsToldUntilItIsDropped(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	p := start(t, c, "web/1")
	if err := c.Drop("proc/web/1"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a child that lives is dropped: %v", err)
	}
	r, w := pipe(t)
	must(t, c.Put("gate", "", int(r.Fd())))
	q := start(t, c, "web/2", keeper.Of("gate", 0))
	q.run("read x <&1; exit 7")
	s.Kill()
	p.run("exit 42")
	waitForEnd(t, p.FDs[0])
	w.Close()
	waitForEnd(t, q.FDs[0])

	for range 3 {
		c = s.Manager(keeper.Handler{})
		all := entries(t, c)
		for inv, want := range map[string]int{"web/1": 42, "web/2": 7} {
			p := found(t, all, inv)
			if p.State != keeper.Ended || p.Status.ExitStatus() != want || p.ends() != p.Status {
				t.Errorf("%s is %+v", inv, p)
			}
			if stat, _ := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/stat"); !strings.Contains(string(stat), ") Z ") {
				t.Errorf("%s is no zombie: %s", inv, stat)
			}
		}
		s.Kill()
	}
	c = s.Manager(keeper.Handler{})
	must(t, c.Drop("proc/web/1"))
	must(t, c.Drop("proc/web/2"))
	if unix.Kill(p.PID, 0) != unix.ESRCH || unix.Kill(q.PID, 0) != unix.ESRCH {
		t.Error("they are not reaped")
	}
}

func waitForEnd(t *testing.T, pidfd int) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	again(func() error { _, err := unix.Poll(p, -1); return err })
}

// An end is told to the manager that is there, once.
func TestAnEndIsToldOnce(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	p := start(t, c, "web/1")
	q := found(t, entries(t, c), "web/1")
	p.run("kill -9 $$")
	if ws := p.ends(); !ws.Signaled() || ws.Signal() != unix.SIGKILL {
		t.Errorf("it ended with %x", ws)
	}
	if ws := q.ends(); !ws.Signaled() {
		t.Errorf("to the other it ended with %x", ws)
	}
	entries(t, c)
	if len(p.End)+len(q.End) > 0 {
		t.Error("it is told twice")
	}
}

// A child of which its manager could tell nobody waits, and the next manager runs it. It
// does what it is told once, whoever repeats it.
func TestAWaitingChildIsForTheNextManager(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	p := start(t, c, "web/1", keeper.Given(int(w.Fd())))
	p.Close()
	unix.Close(p.Control)
	p.Control = -1
	s.Kill()

	c = s.Manager(keeper.Handler{})
	if _, err := c.Spawn(keeper.Spawn{Key: "proc/web/1", Control: "ctl/web/1", Cgroup: -1}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("there are two of it: %v", err)
	}
	const script = "echo x; exit 42"
	found(t, entries(t, c), "web/1").run(script)
	s.Kill()

	c = s.Manager(keeper.Handler{})
	again := found(t, entries(t, c), "web/1").run(script)
	if ws := again.ends(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
	w.Close()
	must(t, c.Drop("ctl/web/1"))
	must(t, c.Drop("proc/web/1"))
	b := make([]byte, 8)
	if n, _ := r.Read(b); string(b[:n]) != "x\n" {
		t.Errorf("it said %q", b[:n])
	}
}

// A child whose socket nobody has any more ends.
func TestAChildThatNobodyWantsEnds(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	p := start(t, c, "web/1")
	must(t, c.Drop("ctl/web/1"))
	unix.Close(p.Control)
	p.Control = -1
	if ws := p.ends(); !ws.Exited() {
		t.Errorf("it ended with %x", ws)
	}
}

// What a manager has a start's files is needed until that is answered, dropped or not.
func TestFilesAreDroppedWhileTheyAreNeeded(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	var wg sync.WaitGroup
	for i := range 50 {
		key := fmt.Sprintf("out/%d", i)
		r, w := pipe(t)
		must(t, c.Put(key, "", int(w.Fd())))
		w.Close()
		spawned := make(chan error, 1)
		wg.Go(func() {
			p, err := c.Spawn(keeper.Spawn{Key: fmt.Sprint("proc/", i), Control: fmt.Sprint("ctl/", i), Cgroup: -1, Files: []keeper.File{keeper.Of(key, 0)}})
			spawned <- err
			if err == nil {
				run := &child{p, t}
				run.run("echo " + key)
				if ws := run.ends(); ws != 0 {
					t.Errorf("%s ended with %x", key, ws)
				}
				p.Close()
				unix.Close(p.Control)
			}
		})
		must(t, c.Drop(key))
		b := make([]byte, 64)
		n, _ := r.Read(b)
		if err := <-spawned; err == nil && string(b[:n]) != key+"\n" || err != nil && n > 0 {
			t.Errorf("%s: %v, and it said %q", key, err, b[:n])
		}
	}
	wg.Wait()
}

// Whenever a manager is killed, what it has asked is done before the next one begins:
// that one has a list that does not change any more, each key once, no status lost, and
// each child, whether it was run or not.
func TestKilledAtAnyMoment(t *testing.T) {
	const rounds = 30
	s := keepertest.Serve(t)
	k := &killed{t: t, known: map[string]bool{}, seed: rand.New(rand.NewPCG(1, 2))}
	for round := range rounds {
		c := s.Manager(keeper.Handler{})
		k.settle(c)
		k.work(c, round, s.Kill)
	}
	k.settle(s.Manager(keeper.Handler{}))
	if k.ended < rounds {
		t.Errorf("only %d ends were seen", k.ended)
	}
}

type killed struct {
	t     *testing.T
	seed  *rand.Rand
	mu    sync.Mutex
	known map[string]bool // keys that a call said are there
	ended int
}

// work puts and spawns and runs until it is killed.
func (k *killed) work(c *keeper.Client, round int, kill func()) {
	var wg sync.WaitGroup
	steps := k.seed.IntN(12)
	before := steps
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				inv := fmt.Sprintf("%d/%d/%d", round, worker, i)
				if k.step(c, inv) != nil {
					return
				}
				k.mu.Lock()
				if before--; before == 0 {
					kill()
				}
				k.mu.Unlock()
			}
		})
	}
	if steps == 0 {
		kill()
	}
	wg.Wait()
}

func (k *killed) step(c *keeper.Client, inv string) error {
	if err := c.Put("out/"+inv, "", 0, 1); err != nil {
		return err
	}
	p, err := c.Spawn(keeper.Spawn{Key: "proc/" + inv, Control: "ctl/" + inv, Cgroup: -1, Files: []keeper.File{keeper.Of("out/"+inv, 0)}})
	if err != nil {
		return err
	}
	defer p.Close()
	defer unix.Close(p.Control)
	k.mu.Lock()
	k.known["out/"+inv], k.known["proc/"+inv], k.known["ctl/"+inv] = true, true, true
	k.mu.Unlock()
	(&child{p, k.t}).run("exit " + strconv.Itoa(statusOf(inv)))
	return nil
}

// statusOf is the status with which an invocation ends.
func statusOf(inv string) int { return 1 + len(inv)*7%100 }

// settle does what a new manager does: it goes on with what is there.
func (k *killed) settle(c *keeper.Client) {
	all := listed(k.t, c)
	for key := range k.known {
		if _, ok := all[key]; !ok {
			k.t.Errorf("%s is lost", key)
		}
	}
	for key, e := range all {
		inv, isProcess := strings.CutPrefix(key, "proc/")
		if !isProcess {
			continue
		}
		p := found(k.t, all, inv)
		if _, ok := all["out/"+inv]; !ok {
			k.t.Errorf("%s has no output", inv)
		}
		p.run("exit " + strconv.Itoa(statusOf(inv)))
		if ws := p.ends(); ws.ExitStatus() != statusOf(inv) {
			k.t.Errorf("%s ended with %x, state %d", inv, ws, e.State)
		}
		k.ended++
	}
	for key, e := range all {
		must(k.t, c.Drop(key))
		e.Close()
	}
	k.known = map[string]bool{}
	if left := listed(k.t, c); len(left) > 0 {
		k.t.Errorf("there is more afterwards: %v", left)
	}
}

// A manager is killed with more in its line than the keeper reads at a time.
func TestLastWordsAreHeard(t *testing.T) {
	s := keepertest.Serve(t)
	s.Manager(keeper.Handler{})
	s.Kill()
	fd, pid := s.Line()
	defer unix.Close(fd)
	pidfd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(pidfd)
	const up, many = "\x07\x00\x00\x00\x00", 120
	must(t, unix.Kill(s.PID, unix.SIGSTOP))
	must(t, unix.Sendmsg(fd, []byte(up), nil, nil, 0))
	for i := range many {
		key := fmt.Sprintf("%03d", i)
		must(t, unix.Sendmsg(fd, []byte("\x01\x00\x00\x00\x00\x03\x00\x00\x00"+key+"\x00\x00\x00\x00"), nil, nil, 0))
	}
	s.Kill()
	waitForEnd(t, pidfd)
	must(t, unix.Kill(s.PID, unix.SIGCONT))
	if all := entries(t, s.Manager(keeper.Handler{})); len(all) != many {
		t.Errorf("the list has %d", len(all))
	}
}
