package stage

import "syscall"

// packFiles moves our own fds out of the way and the sockets down to 3, 4, …,
// where sd_listen_fds(3) wants them.
//
// The Go runtime may have fds of its own by now. They are close-on-exec, and must
// stay where they are. It got them after we came to be, so they are above all that
// we were given: no socket moves onto one.
func (s *stage) packFiles() (f Failure) {
	next := Control + 1
	count := len(s.task.Names)
	if s.task.Handover {
		count += 2
	}
	top := next + count
	if s.task.Pinned {
		if s.executable, f = moveUp(next, top+1); f.Errno != 0 {
			return f
		}
		next++
		top++
	}
	if s.control, f = moveUp(Control, top); f.Errno != 0 {
		return f
	}
	for i := range count {
		if err := syscall.Dup3(next+i, Control+i, 0); err != nil {
			return fail(err, "")
		}
	}
	return fail(closeInherited(Control+count), "")
}

// moveUp duplicates an fd to a free one from least on, close-on-exec.
func moveUp(fd, least int) (int, Failure) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, uintptr(least))
	if errno != 0 {
		return 0, fail(errno, "")
	}
	return int(n), Failure{}
}

// closeInherited closes what would go to the program besides what belongs to it:
// every fd from first on that is not close-on-exec. It does so before the user is
// set and the directory changed, so that neither can reach any of it.
func closeInherited(first int) error {
	fds, err := openFiles()
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if fd < first {
			continue
		}
		flags, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			syscall.Close(fd)
		}
	}
	return nil
}

// openFiles lists our fds; it may name one that it has used itself.
func openFiles() (fds []int, err error) {
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(dir)
	buf := make([]byte, 1<<14)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if n <= 0 || err != nil {
			return fds, err
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if fd, ok := number(name); ok {
				fds = append(fds, fd)
			}
		}
	}
}

func number(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, s != ""
}
