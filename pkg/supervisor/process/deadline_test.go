package process

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// deadDisk mounts a file system whose server does not answer: whoever looks into
// it hangs, until it is gone.
func deadDisk(t *testing.T) (dir string, answerNever func()) {
	t.Helper()
	needsRoot(t)
	dir, err := os.MkdirTemp("", "process")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		os.Remove(dir)
		t.Skip("needs FUSE: ", err)
	}
	err = unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	if err != nil {
		unix.Close(fd)
		os.Remove(dir)
		t.Skip("needs FUSE: ", err)
	}
	gone := false
	answerNever = func() {
		if !gone {
			gone = true
			unix.Close(fd) // whoever hangs gets ENOTCONN
			unix.Unmount(dir, unix.MNT_DETACH)
			os.Remove(dir)
		}
	}
	t.Cleanup(answerNever)
	return dir, answerNever
}

// A disk that does not answer holds up who needs it until its start's deadline,
// and nobody else; and nothing is left when it is gone.
func TestDiskThatDoesNotAnswer(t *testing.T) {
	for name, set := range map[string]func(p *unit.Program, dir string){
		"program":           func(p *unit.Program, dir string) { p.Path = dir + "/program" },
		"environment file":  func(p *unit.Program, dir string) { p.EnvironmentFiles = []string{dir + "/env"} },
		"working directory": func(p *unit.Program, dir string) { p.Dir = dir + "/srv" },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, l *Launcher) {
				files := openFDs(t)
				dir, answerNever := deadDisk(t)
				for range maxHung + 2 {
					task := sh("echo ran")
					set(task.Program, dir)
					task.ID, task.Output, task.Service = unit.Invocation(lastInvocation.Add(1)), -1, "dead"
					ctx, cancel := context.WithCancel(t.Context())
					tried := make(chan error)
					var staged *Process
					go func() {
						_, err := l.Launch(ctx, task, func(p *Process) error { staged = p; return nil })
						tried <- err
					}()
					other := sh("exit 0")
					other.ID, other.Output, other.Service = unit.Invocation(lastInvocation.Add(1)), -1, "other"
					if p, err := l.Launch(t.Context(), other, nil); err != nil {
						t.Errorf("another service: %v", err)
					} else {
						mustGo(t, p)
					}
					cancel()
					if err := <-tried; err == nil || !strings.HasPrefix(err.Error(), "cannot start ") {
						t.Errorf("it says %v", err)
					}
					if staged != nil {
						mustGo(t, staged)
					}
				}
				answerNever()
				eventually(t, "the launcher is as it was", func() bool { return !l.hung.full("dead") && openFDs(t) <= files })
			})
		})
	}
}

// eventually waits for what nothing tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience / 4); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it does not come about that ", what)
		}
	}
}

func TestDeadlineIsSaid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	task := sh("echo ran")
	task.Output, task.Service = -1, "late"
	for _, want := range []string{"cannot start /bin/sh: it took too long"} {
		// Without cgroups, as one that still ends in the background cannot be removed.
		_, err := newTestLauncher(t, Options{NoCgroups: true}).Launch(ctx, task, func(p *Process) error {
			p.Signal(syscall.SIGSTOP, unit.ProcessOnly)
			return nil
		})
		if err == nil || err.Error() != want {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
