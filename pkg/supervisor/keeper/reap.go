package keeper

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reaper reaps what came to us as orphans. Our own children are reaped when their
// entries are dropped; until then the kernel shows the same zombies first, and the
// others are looked for in the list of our children, now and then.
//
// While the template has a request, a child of it may have ended of which it has not
// told us yet. So a zombie that is unknown then is reaped when that request was answered.
type reaper struct {
	k        *keeper
	look     *timer
	looked   time.Time
	suspects map[int]uint64 // zombies that nobody knows, and how many requests were answered when they were seen
	hidden   []func()       // looks again for children that have ended, and that a tracer hides
}

const lookEvery = 50 * time.Millisecond

func newReaper(k *keeper) *reaper {
	r := &reaper{k: k, suspects: map[int]uint64{}}
	r.look = k.timer(r.scan)
	return r
}

// sweep reaps, as a child has ended.
func (r *reaper) sweep() {
	hidden := r.hidden
	r.hidden = nil
	for _, look := range hidden {
		look()
	}
	for {
		pid := ended(unix.P_ALL, 0)
		switch {
		case pid == 0:
			return
		case r.k.knows(pid) || !r.orphan(pid):
			if !r.look.set() {
				r.look.in(max(0, lookEvery-time.Since(r.looked)))
			}
			return
		}
	}
}

// scan looks through all of our children.
func (r *reaper) scan() {
	r.looked = time.Now()
	suspects := r.suspects
	r.suspects = map[int]uint64{}
	for _, pid := range children() {
		if r.k.knows(pid) || ended(unix.P_PID, pid) == 0 {
			continue
		}
		if at, ok := suspects[pid]; ok {
			r.suspects[pid] = at
		}
		r.orphan(pid)
	}
	if len(r.suspects) > 0 {
		r.look.in(lookEvery)
	}
}

// orphan reaps a zombie that nobody knows, unless it may be one of ours.
func (r *reaper) orphan(pid int) bool {
	at, seen := r.suspects[pid]
	switch {
	case r.k.templateEnded(pid):
	case len(r.k.starts) == 0, seen && at < r.k.answered:
	case !seen:
		r.suspects[pid] = r.k.answered
		return false
	default:
		return false
	}
	delete(r.suspects, pid)
	reap(unix.P_PID, pid)
	return true
}

// hide looks again at the next end of a child: a tracer is told first (ptrace(2)), and
// then we are told again.
func (r *reaper) hide(look func()) { r.hidden = append(r.hidden, look) }

// childInfo is siginfo_t as waitid(2) fills it in.
type childInfo struct {
	signo, errno, code int32
	_                  [0]uintptr // the rest is aligned as a pointer is
	pid                int32
	uid                uint32
	status             int32
	_                  [128]byte
}

// What si_code says of an end (sigaction(2)).
const (
	exited = 1
	killed = 2
	dumped = 3
)

func waitid(kind, id, options int) (info childInfo) {
	if again(func() error {
		return unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|options, nil)
	}) != nil {
		return childInfo{}
	}
	return info
}

// ended is the number of a child that has, 0: there is none.
func ended(kind, id int) int { return int(waitid(kind, id, unix.WNOWAIT).pid) }

func reap(kind, id int) { waitid(kind, id, 0) }

// endOf says how a child has ended. It has not, or a tracer hides it, unless ok.
func endOf(pidfd int) (status syscall.WaitStatus, ok bool) {
	info := waitid(unix.P_PIDFD, pidfd, unix.WNOWAIT)
	return info.waitStatus(), info.pid != 0
}

// waitStatus is the status as wait(2) has it.
func (c childInfo) waitStatus() syscall.WaitStatus {
	const core = 0x80
	switch c.code {
	case exited:
		return syscall.WaitStatus(c.status&0xff) << 8
	case killed:
		return syscall.WaitStatus(c.status)
	case dumped:
		return syscall.WaitStatus(c.status) | core
	}
	return Unknown
}

// foreignStatus asks how a process that was not ours has ended. The kernel tells it
// when that was reaped, from Linux 6.15 on.
func foreignStatus(pidfd int) syscall.WaitStatus {
	const getInfo, infoExit = 0xc040ff0b, 1 << 3 // PIDFD_GET_INFO in its first size, see linux/pidfd.h
	info := struct {
		mask, cgroup                uint64
		pid, tgid, ppid, ruid, rgid uint32
		_                           [6]uint32
		exit                        int32
	}{mask: infoExit}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), getInfo, uintptr(unsafe.Pointer(&info)))
	if e != 0 || info.mask&infoExit == 0 {
		return Unknown
	}
	return syscall.WaitStatus(info.exit)
}

// children lists our children, reaped or not: those of each thread
// (proc_tid_children(5)). It may miss some while others come and go.
func children() (pids []int) {
	for _, thread := range numbersIn("/proc/self/task") {
		text, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(thread) + "/children")
		if os.IsNotExist(err) && thread == os.Getpid() {
			return childrenByWalk()
		}
		for field := range bytes.FieldsSeq(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// childrenByWalk is for a kernel without CONFIG_PROC_CHILDREN.
func childrenByWalk() (pids []int) {
	for _, pid := range numbersIn("/proc") {
		if parentOf(pid) == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf reads proc_pid_stat(5). The name is in parentheses, and may hold any.
func parentOf(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// numbersIn lists the names in a directory that are numbers.
func numbersIn(dir string) (numbers []int) {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
