package keeper_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// orphan is a process that came to the keeper when its parent ended. It ends with gate.
func orphan(t *testing.T, c *keeper.Client, inv string, gate *os.File) (pid int) {
	t.Helper()
	r, w := pipe(t)
	p := start(t, c, inv, keeper.Given(int(w.Fd())), keeper.Given(int(gate.Fd())))
	p.run("(read x <&3; exit 3) >/dev/null & echo $!")
	w.Close()
	b := make([]byte, 16)
	n, err := r.Read(b)
	must(t, err)
	if pid, err = strconv.Atoi(strings.TrimSpace(string(b[:n]))); err != nil {
		t.Fatal(err)
	}
	p.ends()
	return pid
}

// Orphans are reaped, those behind zombies that are kept as well.
func TestOrphansAreReaped(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	var pidfds []int
	for i := range 5 {
		pid := orphan(t, c, fmt.Sprint("web/", i), r)
		if parent := parentOf(t, pid); parent != s.PID {
			t.Errorf("the parent of %d is %d", pid, parent)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		must(t, err)
		defer unix.Close(fd)
		pidfds = append(pidfds, fd)
	}
	w.Close()
	for _, fd := range pidfds {
		waitUntilReaped(t, fd)
	}
	for i := range 5 {
		must(t, c.Drop(fmt.Sprint("proc/web/", i)))
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	parent, _ := strconv.Atoi(strings.Fields(rest)[1])
	return parent
}

// waitUntilReaped waits for what a pidfd tells of that, or looks again and again where
// the kernel does not (before Linux 6.9).
func waitUntilReaped(t *testing.T, pidfd int) {
	t.Helper()
	waitForEnd(t, pidfd)
	for unix.PidfdSendSignal(pidfd, 0, nil, 0) != unix.ESRCH {
		p := []unix.PollFd{{Fd: int32(pidfd)}}
		unix.Poll(p, 10)
	}
}

// templateOf is the process that forks for a keeper. A child that waits looks like it.
func templateOf(t *testing.T, keeper int, waiting ...int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", keeper, keeper))
	must(t, err)
	for field := range strings.FieldsSeq(string(text)) {
		if comm, _ := os.ReadFile("/proc/" + field + "/comm"); strings.TrimSpace(string(comm)) == "superv-template" {
			pid, _ := strconv.Atoi(field)
			if stateOf(t, pid) != "Z" && !slices.Contains(waiting, pid) {
				return pid
			}
		}
	}
	t.Fatal("there is no template")
	return 0
}

// A template that is killed is replaced, and reaped.
func TestTheTemplateIsKilled(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	var waiting []int
	for i := range 5 {
		inv := fmt.Sprint("web/", i)
		waiting = append(waiting, start(t, c, inv).PID)
		pid := templateOf(t, s.PID, waiting...)
		fd, err := unix.PidfdOpen(pid, 0)
		must(t, err)
		must(t, unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
		if i%2 == 0 {
			waitUntilReaped(t, fd)
		}
		next := start(t, c, inv+"/next")
		if ws := next.run("exit 42").ends(); ws.ExitStatus() != 42 {
			t.Errorf("a child of another template ended with %x", ws)
		}
		waitUntilReaped(t, fd)
		unix.Close(fd)
	}
	becomesIdle(t, s.PID)
}

// Nor does it hang when the template does, or anybody wait for that but who asked.
func TestTheTemplateIsStopped(t *testing.T) {
	t.Parallel()
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	must(t, unix.Kill(templateOf(t, s.PID), unix.SIGSTOP))
	spawned := make(chan int, 1)
	go func() { spawned <- start(t, c, "web/1").run("exit 42").ends().ExitStatus() }()
	must(t, c.Put("a", ""))
	select {
	case <-spawned:
		t.Error("it was not stopped")
	default:
	}
	if status := <-spawned; status != 42 {
		t.Errorf("a child of another template ended with status %d", status)
	}
	s.Kill() // the next manager comes from the new template
	if all := entries(t, s.Manager(keeper.Handler{})); len(all) != 3 {
		t.Errorf("the list is %v", all)
	}
}

// A manager dies while the template is stopped: what it asked is done before the next
// one begins.
func TestWhatWasAskedIsDoneFirst(t *testing.T) {
	t.Parallel()
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	must(t, unix.Kill(templateOf(t, s.PID), unix.SIGSTOP))
	for i := range 10 {
		go c.Spawn(keeper.Spawn{Key: fmt.Sprint("proc/", i), Control: fmt.Sprint("ctl/", i), Cgroup: -1})
	}
	const tooLong = 65 << 10 // so it is no entry: it only says whether there is one
	for i := range 10 {
		for !errors.Is(c.Put(fmt.Sprint("proc/", i), strings.Repeat("x", tooLong)), unix.EEXIST) {
		}
	}
	s.Kill()
	if all := entries(t, s.Manager(keeper.Handler{})); len(all) != 20 {
		t.Errorf("the list has %d: %v", len(all), all)
	}
}

// Whoever traces a child is told of its end first. Meanwhile the keeper idles.
func TestAChildThatIsTraced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: others may not trace what cannot be dumped")
	}
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, w := pipe(t)
	p := start(t, c, "web/1", keeper.Given(int(w.Fd())), keeper.Given(int(r.Fd())))
	p.run("read x <&3; exit 42")
	ready, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		ready <- unix.PtraceSeize(p.PID)
		<-done
		var ws syscall.WaitStatus
		syscall.Wait4(p.PID, &ws, syscall.WALL, nil)
		close(ready)
	}()
	if err := <-ready; err != nil {
		t.Skip("cannot trace: ", err)
	}
	w.WriteString("\n")
	waitForEnd(t, p.FDs[0])
	becomesIdle(t, s.PID)
	if len(p.End) > 0 {
		t.Errorf("it was told %x before the tracer was", <-p.End)
	}
	close(done)
	if ws := p.ends(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
	<-ready
	must(t, c.Drop("proc/web/1"))
}

// A process that is not our child: that it has ended is known at once, and how, when its
// parent has reaped it, where the kernel tells.
func TestAdopt(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	cmd := exec.Command("/bin/sh", "-c", "read x; exit 42")
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	must(t, err)
	defer unix.Close(fd)
	p, err := c.Adopt("proc/old/1", "a text", cmd.Process.Pid, fd)
	must(t, err)
	defer p.Close()
	if !p.Foreign || p.State != keeper.Running || p.PID != cmd.Process.Pid || p.Meta != "a text" || len(p.FDs) != 1 {
		t.Errorf("it is %+v", p)
	}
	in.Close()
	if ws := <-p.End; ws != keeper.Unknown {
		t.Errorf("nobody has reaped it, and it is told %x", ws)
	}
	becomesIdle(t, s.PID)
	cmd.Wait()
	waitUntilReaped(t, fd)
	if kernelTells(fd) {
		if ws := <-p.End; ws.ExitStatus() != 42 {
			t.Errorf("then it is told %x", ws)
		}
	}
	s.Kill()
	c = s.Manager(keeper.Handler{})
	if e := entries(t, c)["proc/old/1"]; e.State != keeper.Ended || !e.Foreign || kernelTells(fd) && e.Status.ExitStatus() != 42 {
		t.Errorf("the next manager is told %+v", e)
	}
	late, err := c.Adopt("proc/old/2", "", cmd.Process.Pid, fd) // it was gone before
	must(t, err)
	defer late.Close()
	<-late.End
	must(t, c.Drop("proc/old/1"))
	must(t, c.Drop("proc/old/2"))
}

// kernelTells says whether the kernel is Linux 6.15 or later.
func kernelTells(pidfd int) bool {
	info := struct {
		mask uint64
		_    [56]byte
	}{mask: 1 << 3}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), 0xc040ff0b, uintptr(unsafe.Pointer(&info)))
	return e == 0 && info.mask&(1<<3) != 0
}
