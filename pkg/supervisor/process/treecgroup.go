package process

import (
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/cgroup"
)

// rounds is how often a tree is looked at again for processes that were forked
// while it was signalled. A tree that outruns so many is killed by SIGKILL, which
// goes on until there is nobody.
const rounds = 10

// A cgroupTree is the cgroup of an invocation.
type cgroupTree struct {
	group  *cgroup.Group
	events *cgroup.Events // open from before the first process, so that it cannot fail later
	main   *pidfd
	pid    int
	id     uint64 // the cgroup's
}

func newCgroupTree(g *cgroup.Group) (*cgroupTree, error) {
	events, err := g.Events()
	if err != nil {
		return nil, err
	}
	return &cgroupTree{group: g, events: events, id: g.ID()}, nil
}

func (t *cgroupTree) String() string { return t.group.Path() }

func (t *cgroupTree) signal(sig syscall.Signal) (found bool, err error) {
	found = t.signalMain(sig)
	seen := map[int]bool{t.pid: true}
	for range rounds {
		pids, err := t.group.PIDs()
		if err != nil {
			return found, err
		}
		fresh := false
		for _, pid := range pids {
			if !seen[pid] {
				seen[pid], fresh = true, true
				found = t.send(pid, sig) || found
			}
		}
		if !fresh {
			break
		}
	}
	return found, nil
}

// signalMain says whether there was a main process: a zombie would take the signal.
func (t *cgroupTree) signalMain(sig syscall.Signal) bool {
	return !t.main.hasEnded() && t.main.signal(sig) == nil
}

// send signals a process if it still is one of ours. Should its number change
// hands between the two looks, the pidfd is that of a dead process.
func (t *cgroupTree) send(pid int, sig syscall.Signal) bool {
	p, err := openPidfd(pid)
	if err != nil {
		return false
	}
	defer p.close()
	return t.group.Has(pid) && p.signal(sig) == nil
}

func (t *cgroupTree) kill() error {
	err := t.group.Kill()
	if errors.Is(err, fs.ErrNotExist) { // before Linux 5.14; or the cgroup itself is gone
		return t.killOneByOne()
	}
	if err == nil {
		t.killHeadless()
	}
	return err
}

// killHeadless is for a process whose first thread has ended: cgroup.kill signals
// that thread alone, and those that are left live on. Whatever else is still listed
// is killed already, so that a look that fails costs only these.
func (t *cgroupTree) killHeadless() {
	t.signal(syscall.SIGKILL)
}

// killOneByOne freezes the cgroup first: then it forks nothing, and SIGKILL gets
// through all the same.
func (t *cgroupTree) killOneByOne() error {
	if populated, err := t.group.Populated(); err == nil && !populated {
		return nil
	}
	if err := t.group.Freeze(true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := t.signal(syscall.SIGKILL)
	t.group.Freeze(false)
	return err
}

func (t *cgroupTree) waitEmpty() {
	for t.events.WaitEmpty() != nil {
		time.Sleep(lookAgain)
	}
}

// lookAgain is the pause after a look that should not fail did.
const lookAgain = 100 * time.Millisecond

func (t *cgroupTree) members() (survivors []Survivor) {
	pids, _ := t.group.PIDs()
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil && s.alive() && t.group.Has(pid) {
			survivors = append(survivors, Survivor{pid, s.comm})
		}
	}
	return survivors
}

func (t *cgroupTree) remove() {
	t.events.Close()
	t.group.Remove()
}
