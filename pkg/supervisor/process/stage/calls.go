package stage

import (
	"syscall"
	"unsafe"
)

// Numbers and calls that package syscall lacks. All of them act on this thread.
const (
	sysPidfdOpen = 434 // the same on every port that we build for

	atFDCWD     = -100
	atEmptyPath = 0x1000

	prSetDumpable      = 4
	prCapAmbient       = 47
	capAmbientClearAll = 4
	keyctlJoinSession  = 1
	capVersion3        = 0x20080522
	pidfsMagic         = 0x50494446

	lastSignal = 64
)

// exit ends all threads, at once. os.Exit would run hooks, and in a build with
// the race detector sleep for a second.
func exit(status int) {
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(status), 0, 0)
	}
}

func write(fd int, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Write(fd, b); err != syscall.EINTR {
			return n, err
		}
	}
}

func open(path string, flags int) (fd int, err error) {
	for {
		if fd, err = syscall.Open(path, flags, 0); err != syscall.EINTR {
			return fd, err
		}
	}
}

func result(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func execveat(dir int, path string, argv, env []string, flags int) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	a, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	e, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	_, _, errno := syscall.RawSyscall6(sysExecveat, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&e[0])), uintptr(flags), 0)
	return result(errno)
}

func prctl(option, arg2, arg3 uintptr) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, arg2, arg3, 0, 0, 0)
	return result(errno)
}

func setgroups(groups []uint64) error {
	list := make([]uint32, len(groups)+1)
	for i, g := range groups {
		if g >= noID {
			return syscall.EINVAL
		}
		list[i] = uint32(g)
	}
	_, _, errno := syscall.RawSyscall(sysSetgroups, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0)
	return result(errno)
}

func getgroups() ([]uint32, error) {
	list := make([]uint32, 1<<16) // NGROUPS_MAX
	n, _, errno := syscall.RawSyscall(sysGetgroups, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])), 0)
	if errno != 0 {
		return nil, errno
	}
	return list[:n], nil
}

func getIDs(call uintptr) (r, e, s uint32, err error) {
	_, _, errno := syscall.RawSyscall(call, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&e)), uintptr(unsafe.Pointer(&s)))
	return r, e, s, result(errno)
}

type (
	capHeader struct {
		version uint32
		pid     int32
	}
	capData struct {
		_, _        uint32 // effective and permitted: what the kernel gave goes back
		inheritable uint32
	}
)

func capget() (data [2]capData, err error) {
	header := capHeader{version: capVersion3}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	return data, result(errno)
}

func capset(data [2]capData) error {
	header := capHeader{version: capVersion3}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	return result(errno)
}

// setLimit and getLimit are prlimit(2) on ourselves. syscall.Setrlimit will not
// do: it knows of the limit that the Go runtime has changed.
func setLimit(l Limit) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(l.Resource), uintptr(unsafe.Pointer(&l.Soft)), 0, 0, 0)
	return result(errno)
}

func getLimit(resource uint64, l *Limit) error {
	l.Resource = resource
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(resource), 0, uintptr(unsafe.Pointer(&l.Soft)), 0, 0)
	return result(errno)
}

type sigset [8]byte

func setSignalMask(set *sigset) error {
	const setMask = 2
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(set)), 0, uintptr(len(set)), 0, 0)
	return result(errno)
}

// defaultAction installs SIG_DFL: a struct sigaction of zeros, however a port
// lays it out.
func defaultAction(sig int) error {
	var action [64]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, uintptr(len(sigset{})), 0, 0)
	return result(errno)
}

// pidfdID is the inode number of our own pidfd, which names this process and no
// other while the machine is up. Before Linux 6.9 pidfds have none of their own.
func pidfdID() (id uint64, ok bool) {
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(syscall.Getpid()), 0, 0)
	if errno != 0 {
		return 0, false
	}
	defer syscall.Close(int(fd))
	var fs syscall.Statfs_t
	var st syscall.Stat_t
	if syscall.Fstatfs(int(fd), &fs) != nil || uint32(fs.Type) != pidfsMagic || syscall.Fstat(int(fd), &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

func decimal(n int64) string {
	if n < 0 {
		return "-" + decimal(-n)
	}
	digits := []byte{byte('0' + n%10)}
	for n /= 10; n > 0; n /= 10 {
		digits = append([]byte{byte('0' + n%10)}, digits...)
	}
	return string(digits)
}
