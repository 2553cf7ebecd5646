package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// managerLine is the number of a manager's end of the line.
const managerLine = 3

// exitExec is the exit status of a manager that could not be executed (systemd.exec(5),
// EXIT_EXEC).
const exitExec = 203

// program is what makes a manager of a child: its files are our three, its end of the
// line, and supervisord. It has a session of its own, so that what is typed in our
// terminal comes to us alone.
func (k *keeper) program(s *start) *spawn.Program {
	b := spawn.NewBuilder(s.Child.Base, 0)
	first := uintptr(s.First())
	b.Label(spawn.Label{Status: exitExec})
	for fd := range uintptr(managerLine) {
		b.Call(unix.SYS_DUP3, first+fd, fd, 0)
	}
	b.Call(unix.SYS_DUP3, first+managerLine, managerLine, 0)
	k.setLimits(b)
	argv := append([]string{ManagerName}, k.Args...)
	path, args, env := b.Text(""), b.Texts(argv), b.Texts(k.env)
	b.AnswerValue(spawn.Exec, 0)
	b.Call(unix.SYS_EXECVEAT, first+managerLine+1, path, args, env, unix.AT_EMPTY_PATH)
	return b.Program()
}

// setLimits gives it what we were started with. What cannot be set stays.
func (k *keeper) setLimits(b *spawn.Builder) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && k.limit > 0 {
		b.Call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, b.Words(k.limit, limit.Max), 0).AllowAny()
	}
}
