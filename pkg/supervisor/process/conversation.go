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
// pair. When our end closes before all of it was sent, the process ends.
type conversation struct {
	file  *os.File
	conn  syscall.RawConn
	base  uintptr // where the process puts its programs
	at    layout
	ready ready
	round int
}

func newConversation(child Child, at layout, r ready) (*conversation, error) {
	file := os.NewFile(uintptr(child.Control), "control") // it is non-blocking
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &conversation{file: file, conn: conn, base: child.Base, at: at, ready: r}, nil
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
		f, ok, err = spawn.Hear(int(fd))
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
	o := c.ready.order
	k := c.compiler()
	k.begin()
	files := make([][]string, 0, len(o.envFiles))
	for _, f := range o.envFiles {
		k.read(f)
		k.Again()
		answer, err := c.do(ctx, p, k)
		if err != nil {
			return err
		}
		pairs, err := c.parse(f, answer.Value)
		if err != nil {
			return err
		}
		files = append(files, pairs)
		k = c.compiler()
	}
	k.execute(o.complete(files, o.own(p.identity)))
	_, err := c.do(ctx, p, k)
	return err
}

func (c *conversation) compiler() *compiler {
	k := &compiler{Builder: spawn.NewBuilder(c.base, c.round), order: c.ready.order, at: c.at}
	c.round++
	return k
}

// do sends a program, and returns the answer that it ends with: a file that was read,
// or none but the end of the conversation: then the process has become what it was to
// be. What is no answer to the program fails the start.
func (c *conversation) do(ctx context.Context, p *Process, k *compiler) (spawn.Frame, error) {
	path := c.ready.order.path
	program := k.Program()
	if err := c.tell(program); err != nil {
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
		case !program.Answers(f):
			return f, undone(unix.EBADMSG, path)
		}
		switch f.Kind {
		case spawn.Failed:
			l := program.Label(f.Index)
			return f, step(l.Step).failed(syscall.Errno(f.Errno), l.Detail, "")
		case spawn.Warned:
			p.warn(k.warnings[f.Index](f.Value, syscall.Errno(f.Errno)))
		case spawn.Read:
			return f, nil
		case spawn.Exec:
			executes = true
		}
	}
}

// tell sends a program. That nobody is there any more is no error: what the process said
// before it ended is still to be heard.
func (c *conversation) tell(program *spawn.Program) error {
	path := c.ready.order.path
	if !program.Fits() {
		return stepExec.failed(unix.E2BIG, path, "")
	}
	var told error
	err := c.conn.Control(func(fd uintptr) { told = spawn.Tell(int(fd), program) })
	if told == unix.EPIPE || told == unix.ECONNRESET {
		told = nil
	}
	if err = errors.Join(err, told); err != nil {
		return undone(err, path)
	}
	return nil
}

// parse reads an environment file from where the process has put it.
func (c *conversation) parse(f envFile, size uint64) ([]string, error) {
	path, _ := optionalFile(f.path)
	text := make([]byte, min(size, maxFile))
	if n, err := unix.Pread(c.ready.room, text, 0); err != nil || n < len(text) {
		return nil, stepEnvironment.failed(unix.EIO, path, "")
	}
	pairs, line := parseFile(text)
	if line > 0 {
		return nil, stepEnvironment.failed(unix.EBADMSG, path+":"+decimal(line), "")
	}
	return pairs, nil
}
