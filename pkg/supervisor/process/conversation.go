package process

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A conversation is with a process that has yet to become its program, over a socket
// pair. When the last copy of our end closes before all of it was sent, the process ends.
//
// Nothing that the process says is taken from the socket: whoever has the conversation
// after us begins it anew, hears the same, and tells the process again what it was told,
// which does each program once.
type conversation struct {
	file  *os.File
	conn  syscall.RawConn
	child Child
	at    layout
	ready ready
	round int
	files [][]string // what was in the environment files so far

	foreign bool // whoever began it has written its programs otherwise, see edition
}

// newConversation takes over the child's Control.
func newConversation(child Child, at layout, r ready) (*conversation, error) {
	err := errors.Join(unix.SetNonblock(child.Control, true), spawn.Rewind(child.Control))
	file := os.NewFile(uintptr(child.Control), "control")
	conn, noFile := file.SyscallConn()
	if err = errors.Join(err, noFile); err != nil {
		file.Close()
		return nil, err
	}
	return &conversation{file: file, conn: conn, child: child, at: at, ready: r}, nil
}

func (c *conversation) close() {
	c.file.Close()
	c.ready.closeRoom()
}

// hear returns the next frame; !ok: there is none any more. The error is that of
// ctx, or about what no process of ours says.
func (c *conversation) hear(ctx context.Context) (f spawn.Frame, ok bool, err error) {
	stop := context.AfterFunc(ctx, func() { c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	heard := c.conn.Read(func(fd uintptr) bool {
		f, ok, err = spawn.Look(int(fd))
		return err != syscall.EAGAIN
	})
	if errors.Is(heard, os.ErrDeadlineExceeded) {
		return f, false, context.Cause(ctx)
	}
	return f, ok, errors.Join(heard, err)
}

// born waits until the process has a session of its own, which holds its tree
// together.
func (c *conversation) born(ctx context.Context, p *Process) error {
	f, ok, err := c.hear(ctx)
	switch {
	case err != nil:
		return undone(err, c.ready.order.path)
	case !ok:
		return died(ctx, p, c.ready.order.path)
	case f.Kind != spawn.Born:
		return undone(unix.EBADMSG, c.ready.order.path)
	}
	return nil
}

// run sends the process its programs, and waits for what becomes of it.
func (c *conversation) run(ctx context.Context, p *Process) error {
	for range c.ready.order.envFiles {
		if err := c.readFile(ctx, p); err != nil {
			return err
		}
	}
	o := c.ready.order
	k := c.compiler()
	k.execute(o.complete(c.files, o.own(p.identity)))
	_, err := c.do(ctx, p, k)
	return err
}

// readFile has the process read the next environment file.
func (c *conversation) readFile(ctx context.Context, p *Process) error {
	n := len(c.files)
	k := c.compiler()
	k.read(c.ready.order.envFiles[n])
	k.Again()
	answer, err := c.do(ctx, p, k)
	if err != nil {
		return err
	}
	pairs, err := c.parse(n, answer.Value)
	c.files = append(c.files, pairs)
	return err
}

// compiler begins the program of the next round.
func (c *conversation) compiler() *compiler {
	k := &compiler{Builder: spawn.NewBuilder(c.child.Base, c.round), order: c.ready.order, at: c.at}
	if c.round == 0 {
		k.begin()
	}
	c.round++
	return k
}

// do sends a program, and returns the answer that it ends with: a file that was read,
// or none but the end of the conversation: then the process has become what it was to
// be. What is no answer to the program fails the start.
func (c *conversation) do(ctx context.Context, p *Process, k *compiler) (spawn.Frame, error) {
	path := c.ready.order.path
	program := k.Program()
	if err := c.tell(ctx, program); err != nil {
		return spawn.Frame{}, err
	}
	for executes := false; ; {
		f, ok, err := c.hear(ctx)
		switch {
		case err != nil:
			return f, undone(err, path)
		case !ok && executes:
			return f, nil
		case !ok:
			return f, died(ctx, p, path)
		case !c.foreign && !program.Answers(f):
			return f, undone(unix.EBADMSG, path)
		}
		switch f.Kind {
		case spawn.Failed:
			return f, c.failure(program.Label(f.Index), syscall.Errno(f.Errno))
		case spawn.Warned:
			p.warn(c.warning(k, f))
		case spawn.Read:
			return f, nil
		case spawn.Exec:
			executes = true
		}
	}
}

// failure is the error of an op.
func (c *conversation) failure(l spawn.Label, errno syscall.Errno) error {
	if c.foreign {
		return stepStart.failed(errno, c.ready.order.path, "another version of supervisord began to start it, so the step is not known")
	}
	return step(l.Step).failed(errno, l.Detail, "")
}

func (c *conversation) warning(k *compiler, f spawn.Frame) string {
	errno := syscall.Errno(f.Errno)
	if c.foreign {
		return "another version of supervisord began to start it, and could not set something: " + errno.Error()
	}
	return k.warnings[f.Index](f.Value, errno)
}

// tell sends a program, and waits while the process has yet to read what others have sent
// before us. That nobody is there any more is no error: what the process said before it
// ended is still to be heard.
func (c *conversation) tell(ctx context.Context, program *spawn.Program) error {
	path := c.ready.order.path
	if !program.Fits() {
		return stepExec.failed(unix.E2BIG, path, "")
	}
	stop := context.AfterFunc(ctx, func() { c.file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var told error
	err := c.conn.Write(func(fd uintptr) bool {
		told = spawn.Tell(int(fd), program)
		return told != unix.EAGAIN
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = context.Cause(ctx)
	case told == unix.EPIPE, told == unix.ECONNRESET:
	default:
		err = errors.Join(err, told)
	}
	if err != nil {
		return undone(err, path)
	}
	return nil
}

// parse reads environment file n from where the process has put it.
func (c *conversation) parse(n int, size uint64) ([]string, error) {
	path, _ := optionalFile(c.ready.order.envFiles[n].path)
	text, err := c.ready.room.text(n, size)
	if err != nil {
		return nil, stepEnvironment.failed(errnoOf(err), path, "")
	}
	pairs, line := parseFile(text)
	if line > 0 {
		return nil, stepEnvironment.failed(unix.EBADMSG, path+":"+decimal(line), "")
	}
	return pairs, nil
}
