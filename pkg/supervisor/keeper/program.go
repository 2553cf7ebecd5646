package keeper

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// managerLine is the number of a manager's end of the line.
const managerLine = 3

// program is what makes a manager of a child: its files are our three, its end of the
// line, and supervisord. It has a session of its own, so that what is typed in our
// terminal comes to us alone.
func (k *keeper) program(s *start) *spawn.Program {
	b := spawn.NewBuilder(s.Child.Base, 0)
	first := uintptr(s.First())
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
	if !k.lowered {
		return
	}
	const fd = 1 // a slot
	done := new(spawn.Place)
	text := strconv.Itoa(k.score)
	b.Call(unix.SYS_OPENAT, atFDCWD, b.Text(scoreFile), unix.O_WRONLY|unix.O_CLOEXEC).Keep(fd).AllowAny().Else(done)
	b.Call(unix.SYS_WRITE, fd, b.Text(text), uintptr(len(text))).Take(0).AllowAny()
	b.Call(unix.SYS_CLOSE, fd).Take(0).AllowAny()
	b.Here(done)
}

const atFDCWD = ^uintptr(99) // -100
