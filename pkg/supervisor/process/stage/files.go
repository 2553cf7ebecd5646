package stage

import "syscall"

// packFiles moves the sockets to 3, 4, …, where sd_listen_fds(3) wants them,
// with our own two behind them, and closes all else. Each fd first moves out of
// the way, above every place that another will take.
func (s *stage) packFiles() Failure {
	n := len(s.sockets)
	if s.task.Pinned {
		n--
	}
	if n != len(s.task.Names) {
		return fail(syscall.EBADMSG, "")
	}
	order := append(s.sockets, s.control)
	if s.task.Pinned { // came first, goes last
		order = append(order[1:], order[0])
	}
	top := Control + len(order)
	for i, fd := range order {
		high, err := duplicateAbove(fd, top)
		if err != nil {
			return fail(err, "")
		}
		order[i] = high
	}
	for i, fd := range order {
		flags := 0
		if i >= n {
			flags = syscall.O_CLOEXEC
		}
		if err := syscall.Dup3(fd, Control+i, flags); err != nil {
			return fail(err, "")
		}
	}
	s.control, s.executable = Control+n, Control+n+1
	return fail(closeFrom(top), "")
}

func duplicateAbove(fd, least int) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, uintptr(least))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// closeFrom closes every fd from first on: what belongs to the program is below.
func closeFrom(first int) error {
	_, _, errno := syscall.RawSyscall(sysCloseRange, uintptr(first), uintptr(^uint32(0)), 0)
	if errno == 0 {
		return nil
	}
	// Before Linux 5.9, or forbidden by a filter: by hand.
	fds, err := openFiles()
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if fd >= first {
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
