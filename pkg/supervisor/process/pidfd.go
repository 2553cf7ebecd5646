package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pidfd names a process for as long as it is open (pidfd_open(2)). One of newPidfd is
// in Go's poller, which parks the goroutine that waits for the process's end.
type pidfd struct {
	file *os.File
	conn syscall.RawConn
}

// newPidfd takes fd over. After an error the pidfd is good for all but to wait.
func newPidfd(fd int) (*pidfd, error) {
	err := unix.SetNonblock(fd, true) // or os.NewFile leaves the poller out
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, noFile := file.SyscallConn()
	err = errors.Join(err, noFile)
	if err == nil && file.SetReadDeadline(time.Time{}) != nil { // the poller did not take it
		err = errUnwatched
	}
	if err != nil {
		err = fmt.Errorf("cannot watch a process: %w", err)
	}
	return &pidfd{file, conn}, err
}

// holdPidfd takes fd over, for all but to wait.
func holdPidfd(fd int) *pidfd {
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, _ := file.SyscallConn() // which fails for no file alone
	return &pidfd{file, conn}
}

// errUnwatched is of a process whose end nobody would notice.
var errUnwatched = errors.New("the kernel watches no more files for us (fs.epoll.max_user_watches)")

// openPidfd returns os.ErrProcessDone if there is no such process. Who opens by
// number must look afterwards whether it is the right one.
func openPidfd(pid int) (*pidfd, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open process %d: %w", pid, err)
	}
	p, err := newPidfd(fd)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// discard ends a child that nobody watches.
func (p *pidfd) discard() {
	p.conn.Control(func(fd uintptr) { endChild(int(fd)) })
	p.close()
}

func endChild(pidfd int) {
	unix.SetNonblock(pidfd, false) // or waitid(2) does not wait
	unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	retry(func() (int, error) { return 0, unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil) })
}

func (p *pidfd) close() { p.file.Close() }

// ended parks until the process has ended, reaped or not.
func (p *pidfd) ended() error {
	return p.conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// hasEnded says whether the process has ended, reaped or not.
func (p *pidfd) hasEnded() (ended bool) {
	p.conn.Control(func(fd uintptr) { ended = endedNow(int(fd)) })
	return ended
}

// signal sends sig to the process, and SIGCONT after it where that belongs.
func (p *pidfd) signal(sig syscall.Signal) error { return p.sendAwake(sig, 0) }

// signalGroup does so to the process group that the process leads or led.
func (p *pidfd) signalGroup(sig syscall.Signal) error {
	return p.sendAwake(sig, unix.PIDFD_SIGNAL_PROCESS_GROUP)
}

func (p *pidfd) sendAwake(sig syscall.Signal, flags int) error {
	err := p.send(sig, flags)
	if err == nil && wakes(sig) {
		p.send(syscall.SIGCONT, flags)
	}
	return err
}

// wakes says whether SIGCONT follows a signal.
func wakes(sig syscall.Signal) bool {
	switch sig {
	case 0, syscall.SIGKILL, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		return false
	}
	return true
}

func (p *pidfd) send(sig syscall.Signal, flags int) error {
	var err error
	if e := p.conn.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, flags) }); e != nil {
		return os.ErrProcessDone // closed: it is gone
	}
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return err
}

// inode is the number that the process's pidfd has in pidfs, which no other
// process of this boot gets; 0 before Linux 6.9.
func (p *pidfd) inode() (ino uint64) {
	p.conn.Control(func(fd uintptr) { ino = inodeOf(int(fd)) })
	return ino
}

func inodeOf(pidfd int) uint64 {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(pidfd, &fs) != nil || uint32(fs.Type) != unix.PID_FS_MAGIC || unix.Fstat(pidfd, &st) != nil {
		return 0
	}
	return st.Ino
}

// childInfo is siginfo_t as waitid(2) fills it in.
type childInfo struct {
	signo, errno, code int32
	_                  [0]uintptr // the rest is aligned as a pointer is
	pid                int32
	uid                uint32
	detail             int32 // si_status
	_                  [128]byte
}

// What si_code says of an end (sigaction(2)).
const (
	exited = 1
	killed = 2
	dumped = 3
)

// status parks until our child has ended, and returns how. It reaps the child, or keeps
// it as a zombie for a later call to reap. Of one whom somebody else has reaped it is not
// seen.
func (p *pidfd) status(keep bool) (status syscall.WaitStatus, seen bool) {
	options := unix.WEXITED | unix.WNOHANG
	if keep {
		options |= unix.WNOWAIT
	}
	var info childInfo
	var failed error
	err := p.conn.Read(func(fd uintptr) bool {
		info = childInfo{}
		failed = unix.Waitid(unix.P_PIDFD, int(fd), (*unix.Siginfo)(unsafe.Pointer(&info)), options, nil)
		return failed != unix.EINTR && failed != unix.EAGAIN && (failed != nil || info.pid != 0)
	})
	if errors.Join(err, failed) != nil {
		return 0, false
	}
	return info.status()
}

// reap takes off a child that has ended.
func (p *pidfd) reap() {
	p.conn.Control(func(fd uintptr) {
		retry(func() (int, error) { return 0, unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG, nil) })
	})
}

// status is the same as wait(2) tells it.
func (c childInfo) status() (status syscall.WaitStatus, known bool) {
	const dumpedCore = 0x80
	switch c.code {
	case exited:
		return syscall.WaitStatus(c.detail&0xff) << 8, true
	case dumped:
		return syscall.WaitStatus(c.detail) | dumpedCore, true
	case killed:
		return syscall.WaitStatus(c.detail), true
	}
	return 0, false
}
