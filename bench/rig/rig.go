// Package rig runs a supervisord of its own, with its own directory, for as long
// as a measurement takes, and speaks to it as its users do: by superctl, signals
// and exit statuses. Nothing of it outlives Stop.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Patience is for everything that ought to be quick: to start with nothing to
// do, to stop what stops by itself. It is long, since machines are busy.
const Patience = 60 * time.Second

// A Supervisor is one supervisord that runs.
type Supervisor struct {
	Ctl
	dir    string
	runDir string // in memory, as a runtime directory should be
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has; then cmd.ProcessState says how
}

// TempDir makes a directory with a short name: the path of a unix socket has
// room for 107 bytes. It is for all to enter, as services may run as anybody.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// memory is a directory below which runtime directories are to be made: /run is
// in memory on most machines, and what is stored there costs nothing then.
func memory(dir string) string {
	for _, parent := range []string{"/run", os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		var fs syscall.Statfs_t
		if parent != "" && syscall.Statfs(parent, &fs) == nil && fs.Type == tmpfs && syscall.Access(parent, writable) == nil {
			return parent
		}
	}
	return dir
}

const (
	tmpfs    = 0x01021994 // TMPFS_MAGIC, statfs(2)
	writable = 2          // W_OK, access(2)
)

// Start runs supervisord in dir with a configuration: all but the [manager]
// section, which is the rig's. It returns when supervisord says READY=1.
func Start(ctx context.Context, b Binaries, dir, configuration string) (*Supervisor, error) {
	s := &Supervisor{dir: dir, exited: make(chan struct{})}
	runDir, err := os.MkdirTemp(memory(dir), "bench")
	if err != nil {
		return nil, err
	}
	s.runDir = runDir
	s.Ctl = Ctl{Superctl: b.Superctl(), Socket: filepath.Join(runDir, "run", "control.sock")}
	if err := s.configure(configuration); err != nil {
		return nil, err
	}
	ready, err := ListenReady(s.path("notify"))
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	if err := s.launch(b, ready); err != nil {
		return nil, err
	}
	if err := ready.Wait(ctx, s.exited); err != nil {
		s.Kill()
		return nil, fmt.Errorf("%w\n%s", err, s.Log())
	}
	return s, nil
}

func (s *Supervisor) path(name string) string { return filepath.Join(s.dir, name) }

// PID of supervisord itself.
func (s *Supervisor) PID() int { return s.cmd.Process.Pid }

func (s *Supervisor) configure(configuration string) error {
	manager := fmt.Sprintf("[manager]\nruntime_directory = %q\nstate_directory = %q\nlog_directory = %q\n\n",
		filepath.Join(s.runDir, "run"), s.path("state"), s.path("log"))
	return os.WriteFile(s.path("supervisord.toml"), []byte(manager+configuration), 0o644)
}

// launch starts it in a process group of its own, so that the Ctrl-C that ends
// a measurement does not end supervisord under it.
func (s *Supervisor) launch(b Binaries, ready *Ready) error {
	own, err := os.Create(s.path("supervisord.log"))
	if err != nil {
		return err
	}
	defer own.Close()
	s.cmd = exec.Command(b.Supervisord(), "-c", s.path("supervisord.toml"))
	s.cmd.Dir = s.dir
	s.cmd.Stdout, s.cmd.Stderr = own, own
	s.cmd.Env = append(os.Environ(), ready.Env())
	// A measurement that is killed takes it along.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	return nil
}

// Log is what supervisord has printed so far.
func (s *Supervisor) Log() string {
	b, err := os.ReadFile(s.path("supervisord.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Stop ends supervisord, and with it all that it runs, in order: SIGTERM and
// exit status 0. What is left of it after that is killed, and is an error.
func (s *Supervisor) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.Kill()
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(2 * Patience):
		s.Kill()
		return fmt.Errorf("supervisord has not ended %v after SIGTERM\n%s", 2*Patience, s.Log())
	}
	var err error
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		err = fmt.Errorf("supervisord ended with %v\n%s", s.cmd.ProcessState, s.Log())
	}
	return errors.Join(err, Sweep(s.dir), os.RemoveAll(s.runDir))
}

// Kill ends it and what it runs at once. It is for what went wrong.
func (s *Supervisor) Kill() {
	s.cmd.Process.Kill()
	<-s.exited
	Sweep(s.dir)
	os.RemoveAll(s.runDir)
}
