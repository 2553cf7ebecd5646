package process

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// For bench and for the curious:
//
//	go test ./pkg/supervisor/process -run TestThousandEndAtOnce -args -rounds=100
//	go test ./pkg/supervisor/process -run TestForkStorm -args -storm=2000
var (
	atOnce   = flag.Int("children", defaultChildren, "processes that end at once in TestThousandEndAtOnce")
	howOften = flag.Int("rounds", 1, "how often TestThousandEndAtOnce does so")
	storm    = flag.Int("storm", 100, "processes that the user of a storm may have in TestForkStorm")
)

// R12: a thousand processes end in the same instant. Each end is told once, with
// its own status, and no zombie is left. While they wait, they cost no threads.
func TestThousandEndAtOnce(t *testing.T) {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if limit.Cur < uint64(8**atOnce) {
		t.Skip("needs more open files: ulimit -n ", 8**atOnce)
	}
	l := newTestLauncher(t, Options{})
	for range *howOften {
		endAtOnce(t, l, *atOnce)
	}
}

func endAtOnce(t *testing.T, l *Launcher, n int) {
	var gate [2]int // they all read from it, and end when it closes
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gate[0])
	before := threads(t)
	processes := make([]*Process, n)
	for i := range processes {
		task := Task{
			ID: unit.Invocation(lastInvocation.Add(1)), Service: "many", Output: -1,
			Sockets: []File{{gate[0], "gate"}},
			Program: &unit.Program{Path: "/bin/sh", Argv: []string{"sh", "-c", fmt.Sprintf("read x <&3; exit %d", i%200)}},
		}
		p, err := l.Launch(t.Context(), task, nil)
		if err != nil {
			unix.Close(gate[1])
			t.Fatal(err)
		}
		processes[i] = p
	}
	if more := threads(t) - before; more > 30 {
		t.Errorf("%d processes cost %d threads", n, more)
	}
	ends := make([]int, n)
	var told sync.WaitGroup
	for i, p := range processes {
		told.Go(func() {
			exit := p.Wait()
			mustGo(t, p)
			if exit != (unit.Exit{Kind: unit.ByStatus, Code: i % 200}) {
				t.Errorf("process %d of %d ended with %+v", i, n, exit)
			}
			ends[i]++
		})
	}
	unix.Close(gate[1])
	told.Wait()
	for i, p := range processes {
		if ends[i] != 1 {
			t.Errorf("the end of process %d was told %d times", i, ends[i])
		}
		if s, err := readStat(p.PID()); err == nil && s.start == p.Identity().StartTime {
			t.Errorf("process %d is a zombie", p.PID())
		}
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(own.pids) > 1 || own.starting != 0 { // the template is one
		t.Errorf("still registered: %v, starting %d", own.pids, own.starting)
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}
