package stage

import (
	"syscall"
	"unsafe"
)

// What a program has that its task gives no value for does not come from whoever
// started supervisord: nice and an oom score that supervisord was given are for
// supervisord. It gets what the machine's first process has: nice 0, the ordinary
// scheduler, no io class, oom_score_adj 0, no core dumps before it asks for them.
// What may not be set back stays, and is warned of.
//
// Other limits, the processors and the io of the machine it may use, and all
// that PID 1 of a container has, are meant for those below.

// adjustOOM ignores a refusal, as systemd does: in a container without
// CAP_SYS_RESOURCE the value cannot be lowered. It comes before dumpable is
// cleared, after which the file is root's.
func (s *stage) adjustOOM() Failure {
	const path = "/proc/self/oom_score_adj"
	asked, set := s.task.OOM, s.task.SetOOM
	var now int64
	if !set && s.task.Defaults {
		now, set = readNumber(path), true
		// An ordinary user may not lower it, and has it from a session that means it so.
		if asked = 0; now == 0 || now > 0 && syscall.Geteuid() != 0 {
			set = false
		}
	}
	var err error
	if set {
		err = writeFile(path, decimal(asked))
	}
	if err == syscall.EACCES || err == syscall.EPERM {
		s.warn(Warning{Step: OOMAdjust, Default: !s.task.SetOOM, Soft: uint64(asked), Got: uint64(readNumber(path)), Errno: err.(syscall.Errno)})
		err = nil
	}
	prctl(prSetDumpable, 0, 0) // our memory is nobody's business; execve sets it anew
	return fail(err, decimal(asked))
}

// readNumber is what a file of /proc says; 0 if that is no number.
func readNumber(path string) (n int64) {
	fd, err := open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOCTTY)
	if err != nil {
		return 0
	}
	defer syscall.Close(fd)
	var text [16]byte
	size, _ := syscall.Read(fd, text[:])
	sign := int64(1)
	for i := range max(size, 0) {
		switch c := text[i]; {
		case i == 0 && c == '-':
			sign = -1
		case '0' <= c && c <= '9':
			n = 10*n + int64(c-'0')
		}
	}
	return sign * n
}

func writeFile(path, text string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = write(fd, []byte(text))
	return err
}

// setNice also sets the umask, which cannot fail, the scheduler and the io class.
func (s *stage) setNice() Failure {
	syscall.Umask(int(s.task.Umask))
	if s.task.Defaults {
		s.setScheduler()
	}
	if s.task.SetNice {
		return fail(setNice(s.task.Nice), decimal(s.task.Nice))
	}
	if now := nice(); s.task.Defaults && now != 0 {
		if err := setNice(0); err != nil {
			s.warn(Warning{Step: Nice, Default: true, Got: uint64(now), Errno: err.(syscall.Errno)})
		}
	}
	return Failure{}
}

// nice is this thread's value. The kernel counts from 40 down to 1.
func nice() int64 {
	n, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - int64(n)
}

func setNice(n int64) error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, int(n)) }

// setScheduler makes this thread one that the ordinary scheduler runs, and has
// the kernel derive its io priority from its nice value. Leaving a real-time
// policy or class is always allowed; a kernel without io priorities has none to
// set back.
func (s *stage) setScheduler() {
	const (
		resetOnFork = 0x40000000
		processes   = 1 // IOPRIO_WHO_PROCESS: this thread
	)
	policy, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if errno == 0 && policy&^resetOnFork != 0 {
		var priority int32
		if _, _, errno = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, 0, uintptr(unsafe.Pointer(&priority))); errno != 0 {
			s.warn(Warning{Step: Scheduler, Default: true, Got: uint64(policy), Errno: errno})
		}
	}
	syscall.RawSyscall(syscall.SYS_IOPRIO_SET, processes, 0, 0)
}

// joinKeyring gives the program a session keyring of its own: that of
// supervisord's session may hold root's keys, and stays readable after setuid.
// It comes before the user is set, since an ordinary user's quota of keys is
// small. A kernel or a container without keys has none to protect.
func (s *stage) joinKeyring() Failure {
	_, _, errno := syscall.RawSyscall(syscall.SYS_KEYCTL, keyctlJoinSession, 0, 0)
	switch errno {
	case 0, syscall.ENOSYS, syscall.EPERM, syscall.EACCES:
		return Failure{}
	case syscall.EDQUOT:
		if !s.task.SetIDs { // the keys are the program's own user's
			return Failure{}
		}
	}
	return fail(errno, "")
}

// resetSignals gives the program what a fresh login would have: nothing
// blocked, nothing ignored. The Go runtime does without its handlers from here on.
func (s *stage) resetSignals() Failure {
	var none sigset
	if err := setSignalMask(&none); err != nil {
		return fail(err, "")
	}
	for sig := 1; sig <= lastSignal; sig++ {
		if sig != int(syscall.SIGKILL) && sig != int(syscall.SIGSTOP) {
			defaultAction(sig) // EINVAL for a number that this kernel does not have
		}
	}
	return Failure{}
}
