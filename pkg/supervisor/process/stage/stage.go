// Package stage is the first life of every process that supervisord starts: our
// own binary, which becomes the service's program.
//
// supervisord starts itself under the name [Name], with no variable of its own
// environment and one end of a socket pair as fd 3, and this package's init takes
// over before anything else of the program runs. Nothing happens until a [Task] has come
// over the pair; the whole of it is the order to go. Then the stage makes itself
// into what the task describes and executes the program. That it cannot is
// reported over the pair; that it could shows as the end of the pair, which
// closes on execve. When supervisord is gone before the task has come, so is the
// stage: no second copy of a service is ever started by one that died.
//
// All that must happen inside the process happens here: the process ids for
// $LISTEN_PID and its like, user and group (a process with a service's user id
// that still shares supervisord's memory could be frozen by that user, and
// supervisord with it), limits, environment files that root must not read.
//
// It imports os and syscall alone (and unsafe, for the calls that syscall lacks),
// so that it is initialized early and the rest of the program has no say in it.
// The thread of init is locked and is the one that executes the program:
// everything that is per thread is done on it alone.
package stage

import (
	"os"
	"syscall"
)

// Name is argv[0] of a stage, its only argument.
const Name = "supervisord-stage"

// Control is the stage's end of the socket pair: a stream, which the stage's
// parent made. Above it come the pinned executable, if there is one, and the
// sockets in their order.
const Control = 3

func init() {
	if len(os.Args) == 1 && os.Args[0] == Name {
		run()
	}
}

// run does not return.
func run() {
	kind, err := syscall.GetsockoptInt(Control, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil || kind != syscall.SOCK_STREAM {
		syscall.Write(2, []byte(Name+": only supervisord starts this\n"))
		exit(2)
	}
	if !fromParent(Control) {
		exit(0) // supervisord is gone, and so is the order to go on
	}
	task, err := receive(Control)
	if err != nil {
		exit(0)
	}
	s := stage{task: task, control: Control}
	f := s.become()
	report(s.control, f)
	exit(f.Step.Status())
}

// fromParent says whether fd is a socket of a pair that our parent made.
func fromParent(fd int) bool {
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	return err == nil && int(peer.Pid) == syscall.Getppid() && int(peer.Uid) == syscall.Getuid()
}

// A stage on its way to be a program.
type stage struct {
	task       Task
	control    int // our end of the pair
	executable int // what to run, if the task says that it is pinned
	env        []string
}

// become makes the stage into the program and returns only if it cannot. The
// order is systemd's: what needs privileges, then the user, then what must be
// done with that user's rights.
func (s *stage) become() Failure {
	for _, step := range []struct {
		name Step
		do   func(*stage) Failure
	}{
		{Fds, (*stage).packFiles},
		{OOMAdjust, (*stage).adjustOOM},
		{Nice, (*stage).setNice},
		{Keyring, (*stage).joinKeyring},
		{Limits, (*stage).setLimits},
		{Group, (*stage).setGroups},
		{User, (*stage).setUser},
		{Capabilities, (*stage).dropCapabilities},
		{Chdir, (*stage).changeDirectory},
		{Environment, (*stage).readEnvironment},
		{Limits, (*stage).setMemoryLimits},
		{Signals, (*stage).resetSignals},
		{Exec, (*stage).execute},
	} {
		if f := step.do(s); f.Errno != 0 {
			f.Step = step.name
			return f
		}
	}
	return Failure{} // not reached: execute returns only with an error
}

// fail is a Failure if err is not nil; its step is known to become.
func fail(err error, detail string) Failure {
	if err == nil {
		return Failure{}
	}
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EIO
	}
	return Failure{Errno: errno, Detail: detail}
}

func (s *stage) changeDirectory() Failure {
	return fail(syscall.Chdir(s.task.Dir), s.task.Dir)
}

// execute sends the mark that tells "it ran" from "it died before it could", and
// runs the program: the pinned file, or what is at the path now.
//
// A pinned file that is still at its path is executed by that path. Executed by
// an fd, a program is called in ps, top and pgrep after the fd ("8") before
// Linux 6.14, and after the target of a symbolic link since (redis-server would
// be redis-check-rdb). A file that comes to the path between the look and the
// execve is run in its stead; that is the file that a start just after it runs.
func (s *stage) execute() Failure {
	if _, err := write(s.control, []byte{markExec}); err != nil {
		exit(0)
	}
	var err error
	if !s.task.Pinned || s.isAtPath() {
		err = execveat(atFDCWD, s.task.Path, s.task.Argv, s.env, 0)
	}
	if s.task.Pinned {
		err = execveat(s.executable, "", s.task.Argv, s.env, atEmptyPath)
	}
	return fail(err, s.task.Path)
}

// isAtPath says whether the pinned file is what the user finds at its path.
func (s *stage) isAtPath() bool {
	var pinned, there syscall.Stat_t
	return syscall.Fstat(s.executable, &pinned) == nil && syscall.Stat(s.task.Path, &there) == nil &&
		pinned.Dev == there.Dev && pinned.Ino == there.Ino
}
