package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// devStdout opens its output by the name that many programs are configured with.
func devStdout(string) {
	f, err := os.OpenFile("/dev/stdout", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Fprintln(f, "by name")
}

func TestWorkerOfAnotherUserOpensDevStdout(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the pipe is given to another user")
	}
	s, _ := newSink(t, plenty)
	st, err := s.Stream(Meta{Invocation: 1}, 65534, 65534)
	must(t, err)
	c := program("stdout", "")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	run(t, st, c)
	wantLines(t, read(t, s, all), "by name")
}

// supervisor is a supervisord that starts one worker, and can be killed.
func supervisor(string) {
	s := Open(nil, "api", plenty, Elsewhere{}, Stage{})
	st, err := s.Stream(Meta{Invocation: 1}, -1, -1)
	if err != nil {
		panic(err)
	}
	c := program("outlive", "")
	c.SysProcAttr = nil // it outlives us, until its orders end
	fd, _ := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_DUPFD_CLOEXEC, 0)
	c.Stdout = os.NewFile(uintptr(fd), "output")
	c.ExtraFiles = []*os.File{os.NewFile(3, "orders"), os.NewFile(4, "answers")}
	if err := c.Start(); err != nil {
		panic(err)
	}
	st.CloseWriteEnd()
	for l := range s.Read(context.Background(), Query{N: -1, Follow: true}) {
		fmt.Fprintln(os.Stdout, c.Process.Pid, string(l.Text))
	}
}

// outlive writes a line, waits for an order, and writes on.
func outlive(string) {
	fmt.Println("before")
	io.ReadFull(os.NewFile(3, "orders"), make([]byte, 1))
	_, err := fmt.Println("after")
	fmt.Fprintln(os.NewFile(4, "answers"), "wrote", err)
}

// When supervisord is killed, its worker does not get a SIGPIPE, and what it
// writes waits in the pipe.
func TestWorkerWritesOnAfterSupervisordWasKilled(t *testing.T) {
	orders, order, err := os.Pipe()
	must(t, err)
	answer, answers, err := os.Pipe()
	must(t, err)
	defer answer.Close()
	c := program("supervisor", "")
	c.ExtraFiles = []*os.File{orders, answers}
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	orders.Close()
	answers.Close()

	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	pid, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	if text != "before" {
		t.Fatalf("supervisord read %q", line)
	}
	must(t, c.Process.Kill())
	c.Wait()

	// As the next supervisord would, but without its care for hostile workers.
	pipe, err := os.OpenFile("/proc/"+pid+"/fd/1", os.O_RDONLY, 0)
	must(t, err)
	defer pipe.Close()
	order.Write([]byte{1})
	order.Close()
	if got, _ := io.ReadAll(answer); string(got) != "wrote <nil>\n" {
		t.Errorf("the worker says %q", got)
	}
	if got, _ := io.ReadAll(pipe); string(got) != "after\n" {
		t.Errorf("the pipe holds %q", got)
	}
}

// Somebody who has escaped with the write end cannot keep Finish from its end.
func TestFinishEndsAlthoughSomebodyWritesOn(t *testing.T) {
	s := Open(nil, "api", plenty, Elsewhere{}, Stage{})
	defer s.Close()
	st := newStream(t, s, Meta{Invocation: 1})
	fd, err := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	c := exec.Command("yes")
	escaped := os.NewFile(uintptr(fd), "output")
	c.Stdout = escaped
	must(t, c.Start())
	escaped.Close()
	st.Finish()
	must(t, c.Process.Kill())
	c.Wait()
}

func TestPipeIsKnownByItsInode(t *testing.T) {
	s := Open(nil, "api", plenty, Elsewhere{}, Stage{})
	defer s.Close()
	st := newStream(t, s, Meta{})
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(st.WriteEnd()))
	must(t, err)
	if want := fmt.Sprintf("pipe:[%d]", st.Inode()); link != want {
		t.Errorf("the write end is %s, want %s", link, want)
	}
	flags, err := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_GETFL, 0)
	must(t, err)
	if flags&unix.O_NONBLOCK != 0 || flags&unix.O_ACCMODE != unix.O_RDWR {
		t.Errorf("the write end has flags %#o", flags)
	}
}

// A pipe that cannot be watched is refused: nobody would read it, and who writes to it
// waits for ever.
func TestPipeThatCannotBeWatched(t *testing.T) {
	f, err := os.Open("/proc/self/exe") // like a pipe that is one too many
	must(t, err)
	defer f.Close()
	st := &Stream{sink: &Sink{service: "api"}}
	if err := st.take(f); !errors.Is(err, errUnwatched) {
		t.Errorf("it says %v", err)
	}
}
