// Crowd is the program of which the bench runs a thousand at a time. It is small
// and, but for what its role is, does nothing.
//
//	crowd idle SOCKET     is ready, and waits; SOCKET may be -
//	crowd together DIR    is ready, and exits in the instant in which the lock of
//	                      its round ends, as all others of this round do
//	crowd crash SOCKET    exits with status 1
//	crowd tree SOCKET     is ready, with children that do not go when they are told to
//
// To SOCKET, or DIR/tally, each sends its pid when it has become what it is.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

var roles = map[string]func(arg string) error{
	"idle":     idle,
	"together": together,
	"crash":    crash,
	"tree":     tree,
	"deaf":     deaf,
	"stopped":  stopped,
	"parent":   parent,
}

func main() {
	err := fmt.Errorf("usage: crowd idle|together|crash|tree ARG")
	if len(os.Args) > 2 && roles[os.Args[1]] != nil {
		err = roles[os.Args[1]](os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

// wait is for ever, as far as a measurement goes.
func wait() { time.Sleep(time.Hour) }

func idle(socket string) error {
	if err := ready(); err != nil {
		return err
	}
	if socket != "-" {
		if err := tell(socket); err != nil {
			return err
		}
	}
	wait()
	return nil
}

// together reads which round it is, tells that it is there, and waits for the
// round's lock. A process that starts after the lock has ended finds the next
// round: that is written before.
func together(dir string) error {
	round, err := os.ReadFile(filepath.Join(dir, "round"))
	if err != nil {
		return err
	}
	lock, err := os.Open(filepath.Join(dir, "lock"+string(round)))
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	if err := tell(filepath.Join(dir, "tally")); err != nil {
		return err
	}
	for {
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != syscall.EINTR {
			return err
		}
	}
}

func crash(socket string) error {
	if err := tell(socket); err != nil {
		return err
	}
	os.Exit(1)
	return nil
}

// tree has a child that ignores SIGTERM, one that also has a session of its own,
// one whose parent is gone, and one that is stopped.
func tree(socket string) error {
	for _, child := range []struct {
		role    string
		session bool
	}{{"deaf", false}, {"deaf", true}, {"parent", true}, {"stopped", false}} {
		pid, err := spawn(child.role, child.session, socket)
		if err != nil {
			return err
		}
		defer syscall.Kill(pid, syscall.SIGKILL) // the stopped one would not end by itself
	}
	return idle(socket)
}

// deaf is ended by nothing but SIGKILL.
func deaf(socket string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if err := tell(socket); err != nil {
		return err
	}
	wait()
	return nil
}

// stopped handles no signal, since it does not run.
func stopped(socket string) error {
	if err := tell(socket); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// parent leaves a child to whoever takes orphans.
func parent(socket string) error {
	_, err := spawn("deaf", true, socket)
	return err
}

func spawn(role string, session bool, socket string) (pid int, err error) {
	return syscall.ForkExec("/proc/self/exe", []string{"crowd", role, socket}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: session},
	})
}

// ready is sd_notify(3).
func ready() error {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		return send(path, "READY=1")
	}
	return nil
}

func tell(socket string) error { return send(socket, strconv.Itoa(os.Getpid())) }

// send is one datagram to a unix socket. If many are under way it waits.
func send(path, text string) error {
	s, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	for {
		err = syscall.Sendto(s, []byte(text), 0, &syscall.SockaddrUnix{Name: path})
		if err != syscall.EINTR {
			return err
		}
	}
}
