package stage

import "syscall"

// adjustOOM ignores a refusal, as systemd does: in a container without
// CAP_SYS_RESOURCE the value cannot be lowered. It comes before dumpable is
// cleared, after which the file is root's.
func (s *stage) adjustOOM() Failure {
	var err error
	if s.task.SetOOM {
		err = writeFile("/proc/self/oom_score_adj", decimal(s.task.OOM))
	}
	prctl(prSetDumpable, 0, 0) // our memory is nobody's business; execve sets it anew
	if err == syscall.EACCES || err == syscall.EPERM {
		err = nil
	}
	return fail(err, decimal(s.task.OOM))
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

// setNice also sets the umask, which cannot fail.
func (s *stage) setNice() Failure {
	syscall.Umask(int(s.task.Umask))
	if !s.task.SetNice {
		return Failure{}
	}
	return fail(syscall.Setpriority(syscall.PRIO_PROCESS, 0, int(s.task.Nice)), decimal(s.task.Nice))
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
