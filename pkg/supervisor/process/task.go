package process

import (
	"cmp"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/stage"
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

	Output     int         // fd for stdout and stderr, borrowed; negative: /dev/null
	Executable *Executable // what to run; nil: the file at the program's path. Borrowed
}

// A File is a socket that a program gets, and its name for $LISTEN_FDNAMES.
type File struct {
	FD   int
	Name string
}

// order is a task as the stage takes it.
func (t *Task) order(path string, pinned bool) (*stage.Task, error) {
	p, a := t.Program, t.Account
	to := &stage.Task{
		Path: path, Pinned: pinned, Argv: p.Argv, Dir: cmp.Or(p.Dir, "/"),
		Protocol: t.Env, Watchdog: uint64(t.Watchdog / time.Microsecond),
		SetIDs: a.Set, UID: uint64(a.UID), GID: uint64(a.GID), Umask: uint64(p.Umask),
	}
	if len(p.Argv) == 0 {
		return nil, startError(stage.Exec, syscall.EINVAL, path, "exec_start is empty")
	}
	for _, g := range a.Groups {
		to.Groups = append(to.Groups, uint64(g))
	}
	for _, f := range t.Sockets {
		to.Names = append(to.Names, f.Name)
	}
	to.Handover = t.Handover != nil
	for _, l := range p.Limits {
		to.Limits = append(to.Limits, stage.Limit{Resource: uint64(l.Resource), Soft: l.Soft, Hard: l.Hard})
	}
	to.SetNice, to.Nice = value(p.Nice)
	to.SetOOM, to.OOM = value(p.OOMScoreAdj)
	to.Defaults = os.Getpid() != 1
	if err := setEnvironment(to, p, a, fixedBase(), os.Environ()); err != nil {
		return nil, err
	}
	return to, nil
}

func value(p *int) (set bool, v int64) {
	if p == nil {
		return false, 0
	}
	return true, int64(*p)
}

func decimal(n int) string { return strconv.Itoa(n) }

// explain puts the task's own words in the place of the stage's numbers.
func (t *Task) explain(f stage.Failure) *StartError {
	e := startError(f.Step, f.Errno, f.Detail, "")
	switch f.Step {
	case stage.User:
		e.Detail = cmp.Or(t.Program.User, f.Detail)
	case stage.Group:
		e.Detail = cmp.Or(t.Program.Group, t.Program.User, f.Detail)
	case stage.Limits:
		for _, l := range t.Program.Limits {
			if f.Detail == "resource "+decimal(l.Resource) {
				e.Detail = limitNames[l.Resource]
			}
		}
	}
	return e
}

// warnings puts a stage's warnings into words.
func (t *Task) warnings(of []stage.Warning) (words []string) {
	for _, w := range of {
		words = append(words, warning(w))
	}
	return words
}

// warningKeys are what the configuration calls what a warning is about.
var warningKeys = map[stage.Step]string{
	stage.OOMAdjust: "oom_score_adj", stage.Nice: "nice", stage.Scheduler: "the scheduling policy",
}

func warning(w stage.Warning) string {
	got, key := strconv.FormatInt(int64(w.Got), 10), warningKeys[w.Step]
	switch {
	case w.Step == stage.Limits:
		return limitNames[int(w.Resource)] + ": asked " + limitText(w.Soft, w.Hard) + ", the hard limit is " + limitText(w.Got, w.Got)
	case w.Default:
		return key + ": it stays at " + got + " as supervisord has it: cannot set it to 0: " + w.Errno.Error()
	}
	return key + ": asked " + strconv.FormatInt(int64(w.Soft), 10) + ", it stays at " + got + ": " + w.Errno.Error()
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
