package process

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A sessionTree is a tree where there are no cgroups. Its processes are those of
// the main process's session, all that descend from one of them or from one that
// was ever seen to belong, and orphans that carry the invocation's marks (see
// marks). The main process is not reaped before the tree is empty, so nobody else
// gets its number, which is the session's and the group's.
//
// What leaves the session, loses its parent before anybody looks, and carries no
// mark, escapes; so does what enters a PID namespace elsewhere and loses its parent
// there, once the main process has ended. Only cgroups hold that.
type sessionTree struct {
	kin    *kin
	leader *pidfd
	pid    int
	marks  marks
	doomed atomic.Bool // SIGKILL was ordered: whoever turns up gets it too
	over   atomic.Bool // it is empty, and its number may be another's by now; set under mu

	mu   sync.Mutex
	seen map[int]uint64 // members so far, by number and start time
}

func newSessionTree(k *kin, m marks) *sessionTree {
	return &sessionTree{kin: k, marks: m, seen: map[int]uint64{}}
}

func (t *sessionTree) String() string { return "" }

func (t *sessionTree) remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.Store(true)
}

// look returns the members that are alive, the main process among them.
func (t *sessionTree) look() (alive []stat, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over.Load() {
		return nil, nil
	}
	passing, deserted := t.orphans()
	if deserted {
		clear(t.seen)
		return nil, nil
	}
	all, err := snapshots.get()
	if err != nil {
		return nil, err
	}
	belongs := map[int]bool{}
	for pid, s := range all {
		belongs[pid] = t.claims(s)
	}
	delete(belongs, t.kin.parent.PID())
	delete(belongs, os.Getpid())
	delete(belongs, 1)
	for grown := true; grown; {
		grown = false
		for pid, s := range all {
			if belongs[s.parent] && !belongs[pid] {
				belongs[pid], grown = true, true
			}
		}
	}
	clear(t.seen)
	for pid, s := range all {
		if belongs[pid] && s.alive() {
			t.seen[pid] = s.start
			alive = append(alive, s)
		}
	}
	for _, s := range passing {
		if _, there := t.seen[s.pid]; !there {
			t.seen[s.pid] = s.start
			alive = append(alive, s)
		}
	}
	return alive, nil
}

// orphans returns the members that have come to the Parent, once the main process has ended:
// a walk may miss those that are only passing through, each forking the next one.
// deserted: nobody is left, and no walk is needed to show it.
func (t *sessionTree) orphans() (members []stat, deserted bool) {
	if !t.leader.hasEnded() {
		return nil, false
	}
	all, err := t.kin.strangers.get()
	for _, s := range all {
		if t.claims(s) {
			members = append(members, s)
		}
	}
	return members, err == nil && len(all) == 0 && !t.seesSome()
}

// seesSome says whether anybody lives who was seen to belong.
func (t *sessionTree) seesSome() bool {
	for pid := range t.seen {
		if s, err := readStat(pid); err == nil && s.alive() && t.knows(s) {
			return true
		}
	}
	return false
}

// claims says whether a process belongs to the tree by itself, not by its parent.
func (t *sessionTree) claims(s stat) bool {
	return s.session == t.pid || t.knows(s) || t.adopts(s)
}

// knows says whether a process was seen to belong.
func (t *sessionTree) knows(s stat) bool {
	start, seen := t.seen[s.pid]
	return seen && start == s.start
}

// adopts says whether an orphan that came to the Parent belongs to the tree.
func (t *sessionTree) adopts(s stat) bool {
	return s.alive() && t.kin.orphan(s) && t.marks.on(s.pid)
}

// signal sends sig to the main process's group at once, so that what is being
// forked there has it too, and then to those who are elsewhere.
func (t *sessionTree) signal(sig syscall.Signal) (found bool, err error) {
	found = t.signalGroup(sig) == nil
	done := map[int]uint64{}
	for range rounds {
		members, err := t.look()
		if err != nil {
			return found, err
		}
		fresh := false
		for _, s := range members {
			if s.group == t.pid || done[s.pid] == s.start {
				continue
			}
			done[s.pid], fresh, found = s.start, true, true
			send(s, sig)
		}
		if !fresh {
			break
		}
	}
	return found, nil
}

func (t *sessionTree) signalGroup(sig syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over.Load() {
		return os.ErrProcessDone
	}
	err := t.leader.signalGroup(sig)
	if err != unix.EINVAL {
		return err
	}
	if err = killGroup(t.pid, sig); err == nil && wakes(sig) { // before Linux 6.9
		killGroup(t.pid, syscall.SIGCONT)
	}
	return err
}

// killGroup signals a process group by its number. The caller knows that the
// number is not free: its leader has not been reaped.
func killGroup(pgid int, sig syscall.Signal) error {
	if pgid <= 1 {
		return unix.EINVAL
	}
	return unix.Kill(-pgid, sig)
}

// send signals the very process that was looked at.
func send(s stat, sig syscall.Signal) {
	p, err := openPidfd(s.pid)
	if err != nil {
		return
	}
	defer p.close()
	if now, err := readStat(s.pid); err != nil || now.start != s.start {
		return
	}
	p.signal(sig)
}

func (t *sessionTree) kill() error {
	t.doomed.Store(true)
	err := t.signalGroup(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, t.killOthers())
}

// killOthers kills those who have left the main process's group. It stops them
// first, one after the other, until all stand still: a storm of forks that is
// killed one by one outlives that, since each death makes room for a new process.
func (t *sessionTree) killOthers() error {
	for range rounds {
		members, err := t.look()
		if err != nil {
			return err
		}
		running := false
		for _, s := range members {
			if s.state != 'T' && s.group != t.pid {
				running = true
				send(s, syscall.SIGSTOP)
			}
		}
		if !running {
			break
		}
	}
	members, err := t.look()
	for _, s := range members {
		send(s, syscall.SIGKILL)
	}
	return err
}

// waitEmpty believes that the tree is empty when two looks in a row say so: one
// look may miss a process that is forked while it lasts.
func (t *sessionTree) waitEmpty() {
	for empty := 0; empty < 2; {
		members, err := t.look()
		members = slices.DeleteFunc(members, func(s stat) bool { return s.pid == t.pid })
		switch {
		case err != nil:
			empty = 0
			time.Sleep(lookAgain)
		case len(members) == 0:
			empty++
		default:
			empty = 0
			if t.doomed.Load() {
				t.killOthers()
			}
			await(members[0])
		}
	}
}

// await parks until a process has ended.
func await(s stat) {
	p, err := openPidfd(s.pid)
	if errors.Is(err, os.ErrProcessDone) {
		return
	}
	if err != nil { // out of fds
		time.Sleep(lookAgain)
		return
	}
	defer p.close()
	if now, err := readStat(s.pid); err == nil && now.start == s.start {
		p.ended()
	}
}

func (t *sessionTree) members() (survivors []Survivor) {
	members, _ := t.look()
	for _, s := range members {
		survivors = append(survivors, Survivor{s.pid, s.comm})
	}
	return survivors
}
