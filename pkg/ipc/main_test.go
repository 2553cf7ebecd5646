package ipc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// Other users are this very binary, started again with their uid. What it does
// then is one of these, by name; it may read stdin and prints what it saw.
var strangers = map[string]func(args []string) error{}

const strangerVar = "IPC_TEST_STRANGER"

func TestMain(m *testing.M) {
	if name := os.Getenv(strangerVar); name != "" {
		if err := strangers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	nobody   = 65534
	somebody = 12345
)

// A stranger is a running process of another user.
type stranger struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// meet starts one as uid.
func meet(t *testing.T, uid int, name string, args ...string) *stranger {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to start a process of another user")
	}
	s := &stranger{t: t, cmd: exec.Command("/proc/self/exe", args...)}
	s.cmd.Env = []string{strangerVar + "=" + name}
	s.cmd.Dir = "/"
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stdin.Close()
		s.cmd.Wait()
	})
	return s
}

// line is the next that it prints.
func (s *stranger) line() string {
	s.t.Helper()
	if !s.out.Scan() {
		s.t.Fatalf("the stranger says nothing: %v", s.out.Err())
	}
	return s.out.Text()
}

// dismiss tells it to end and returns all that it still prints.
func (s *stranger) dismiss() string {
	s.t.Helper()
	s.stdin.Close()
	var lines []string
	for s.out.Scan() {
		lines = append(lines, s.out.Text())
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatalf("the stranger failed: %v", err)
	}
	return strings.Join(lines, "\n")
}
