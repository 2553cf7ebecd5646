package gauntlet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
)

// A process runs without supervisord, and says when it is ready as it would to
// that.
type process struct {
	ready  *rig.Ready
	cmd    *exec.Cmd
	stderr strings.Builder
	exited chan struct{} // closed when it has; stderr is not written to any more
}

// launch starts a program and waits until it is ready, which it says on a socket
// at path.
func launch(ctx context.Context, path string, argv ...string) (*process, error) {
	ready, err := rig.ListenReady(path)
	if err != nil {
		return nil, err
	}
	p := &process{ready: ready, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	// A session of its own, as every service has one: the scheduler shares processors
	// among sessions (sched(7), autogroup), and one with the clients gets more of them.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = append(os.Environ(), ready.Env())
	if err := p.cmd.Start(); err != nil {
		ready.Close()
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.wait(ctx); err != nil {
		err = errors.Join(err, p.stop())
		return nil, fmt.Errorf("%w\n%s", err, &p.stderr)
	}
	return p, nil
}

// wait is until it says that it is ready, or an error if it exits.
func (p *process) wait(ctx context.Context) error { return p.ready.Wait(ctx, p.exited) }

// stop ends it, the hard way if need be.
func (p *process) stop() error {
	defer p.ready.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return nil
	case <-time.After(rig.Patience):
		p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("process %d has not ended %v after SIGTERM", p.cmd.Process.Pid, rig.Patience)
	}
}
