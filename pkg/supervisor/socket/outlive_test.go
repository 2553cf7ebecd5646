package socket

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHelpersEndWithAKilledTest: those that would go on for ever do not.
func TestHelpersEndWithAKilledTest(t *testing.T) {
	const killed = "TEST_IS_KILLED"
	if os.Getenv(killed) != "" {
		helpers := []*exec.Cmd{role("listen", "tcp", "127.0.0.1:0"), role("bind", shortDir(t)+"/x.sock"), role("flip", os.Getenv(killed))}
		if os.Geteuid() == 0 {
			helpers[2].SysProcAttr.Credential = as(65534)
		}
		for _, c := range helpers {
			begin(t, c)
			fmt.Println("PID", c.Process.Pid)
		}
		fmt.Println("PID", 0)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), killed+"="+t.TempDir())
	in, err := c.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	var pids, fds []int
	for s := bufio.NewScanner(out); s.Scan(); {
		pid := -1
		fmt.Sscanf(s.Text(), "PID %d", &pid)
		if pid == 0 {
			break
		}
		if pid > 0 {
			fd, err := unix.PidfdOpen(pid, 0)
			must(t, err)
			defer unix.Close(fd)
			pids, fds = append(pids, pid), append(fds, fd)
		}
	}
	c.Process.Kill()
	c.Wait()
	if len(fds) != 3 {
		t.Errorf("%d helpers have begun", len(fds))
	}
	for i, fd := range fds {
		const patience = 60_000 // ms
		if n, err := retryPoll(fd, patience); n == 0 {
			t.Errorf("helper %d goes on, pid %d: %v", i, pids[i], err)
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
}

func retryPoll(fd, ms int) (n int, err error) {
	for {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
		if err != unix.EINTR {
			return n, err
		}
	}
}
