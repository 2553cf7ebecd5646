package starts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
	"github.com/supervisord-go/supervisord/bench/turn"
)

// A starter is one that runs, see bench/starter.
type starter struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	orders *json.Encoder
	out    *json.Decoder
	errs   strings.Builder
}

// starter starts one and waits until it is as large as it is to be.
func (b *bed) starter(ctx context.Context, way string, megabytes int) (s *starter, hello turn.Hello, err error) {
	dir := filepath.Join(b.dir, strconv.Itoa(len(b.starters)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, hello, err
	}
	s = &starter{cmd: exec.Command(filepath.Join(b.Kit.dir, "starter"), way, strconv.Itoa(megabytes), dir, b.program)}
	// The Ctrl-C that ends a measurement is for the bench, which ends the starters.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stderr = &s.errs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, hello, err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, hello, err
	}
	s.orders, s.out = json.NewEncoder(s.in), json.NewDecoder(out)
	if err := s.cmd.Start(); err != nil {
		return nil, hello, err
	}
	b.starters = append(b.starters, s)
	return s, hello, s.hear(ctx, &hello)
}

// ask has it do a turn.
func (s *starter) ask(ctx context.Context, o turn.Order) (r turn.Result, err error) {
	if err := s.orders.Encode(o); err != nil {
		return r, s.ended(err)
	}
	if err := s.hear(ctx, &r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, errors.Join(ctx.Err(), errors.New(r.Err))
	}
	return r, nil
}

// hear waits for what it says. When ctx ends meanwhile, it ends what it is at, and says
// so.
func (s *starter) hear(ctx context.Context, what any) error {
	defer context.AfterFunc(ctx, func() { s.cmd.Process.Signal(syscall.SIGTERM) })()
	if err := s.out.Decode(what); err != nil {
		return errors.Join(ctx.Err(), s.ended(err))
	}
	return nil
}

// ended is the error of a starter that does not answer any more.
func (s *starter) ended(err error) error {
	return fmt.Errorf("the process that starts others does not answer: %w", errors.Join(err, s.stop()))
}

// stop ends it in order, if it has not ended. Only the first call says how that was.
func (s *starter) stop() error {
	if s.cmd.ProcessState != nil {
		return nil
	}
	s.in.Close()
	late := time.AfterFunc(rig.Patience, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("a process that starts others: %w\n%s", err, &s.errs)
	}
	return nil
}
