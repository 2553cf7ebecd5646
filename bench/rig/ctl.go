package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Ctl calls one superctl for one supervisord.
type Ctl struct {
	Superctl string // its path
	Socket   string // supervisord's control socket
}

// An Answer is what a call of superctl came to.
type Answer struct {
	Status         int
	Stdout, Stderr string
	Took           time.Duration
}

// Call calls superctl. The error is for a superctl that could not run or be
// waited for; its exit status is in the answer.
func (c Ctl) Call(ctx context.Context, args ...string) (Answer, error) {
	var out, errs strings.Builder
	cmd := c.command(ctx, args)
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	a := Answer{cmd.ProcessState.ExitCode(), out.String(), errs.String(), time.Since(start)}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if err != nil {
		return a, fmt.Errorf("cannot run superctl %s: %w", strings.Join(args, " "), err)
	}
	return a, nil
}

// command is a superctl in a session of its own: an operator is not in that of the
// clients, with whom it would share a processor then (sched(7), autogroup).
func (c Ctl) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Superctl, append([]string{"--socket", c.Socket}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Must calls superctl and takes any exit status but 0 for an error.
func (c Ctl) Must(ctx context.Context, args ...string) (Answer, error) {
	a, err := c.Call(ctx, args...)
	if err == nil && a.Status != 0 {
		err = fmt.Errorf("superctl %s exited with status %d: %s%s", strings.Join(args, " "), a.Status, a.Stdout, a.Stderr)
	}
	return a, err
}

// Until calls superctl and returns when a line with the word has come. Until stop
// is called it goes on; its exit status is of no interest.
func (c Ctl) Until(ctx context.Context, word string, args ...string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := c.command(ctx, args)
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), word) {
			return func() { cancel(); cmd.Wait() }, nil
		}
	}
	cancel()
	cmd.Wait()
	return nil, fmt.Errorf("superctl %s did not say %q: %s", strings.Join(args, " "), word, &said)
}
