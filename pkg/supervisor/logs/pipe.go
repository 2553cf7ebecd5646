package logs

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// roomy is the capacity of a pipe where we may choose it, so that a worker can
// go on for longer while no supervisord reads.
const roomy = 1 << 20

// pipe makes a pipe that a worker can write to also when supervisord is dead.
// Its write end is open for reading as well, so there always is a reader: no
// SIGPIPE, and what was written waits for the next supervisord.
//
// The read end does not block; the write end does, as programs expect of
// stdout. Both are separate open file descriptions.
func pipe(uid, gid int) (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return -1, -1, err
	}
	defer unix.Close(p[1])
	w, err = unix.Open("/proc/self/fd/"+strconv.Itoa(p[1]), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(p[0])
		return -1, -1, err
	}
	if uid != os.Geteuid() && uid >= 0 || gid != os.Getegid() && gid >= 0 {
		err = unix.Fchown(w, uid, gid)
	}
	if err != nil {
		unix.Close(p[0])
		unix.Close(w)
		return -1, -1, err
	}
	if mayEnlarge() {
		unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, roomy) // if not, 64 kB do
	}
	return p[0], w, nil
}

// mayEnlarge: without CAP_SYS_RESOURCE large pipes count against a limit of the
// user, above which every new pipe of his is small (pipe(7), pipe-user-pages-soft).
func mayEnlarge() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
