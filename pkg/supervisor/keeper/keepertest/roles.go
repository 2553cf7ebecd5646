package keepertest

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
)

const (
	roleVariable   = "KEEPERTEST"          // the socket where puppets go; set: this process is a keeper, or its manager
	timesVariable  = "KEEPERTEST_TIMES"    // keeper.Times
	filesVariable  = "KEEPERTEST_NOFILE"   // RLIMIT_NOFILE
	listenVariable = "KEEPERTEST_LISTEN"   // set: the files are for us
	coverVariable  = "KEEPERTEST_VARIABLE" // keeper.Options.Variables
)

// An executed test binary has its role from its name and environment. What the keeper's
// children execute is no test binary, or has another name.
func init() {
	name, ok := os.LookupEnv(roleVariable)
	switch {
	case !ok:
	case os.Args[0] == keeper.ManagerName:
		os.Exit(bePuppet(name))
	case len(os.Args) == 1:
		os.Exit(beKeeper())
	}
}

func beKeeper() int {
	var o keeper.Options
	fmt.Sscan(os.Getenv(timesVariable), &o.Times.Patience, &o.Times.Pong, &o.Times.Ping)
	if n, err := strconv.ParseUint(os.Getenv(filesVariable), 10, 32); err == nil {
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
	}
	if os.Getenv(listenVariable) != "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	o.Variables = os.Getenv(coverVariable) != ""
	return keeper.Run(o)
}

// bePuppet passes the line on, and ends when it is told to, or the keeper is gone. If the
// test is gone, so is the keeper.
func bePuppet(name string) int {
	line, err := keeper.Line()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keepertest:", err)
		return 2
	}
	parent, err := parentPidfd()
	if err != nil { // it is gone
		return 0
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err == nil {
		_, _, err = conn.WriteMsgUnix([]byte(strconv.Itoa(os.Getpid())), unix.UnixRights(line), nil)
	}
	if err != nil {
		unix.PidfdSendSignal(parent, unix.SIGKILL, nil, 0)
		return 3
	}
	go func() {
		p := []unix.PollFd{{Fd: int32(line)}}
		for p[0].Revents&unix.POLLHUP == 0 {
			unix.Poll(p, -1)
		}
		os.Exit(0)
	}()
	order := make([]byte, 16)
	n, err := conn.Read(order)
	if err != nil || n == 0 {
		unix.PidfdSendSignal(parent, unix.SIGKILL, nil, 0)
		return 3
	}
	status, _ := strconv.Atoi(string(order[:n]))
	return status
}

// parentPidfd is a pidfd of our parent. Later there may be another one: orphans go to the next
// subreaper, which may be the test.
func parentPidfd() (pidfd int, err error) {
	pid := os.Getppid()
	if pidfd, err = unix.PidfdOpen(pid, 0); err == nil && os.Getppid() != pid {
		err = unix.ESRCH
	}
	return pidfd, err
}
