package keeper_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// Before it is told to go, a manager may look, and say that it is up.
func TestBeforeGoAManagerOnlyLooks(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Connect(keeper.Handler{})
	for name, err := range map[string]error{
		"put": c.Put("a", ""), "drop": c.Drop("a"), "tell": c.Tell("READY=1"), "serving": c.Serving(), "exit": c.Exit(0),
		"spawn": errorOf(c.Spawn(keeper.Spawn{Key: "a", Control: "b", Cgroup: -1})),
		"adopt": errorOf(c.Adopt("a", "", os.Getpid(), self(t))),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := c.List(); err != nil || len(all) > 0 {
		t.Errorf("list: %v, %v", all, err)
	}
	past, err := c.Up()
	if err != nil || past.Managers != 0 {
		t.Errorf("up: %+v, %v", past, err)
	}
	must(t, c.Put("a", ""))
}

// Until one has served, supervisord has not started.
func TestTheFirstManagersExitIsSupervisords(t *testing.T) {
	t.Run("before it is up", func(t *testing.T) {
		s := keepertest.Serve(t)
		s.Connect(keeper.Handler{})
		s.Exit(17)
		if status := s.Wait(); status != 17 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("before it serves", func(t *testing.T) {
		s := keepertest.Serve(t)
		_, err := s.Connect(keeper.Handler{}).Up()
		must(t, err)
		s.Kill()
		if status := s.Wait(); status != 128+9 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("because it is late", func(t *testing.T) {
		s := keepertest.Serve(t, keepertest.With(keeper.Times{Patience: time.Millisecond}))
		if status := s.Wait(); status != 128+9 || !strings.Contains(s.Output(), "it was not up in time") {
			t.Errorf("status %d, %q", status, s.Output())
		}
	})
	t.Run("because it asked for it", func(t *testing.T) {
		s := keepertest.Serve(t)
		must(t, s.Manager(keeper.Handler{}).Exit(3))
		s.Exit(4)
		if status := s.Wait(); status != 3 {
			t.Errorf("status %d", status)
		}
	})
}

// One that asks for the end and does not end is killed.
func TestAnExitIsHurried(t *testing.T) {
	t.Parallel()
	s := keepertest.Serve(t, keepertest.With(keeper.Times{Patience: 5 * time.Second}))
	must(t, s.Manager(keeper.Handler{}).Exit(3))
	if status := s.Wait(); status != 3 {
		t.Errorf("status %d", status)
	}
}

// After that there is always another one, whatever became of the last.
func TestThereIsAlwaysAnotherManager(t *testing.T) {
	s := keepertest.Serve(t)
	well := keeper.Handler{}
	rubbish := func(text string) func() {
		return func() {
			fd, _ := s.Line()
			unix.Write(fd, []byte(text))
			unix.Close(fd)
		}
	}
	for i, end := range []struct {
		name string
		do   func()
		why  string
	}{
		{"exits before it is up", func() { s.Connect(well); s.Exit(0) }, ""},
		{"exits before it serves", func() { s.Connect(well).Up(); s.Exit(1) }, ""},
		{"is killed", func() { s.Connect(well).Up(); s.Kill() }, ""},
		{"says nothing that there is", rubbish("x0000"), "it talked rubbish"},
		{"says half of it", rubbish("\x01"), "it talked rubbish"},
		{"says nothing", rubbish(""), ""},
		{"says too much", rubbish(strings.Repeat("\x01", 150<<10)), "it talked rubbish"},
		{"says what makes sense as far as it is read", rubbish("\x06\x00\x00\x00\x00\xf7\xff\x01\x00" + strings.Repeat("x", 150<<10)), "it talked rubbish"},
		{"says what a keeper says", rubbish("\x41\x00\x00\x00\x00\x01\x00\x00\x000"), "it talked rubbish"},
		{"has too few fields", rubbish("\x02\x00\x00\x00\x00"), "it talked rubbish"},
	} {
		if i == 0 {
			must(t, s.Manager(well).Put("key", "meta"))
			s.Kill()
		}
		end.do()
		last := s.ManagerPID()
		c := s.Connect(well)
		past, err := c.Up()
		must(t, err)
		must(t, c.Serving())
		if past.PID != last || past.Why != end.why && end.why != "" || past.Managers < i+1 {
			t.Errorf("one that %s: %+v, not %d", end.name, past, last)
		}
		if all := entries(t, c); all["key"].Meta != "meta" {
			t.Errorf("after one that %s the list is %v", end.name, all)
		}
		s.Kill()
	}
}

// One that hangs is ended.
func TestAManagerThatHangs(t *testing.T) {
	well := func(s *keepertest.Server) *keeper.Client { return s.Connect(keeper.Handler{}) }
	for why, hang := range map[string]func(*keepertest.Server){
		"it was not up in time":         func(s *keepertest.Server) { well(s) },
		"it had not taken over in time": func(s *keepertest.Server) { well(s).Up() },
		"it did not answer":             func(s *keepertest.Server) { s.Manager(keeper.Handler{Ping: func(func()) {}}) },
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			s := keepertest.Serve(t, keepertest.With(keeper.Times{Patience: 5 * time.Second, Pong: 5 * time.Second, Ping: time.Millisecond}))
			s.Manager(keeper.Handler{})
			s.Kill()
			hang(s)
			if past, err := well(s).Up(); err != nil || past.Why != why {
				t.Errorf("%+v, %v", past, err)
			}
		})
	}
}

// A manager that asks and does not read waits, and nobody is kept waiting by it: nor is
// the keeper kept busy.
func TestAManagerThatDoesNotRead(t *testing.T) {
	s := keepertest.Serve(t)
	c := s.Manager(keeper.Handler{})
	r, _ := pipe(t)
	for _, key := range []string{"a", "b", "c"} {
		must(t, c.Put(key, strings.Repeat("x", 10<<10), int(r.Fd())))
	}
	s.Kill()
	fd, _ := s.Line()
	defer unix.Close(fd)
	const many = 10_000
	list := []byte{3, 0, 0, 0, 0}
	sent := 0
	for ; sent < many && !(unix.Sendmsg(fd, list, nil, nil, 0) == unix.EAGAIN && idle(t, s.PID)); sent++ {
	}
	if sent == many {
		t.Error("it remembers whatever it is asked")
	}
	must(t, unix.SetNonblock(fd, false))
	const hello, lists = 1, 100
	for range hello + lists*4 { // three entries and a done
		var b [64 << 10]byte
		if _, err := unix.Read(fd, b[:]); err != nil {
			t.Fatal(err)
		}
	}
	s.Kill()
	if all := entries(t, s.Manager(keeper.Handler{})); len(all) != 3 {
		t.Errorf("the list is %v", all)
	}
}

// idle says whether a process does nothing.
func idle(t *testing.T, pid int) bool {
	t.Helper()
	before := used(t, pid)
	unix.Poll(nil, 100)
	return used(t, pid) == before
}

// becomesIdle fails if a process goes on to do something.
func becomesIdle(t *testing.T, pid int) {
	t.Helper()
	for range 50 {
		if idle(t, pid) {
			return
		}
	}
	t.Error("it is busy")
}

// used is what its threads have had of the processors.
func used(t *testing.T, pid int) string {
	t.Helper()
	all, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	must(t, err)
	var text strings.Builder
	for _, path := range all {
		b, _ := os.ReadFile(path)
		fmt.Fprintln(&text, path, string(b))
	}
	return text.String()
}

// An ordinary user may have only so many descriptors on their way. The keeper waits
// until they have arrived, and idles meanwhile.
func TestManyDescriptorsOnTheirWay(t *testing.T) {
	needRoot(t)
	const limit, entries, each, lists = 400, 20, 4, 60
	s := keepertest.Serve(t, keepertest.As(nobody), keepertest.NoFile(limit))
	c := s.Manager(keeper.Handler{})
	for i := range entries {
		must(t, c.Put(strconv.Itoa(i), "", make([]int, each)...))
	}
	s.Kill()
	fd, _ := s.Line()
	defer unix.Close(fd)
	for range lists {
		must(t, unix.Sendmsg(fd, []byte{3, 0, 0, 0, 0}, nil, nil, 0))
	}
	must(t, unix.SetNonblock(fd, false))
	const hello = 1
	files := 0
	for range hello + lists*(entries+1) {
		var b [1024]byte
		rights := make([]byte, unix.CmsgSpace(4*each))
		n, nr, _, _, err := unix.Recvmsg(fd, b[:], rights, unix.MSG_CMSG_CLOEXEC)
		if err != nil || n == 0 {
			t.Fatalf("%d, %v", n, err)
		}
		parts, _ := unix.ParseSocketControlMessage(rights[:nr])
		for i := range parts {
			got, _ := unix.ParseUnixRights(&parts[i])
			for _, fd := range got {
				unix.Close(fd)
				files++
			}
		}
	}
	if files != lists*entries*each {
		t.Errorf("%d descriptors came", files)
	}
}

// What a manager cannot be told for want of numbers it is not told.
func TestThereIsRoomForAMessage(t *testing.T) {
	const limit, reserve = 400, 317
	s := keepertest.Serve(t, keepertest.NoFile(limit))
	c := s.Manager(keeper.Handler{})
	for i := 0; ; i++ {
		err := c.Put("a"+strings.Repeat("x", i), "", 0)
		if errors.Is(err, unix.EMFILE) {
			if i != limit-reserve {
				t.Errorf("%d files were kept", i)
			}
			break
		}
		must(t, err)
	}
	full := make([]int, keeper.MaxFiles)
	for name, err := range map[string]error{
		"put":   c.Put("full", "", full...),
		"spawn": errorOf(c.Spawn(keeper.Spawn{Key: "b", Control: "c", Cgroup: -1})),
		"adopt": errorOf(c.Adopt("b", "", os.Getpid(), self(t))),
	} {
		if !errors.Is(err, unix.EMFILE) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, c.Put("text", "")) // takes none
	s.Kill()
	c = s.Manager(keeper.Handler{})
	if all := entries(t, c); len(all) != limit-reserve+1 {
		t.Errorf("the list has %d", len(all))
	}
	must(t, c.Drop("a"))
	must(t, c.Drop("ax"))
	start(t, c, "web/1")
}
