package process

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A StartError says why a program could not be started. Nothing is left of it.
type StartError struct {
	Step   string        // what could not be done: "exec", "chdir", "user", …
	Errno  syscall.Errno // why; 0: Detail says it in full
	Detail string        // what it was done to: a path, a user, FILE:LINE
	Status int           // the status that systemd has for the step (200 to 245, 255); 0: none was started

	Advice string // what to do about it, where only who made the error can tell

	hint string
}

func (e *StartError) Error() string {
	if e.Errno == 0 {
		return e.Detail
	}
	action := cmp.Or(steps[step(e.Step)].action, "do step "+e.Step+" for")
	return fmt.Sprintf("cannot %s: %s", strings.TrimSpace(action+" "+e.Detail), e.Cause())
}

// Cause is the error number in words that fit the step.
func (e *StartError) Cause() string {
	switch {
	case step(e.Step) == stepEnvironment && e.Errno == syscall.EBADMSG:
		return "the line is not KEY=VALUE, or has a quote that is never closed"
	case step(e.Step) == stepEnvironment && e.Errno == syscall.EINVAL:
		return "it is not a regular file"
	case step(e.Step) == stepEnvironment && e.Errno == syscall.EFBIG:
		return fmt.Sprintf("it is larger than %d bytes", maxFile)
	case step(e.Step) == stepEnvironment && e.Errno == syscall.EISDIR:
		return "it is not a regular file"
	case step(e.Step) == stepSpawn && e.Errno == syscall.EPIPE:
		return "superv-template, which would fork it, was killed twice"
	case step(e.Step) == stepSpawn && e.Errno == syscall.ETIMEDOUT:
		return "superv-template, which would fork it, does not answer"
	case step(e.Step) == stepStart && e.Errno == syscall.ETIMEDOUT:
		return "it took too long"
	case step(e.Step) == stepStart && e.Errno == syscall.EBADMSG:
		return "its process answered what it was not asked"
	}
	return e.Errno.Error()
}

// Unwrap is the error number, if there is one.
func (e *StartError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Exit is the same as an end of the process.
func (e *StartError) Exit() unit.Exit {
	return unit.Exit{Kind: unit.NotRun, Code: e.Status, Step: e.Step, Errno: e.Errno, Detail: e.Detail, Hint: e.Hint()}
}

// NotRun is the error that an end stands for which [StartError.Exit] made.
func NotRun(e unit.Exit) *StartError {
	return &StartError{Step: e.Step, Errno: e.Errno, Detail: e.Detail, Status: e.Code, Advice: e.Hint}
}

// Hint says what to do about it, or nothing. It asks no disk.
func (e *StartError) Hint() string {
	if e.hint != "" || e.Advice != "" {
		return cmp.Or(e.hint, e.Advice)
	}
	switch step(e.Step) {
	case stepExec:
		return e.execHint()
	case stepUser, stepGroup:
		if e.Errno == syscall.EPERM {
			return "only root may run programs as another user"
		}
	case stepLimits, stepNice:
		if e.Errno == syscall.EPERM || e.Errno == syscall.EACCES {
			return "supervisord may not raise it that far"
		}
	case stepStart:
		if e.Errno == syscall.EBADMSG {
			return "its user interferes with it, as fs.suid_dumpable=1 allows: set that to 0 or 2 (sysctl)"
		}
	case stepSpawn, stepCgroup:
		return cmp.Or(Shortage(e.Errno), e.templateHint())
	}
	return ""
}

// HintOf is what to do about an error: what it says itself, or what its cause calls
// for; "" where nobody knows.
func HintOf(err error) string {
	var e interface {
		error
		Hint() string
	}
	if errors.As(err, &e) && e.Hint() != "" {
		return e.Hint()
	}
	return Shortage(err)
}

// Shortage says what to do about an error that has its cause in too little of
// something that supervisord shares with all; "" for other errors.
func Shortage(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "supervisord has as many open files as it may: raise its limit (LimitNOFILE= under systemd, else ulimit -n)"
	case errors.Is(err, syscall.ENFILE):
		return "the machine has as many open files as it may: raise fs.file-max (sysctl)"
	case errors.Is(err, syscall.EAGAIN):
		return "there are as many processes or cgroups as there may be: TasksMax= under systemd, ulimit -u, kernel.pid_max, cgroup.max.descendants"
	case errors.Is(err, syscall.ENOMEM):
		return "the machine, or supervisord's cgroup, has no memory left"
	}
	return ""
}

// templateHint is about the process that forks others.
func (e *StartError) templateHint() string {
	switch {
	case step(e.Step) != stepSpawn:
	case e.Errno == syscall.EPIPE:
		return "see who kills supervisord's child superv-template: the kernel does so when memory runs out (dmesg)"
	case e.Errno == syscall.ETIMEDOUT:
		return "see who stops supervisord's child superv-template, or whether its cgroup is frozen or the machine overloaded"
	}
	return ""
}

func (e *StartError) execHint() string {
	switch e.Errno {
	case syscall.ETXTBSY:
		return "the file is open for writing; replace it by renaming, as install(1) and go build -o do, not by cp"
	case syscall.EAGAIN:
		return "the user has too many processes (limit_nproc)"
	case syscall.E2BIG:
		return "one argument or variable may have 128 KiB, all together a quarter of limit_stack (2 MiB by default)"
	}
	return ""
}

// look is the hint of an error that the kernel gave at execve(2): what is to be
// seen of the file now.
func (e *StartError) look() string {
	switch {
	case step(e.Step) != stepExec:
	case e.Errno == syscall.EACCES:
		return cmp.Or(e.hint, denied(e.Detail))
	case e.Errno == syscall.ENOENT, e.Errno == syscall.ENOEXEC:
		return e.lookInside()
	}
	return e.hint
}

// denied is about a file that may not be executed.
func denied(path string) string {
	var fs unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Statfs(path, &fs) }); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return "its file system is mounted noexec"
	}
	return "its user may not execute it or the interpreter that it names, or not enter a directory above: namei -l " + path
}

func (e *StartError) lookInside() string {
	var again *StartError
	if errors.As(inspectPath(e.Detail), &again) && again.hint != "" {
		return again.hint
	}
	if e.Errno == syscall.ENOENT && again == nil {
		return "the file is there, but not the loader that it names: was it linked for another system?"
	}
	return e.hint
}

// errnoOf finds the error number in err; EIO stands for one without.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
