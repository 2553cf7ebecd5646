package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

func (g given) template() (w way, err error) {
	executable, err := unix.Open(g.program, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return w, err
	}
	t, err := spawn.New(spawn.Options{Null: g.null})
	if err != nil {
		return w, err
	}
	template := t.PID()
	s := &spawner{given: g, template: t, files: []int{g.null, executable, g.sockets[0], g.sockets[1]}}
	return way{start: s.start, template: template, close: func() { t.Close(); wait(template) }}, nil
}

type spawner struct {
	given
	files []int

	mu       sync.Mutex // for the template
	template *spawn.Template
}

func (s *spawner) start() (took time.Duration, err error) {
	begin := time.Now()
	r := spawn.Request{Cgroup: -1, Files: s.files}
	s.mu.Lock()
	s.template.Fork(&r)
	s.mu.Unlock()
	if r.Err != nil {
		return 0, r.Err
	}
	err = s.converse(&r)
	took = time.Since(begin)
	unix.Close(r.Child.Control)
	if waitErr := wait(r.Child.PID); err == nil {
		err = waitErr
	}
	return took, err
}

// converse returns at the end of the control pair, which is when the program runs.
func (s *spawner) converse(r *spawn.Request) error {
	control := r.Child.Control
	if err := unix.SetNonblock(control, false); err != nil {
		return err
	}
	if f, ok, err := spawn.Hear(control); err != nil || !ok || f.Kind != spawn.Born {
		return fmt.Errorf("a child was not born: %+v, %w", f, err)
	}
	program := s.program(r)
	if err := spawn.Tell(control, program); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	for last := (spawn.Frame{}); ; {
		f, ok, err := spawn.Hear(control)
		switch {
		case err != nil:
			return err
		case !ok && last.Kind == spawn.Exec:
			return nil
		case !ok:
			return fmt.Errorf("a child ended before it was a program")
		case f.Kind == spawn.Failed:
			return fmt.Errorf("cannot %s: %w", program.Label(f.Index).Step, syscall.Errno(f.Errno))
		}
		last = f
	}
}

// Where a child has its files when it begins, and where it puts two of them. From
// firstSocket on it passes sockets on (sd_listen_fds(3)).
const (
	output = iota // from Request.First on
	executable
	socket0
	socket1
	files

	firstSocket = 3
	slot        = 1
)

// program is as much as a start of a service: files, priority, limits, capabilities.
func (s *spawner) program(r *spawn.Request) *spawn.Program {
	b := spawn.NewBuilder(r.Child.Base, 0)
	first := uintptr(r.First())
	top := first + files
	b.Label(spawn.Label{Step: "move files", Status: 202})
	b.Call(unix.SYS_DUP3, 0, top, unix.O_CLOEXEC).Take(0).Keep(0)
	b.Call(unix.SYS_DUP3, first+executable, top+1, unix.O_CLOEXEC)
	b.Call(unix.SYS_DUP3, first+output, 1, 0)
	b.Call(unix.SYS_DUP3, first+output, 2, 0)
	b.Call(unix.SYS_DUP3, first+socket0, firstSocket, 0)
	b.Call(unix.SYS_DUP3, first+socket1, firstSocket+1, 0)
	b.Call(unix.SYS_CLOSE_RANGE, firstSocket+2, top-1, 0)
	s.rights(b)
	b.Label(spawn.Label{Step: "change directory", Status: 200})
	b.Call(unix.SYS_CHDIR, b.Text("/"))
	b.Label(spawn.Label{Step: "execute", Status: 203})
	env := append(s.env[:len(s.env):len(s.env)], "LISTEN_FDS=2", "LISTEN_PID="+strconv.Itoa(r.Child.PID))
	path, argv, envp := b.Text(s.given.program), b.Texts([]string{s.given.program}), b.Texts(env)
	const atFDCWD = ^uintptr(99) // -100
	b.AnswerValue(spawn.Exec, 0)
	b.Call(unix.SYS_EXECVEAT, atFDCWD, path, argv, envp, 0)
	return b.Program()
}

// rights are what needs privileges.
func (s *spawner) rights(b *spawn.Builder) {
	b.Label(spawn.Label{Step: "set the priority", Status: 201})
	b.Call(unix.SYS_UMASK, 0o22)
	b.Call(unix.SYS_SCHED_GETSCHEDULER, 0).Keep(slot)
	b.Equal(slot, 0, unix.EDOM).AllowAny()
	b.Call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0).AllowAny()
	b.Label(spawn.Label{Step: "set limits", Status: 205})
	for _, l := range limits {
		b.Call(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), b.Words(l.soft, l.hard), 0).AllowAny()
	}
	b.Label(spawn.Label{Step: "drop capabilities", Status: 218})
	who, sets := b.Halves(unix.LINUX_CAPABILITY_VERSION_3, 0), b.Space(2*3*4)
	b.Call(unix.SYS_CAPGET, who, sets)
	b.Store(sets+2*4, 0)
	b.Store(sets+5*4, 0)
	b.Call(unix.SYS_CAPSET, who, sets)
	b.Call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL).AllowAny()
}
