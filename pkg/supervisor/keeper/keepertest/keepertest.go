// Package keepertest runs a real keeper beside a test: the test binary executed once
// more. Its managers are puppets, which pass their end of the line to the test and then
// wait: so the test is the manager, in its own process, and can kill itself as one.
//
// The package is for tests alone. Importing it is all that it takes: an executed test
// binary is taken over before its tests begin.
package keepertest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
)

// A Server is a keeper that runs.
type Server struct {
	PID int

	t       testing.TB
	cmd     *exec.Cmd
	puppets chan *puppet
	ended   chan struct{} // the keeper has
	status  int

	mu  sync.Mutex
	now *puppet // the last that came
}

// A puppet is a process that is a manager to the keeper.
type puppet struct {
	pid  int
	line int // -1: somebody has it
	conn *net.UnixConn
	used *keeper.Client
}

// An Option changes how a keeper is started.
type Option func(*exec.Cmd)

// As runs it as another user, who has no group but one.
func As(uid uint32) Option {
	return func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

// With sets its times.
func With(t keeper.Times) Option {
	return Setenv(timesVariable, fmt.Sprintf("%d %d %d", t.Patience, t.Pong, t.Ping))
}

// NoFile limits how many files it may have open.
func NoFile(n int) Option { return Setenv(filesVariable, strconv.Itoa(n)) }

// Setenv sets a variable of its environment.
func Setenv(name, value string) Option {
	return func(c *exec.Cmd) { c.Env = append(c.Env, name+"="+value) }
}

// Files gives it files, from 3 on.
func Files(files ...*os.File) Option {
	return func(c *exec.Cmd) { c.ExtraFiles = files }
}

// Listening makes $LISTEN_PID the keeper's.
func Listening() Option { return Setenv(listenVariable, "1") }

// Serve starts a keeper, which ends with the test, however that ends.
func Serve(t testing.TB, options ...Option) *Server {
	t.Helper()
	name := fmt.Sprintf("@keepertest-%d-%d", os.Getpid(), time.Now().UnixNano())
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, puppets: make(chan *puppet, 1), ended: make(chan struct{})}
	s.cmd = exec.Command("/proc/self/exe")
	s.cmd.Env = append(os.Environ(), roleVariable+"="+name)
	if testing.CoverMode() != "" {
		Setenv(coverVariable, "1")(s.cmd)
	}
	for _, o := range options {
		o(s.cmd)
	}
	output := s.output()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.PID = s.cmd.Process.Pid
	go s.accept(listener)
	go s.wait()
	t.Cleanup(func() { s.end(listener, output) })
	return s
}

func (s *Server) output() *os.File {
	output, err := os.CreateTemp("", "keeper")
	if err != nil {
		s.t.Fatal(err)
	}
	os.Remove(output.Name())
	s.cmd.Stdout, s.cmd.Stderr = output, output
	return output
}

func (s *Server) wait() {
	s.cmd.Wait()
	s.status = s.cmd.ProcessState.ExitCode()
	close(s.ended)
}

func (s *Server) end(listener net.Listener, output *os.File) {
	s.cmd.Process.Kill()
	<-s.ended
	listener.Close()
	for p := range s.puppets {
		p.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.now.close()
	}
	if text, err := os.ReadFile(filepath.Join("/proc/self/fd", strconv.Itoa(int(output.Fd())))); err == nil && len(text) > 0 {
		s.t.Logf("the keeper and its managers said:\n%s", text)
	}
	output.Close()
}

// Output is what the keeper and its managers have said so far.
func (s *Server) Output() string {
	text, _ := os.ReadFile(filepath.Join("/proc/self/fd", strconv.Itoa(int(s.cmd.Stderr.(*os.File).Fd()))))
	return string(text)
}

// accept takes the managers in, one after the other.
func (s *Server) accept(listener *net.UnixListener) {
	defer close(s.puppets)
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		if p, err := meet(conn); err == nil {
			s.puppets <- p
		} else {
			conn.Close()
		}
	}
}

func meet(conn *net.UnixConn) (*puppet, error) {
	data, rights := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, nr, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(string(data[:n]))
	if err != nil {
		return nil, err
	}
	parts, err := unix.ParseSocketControlMessage(rights[:nr])
	if err != nil || len(parts) != 1 {
		return nil, errors.New("no line came")
	}
	fds, err := unix.ParseUnixRights(&parts[0])
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fds[0])
	return &puppet{pid: pid, line: fds[0], conn: conn}, nil
}

func (p *puppet) close() {
	if p.used != nil {
		p.used.Close()
	}
	if p.line >= 0 {
		unix.Close(p.line)
	}
	p.line = -1
	p.conn.Close()
}

// next waits for a manager that nobody has connected yet.
func (s *Server) next() *puppet {
	s.t.Helper()
	select {
	case p, ok := <-s.puppets:
		if !ok {
			s.t.Fatal("the keeper starts no manager any more")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.now != nil {
			s.now.close()
		}
		s.now = p
		return p
	case <-s.ended:
		s.t.Fatalf("the keeper has ended with status %d", s.status)
	}
	return nil
}

// Line is the raw end of the next manager, which is the caller's, and its pid.
func (s *Server) Line() (fd, pid int) {
	s.t.Helper()
	p := s.next()
	fd, p.line = p.line, -1
	return fd, p.pid
}

// Connect is the next manager that the keeper starts. It has said nothing yet.
func (s *Server) Connect(h keeper.Handler) *keeper.Client {
	s.t.Helper()
	p := s.next()
	fd := p.line
	p.line = -1
	c, err := keeper.Connect(fd, h)
	if err != nil {
		s.t.Fatal(err)
	}
	p.used = c
	return c
}

// Manager is Connect, Up and Serving.
func (s *Server) Manager(h keeper.Handler) *keeper.Client {
	s.t.Helper()
	c := s.Connect(h)
	if _, err := c.Up(); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Serving(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ManagerPID is that of the manager that was last connected.
func (s *Server) ManagerPID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.pid
}

// Kill kills that manager by SIGKILL. Its client is lost when the keeper has done what
// it had asked.
func (s *Server) Kill() {
	s.t.Helper()
	if err := unix.Kill(s.ManagerPID(), unix.SIGKILL); err != nil && err != unix.ESRCH {
		s.t.Fatal(err)
	}
}

// Exit has that manager exit with a status.
func (s *Server) Exit(status int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.now.conn.Write([]byte(strconv.Itoa(status))); err != nil {
		s.t.Fatal(err)
	}
}

// Wait waits for the keeper's end, and returns its status; -1: a signal has ended it.
func (s *Server) Wait() int {
	<-s.ended
	return s.status
}
