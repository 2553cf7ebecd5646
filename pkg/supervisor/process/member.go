package process

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Member says whether the process that pidfd names, whose number is pid as long
// as it lives, is the main process or another of the tree: in its cgroup, or
// where there are none in its session. A process that has ended is told by what
// the kernel keeps of it (the main process since Linux 6.9, any other one in the
// invocation's own cgroup since 6.15), else it is not a member. It does not wait.
func (p *Process) Member(pidfd, pid int) bool {
	if ino := inodeOf(pidfd); ino != 0 && ino == p.identity.PidfdInode {
		return true
	}
	return p.tree.has(pidfd, pid)
}

func (t *cgroupTree) has(pidfd, pid int) bool {
	if id := cgroupOf(pidfd); id != 0 && id == t.id {
		return true
	}
	return t.group.Has(pid) && !endedNow(pidfd) // looked up by number, so in this order
}

// has relies on the number of the session, which is nobody else's before the
// tree is over.
func (t *sessionTree) has(pidfd, pid int) bool {
	session, err := unix.Getsid(pid)
	return err == nil && session == t.pid && !t.over.Load() && !endedNow(pidfd)
}

// endedNow says whether the process of a pidfd has ended, reaped or not.
func endedNow(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return n > 0 || err != nil && err != unix.EINTR
}

// pidfdInfo is struct pidfd_info of <linux/pidfd.h>, as Linux 6.13 began it.
type pidfdInfo struct {
	mask, cgroup uint64
	_            [12]uint32
}

// What ioctl_pidfd(2) is asked.
const (
	pidfdGetInfo   = 3<<30 | unsafe.Sizeof(pidfdInfo{})<<16 | 0xff<<8 | 11
	pidfdWithGroup = 1 << 2
	pidfdWithExit  = 1 << 3 // or nothing is told of who is reaped
)

// cgroupOf is the id of a process's cgroup, which is the inode of its directory;
// 0 if the kernel does not tell.
func cgroupOf(pidfd int) uint64 {
	info := pidfdInfo{mask: pidfdWithGroup | pidfdWithExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&pidfdWithGroup == 0 {
		return 0
	}
	return info.cgroup
}

// A Leftover is a process that an invocation left behind: its main process has
// ended, and this one has not.
type Leftover struct {
	Survivor
	Invocation unit.Invocation
}

// Leftovers lists what is left of the invocations of a service whose main
// processes have ended. With [unit.ProcessOnly] nobody ends it, and it is there
// beside the next invocation ("left-over process" in systemd's log).
func (l *Launcher) Leftovers(service string) (left []Leftover) {
	for _, p := range l.processes() {
		if p.name.Service != service || !p.hasEnded() {
			continue
		}
		for _, s := range p.Survivors() {
			left = append(left, Leftover{s, p.name.ID})
		}
	}
	return left
}

// Leftovers lists what is left of the tree now that the main process has ended;
// nothing before that.
func (p *Process) Leftovers() []Survivor {
	if !p.hasEnded() {
		return nil
	}
	return p.Survivors()
}

func (p *Process) hasEnded() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// A Stray is a living process that came to the Parent as an orphan and belongs to no
// invocation that we know of: it left its session, lost its parent and carries no
// mark. There are none where there are cgroups, but of those that strangers have
// brought, as docker exec does.
type Stray struct {
	Survivor
	UID uint32
}

// Strays lists them. What nobody can attribute nobody ends.
func (l *Launcher) Strays() (strays []Stray) {
	pids, _ := childrenOf(l.parent.PID())
	var known map[int]bool
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil || !s.alive() || !l.kin.orphan(s) || l.holds(pid) {
			continue
		}
		if known == nil {
			known = l.members()
		}
		// Read again: what has become ours meanwhile is not a stray.
		if now, err := readStat(pid); known[pid] || err != nil || now.start != s.start || !l.kin.orphan(now) {
			continue
		}
		uid, _ := realUID("/proc/" + decimal(pid))
		strays = append(strays, Stray{Survivor{pid, s.comm}, uid})
	}
	return strays
}

// holds says whether a process is in a cgroup of ours.
func (l *Launcher) holds(pid int) bool { return l.cgroups != nil && l.cgroups.Has(pid) }

// members are all processes of all trees.
func (l *Launcher) members() map[int]bool {
	members := map[int]bool{}
	for _, p := range l.processes() {
		for _, s := range p.Survivors() {
			members[s.PID] = true
		}
	}
	return members
}

// processes are those whose trees are not gone.
func (l *Launcher) processes() (all []*Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.running {
		all = append(all, p)
	}
	return all
}

func (l *Launcher) add(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running[p] = struct{}{}
}

func (l *Launcher) drop(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, p)
}
