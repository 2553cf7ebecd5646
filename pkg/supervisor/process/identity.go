package process

import (
	"os"
	"strings"
	"sync"
)

// An Identity tells one process from all others, also from one that has its
// number later. It is stored, and outlives supervisord.
type Identity struct {
	PID        int
	StartTime  uint64 // proc_pid_stat(5), field 22: clock ticks since boot
	BootID     string // proc_sys_kernel(5), random/boot_id
	PidfdInode uint64 `json:",omitempty"` // 0: before Linux 6.9
	UID        uint32 // of the program
	Cgroup     string `json:",omitempty"` // the invocation's own, as /proc/PID/cgroup has it; empty: it has none
}

// Alive says whether that very process is alive (a zombie is not).
func (i Identity) Alive() bool {
	if i.PID <= 1 || i.BootID != bootID() {
		return false
	}
	p, err := openPidfd(i.PID)
	if err != nil {
		return false
	}
	defer p.close()
	if ino := p.inode(); i.PidfdInode != 0 && ino != 0 && ino != i.PidfdInode {
		return false
	}
	// Read after the pidfd was opened: if the number has changed hands since, its
	// start time has as well.
	s, err := readStat(i.PID)
	return err == nil && s.start == i.StartTime && s.alive()
}

var bootID = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // no identity equals another boot's
	}
	return strings.TrimSpace(string(text))
})

func identify(pid int, inode uint64, uid uint32, cgroup string) (Identity, error) {
	s, err := readStat(pid)
	return Identity{
		PID: pid, StartTime: s.start, BootID: bootID(), PidfdInode: inode, UID: uid, Cgroup: cgroup,
	}, err
}
