package process

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Task is one program to start.
type Task struct {
	ID       unit.Invocation
	Service  string // names its cgroup
	Instance int
	Program  *unit.Program
	Account  Account
	Env      []string      // the protocol's: NOTIFY_SOCKET=…, INVOCATION_ID=…
	Watchdog time.Duration // 0: none
	Sockets  []File        // in the order of $LISTEN_FDS; borrowed until Launch returns
	Handover *[2]int       // $SUPERVISORD_HANDOVER: fds to receive from and to send to; borrowed. nil: none

	Keys map[int]string // of those files that a Parent that lasts has as well: what it knows them by

	Output     int         // fd for stdout and stderr, borrowed; negative: /dev/null
	Executable *Executable // what to run; nil: the file at the program's path. Borrowed
}

// A File is a socket that a program gets, and its name for $LISTEN_FDNAMES.
type File struct {
	FD   int
	Name string
}

func (t *Task) name() Name { return Name{t.Service, t.ID} }

// order is what is to be started, by a path or a file that was found. first says that our
// services are children of a container's first process.
func (t *Task) order(path string, first bool) (*order, error) {
	p, a := t.Program, t.Account
	if len(p.Argv) == 0 {
		return nil, stepExec.failed(syscall.EINVAL, path, "exec_start is empty")
	}
	to := &order{
		path: path, argv: p.Argv, dir: cmp.Or(p.Dir, "/"),
		protocol: t.Env, handover: t.Handover != nil, watchdog: uint64(t.Watchdog / time.Microsecond),
		setIDs: a.Set, uid: a.UID, gid: a.GID, groups: a.Groups, umask: uint64(p.Umask),
		user:  cmp.Or(p.User, strconv.FormatUint(uint64(a.UID), 10)),
		group: cmp.Or(p.Group, p.User, strconv.FormatUint(uint64(a.GID), 10)),
		nice:  p.Nice, oom: p.OOMScoreAdj, defaults: !first,
	}
	for _, f := range t.Sockets {
		to.names = append(to.names, f.Name)
	}
	for _, l := range p.Limits {
		to.limits = append(to.limits, rlimit{l.Resource, l.Soft, l.Hard})
	}
	if err := setEnvironment(to, p, a, os.Geteuid() == 0 && !first, os.Environ()); err != nil {
		return nil, err
	}
	if to.tooLong() {
		return nil, stepExec.failed(syscall.E2BIG, path, fmt.Sprintf(
			"arguments, environment and environment files are too long: together they may have %d bytes", longest))
	}
	return to, nil
}

func decimal(n int) string { return strconv.Itoa(n) }

// stays is the warning of what a program gets otherwise than it should; whether
// nobody asked for it.
func stays(key string, asked int, byDefault bool, got string, why syscall.Errno) string {
	if byDefault {
		return key + ": it stays at " + got + " as supervisord has it: cannot set it to 0: " + why.Error()
	}
	return key + ": asked " + decimal(asked) + ", it stays at " + got + ": " + why.Error()
}

// limitText is a limit as the configuration has it.
func limitText(soft, hard uint64) string {
	number := func(n uint64) string {
		if n == 1<<64-1 {
			return "infinity"
		}
		return strconv.FormatUint(n, 10)
	}
	if soft == hard {
		return number(soft)
	}
	return number(soft) + ":" + number(hard)
}

// limitNames are the keys of the limits.
var limitNames = map[int]string{
	unix.RLIMIT_AS: "limit_as", unix.RLIMIT_CORE: "limit_core", unix.RLIMIT_CPU: "limit_cpu",
	unix.RLIMIT_DATA: "limit_data", unix.RLIMIT_FSIZE: "limit_fsize", unix.RLIMIT_LOCKS: "limit_locks",
	unix.RLIMIT_MEMLOCK: "limit_memlock", unix.RLIMIT_MSGQUEUE: "limit_msgqueue", unix.RLIMIT_NICE: "limit_nice",
	unix.RLIMIT_NOFILE: "limit_nofile", unix.RLIMIT_NPROC: "limit_nproc", unix.RLIMIT_RSS: "limit_rss",
	unix.RLIMIT_RTPRIO: "limit_rtprio", unix.RLIMIT_RTTIME: "limit_rttime",
	unix.RLIMIT_SIGPENDING: "limit_sigpending", unix.RLIMIT_STACK: "limit_stack",
}
