package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Scripts that would go on for ever end when their test does, however that ends.
func TestScriptsEndWithAKilledTest(t *testing.T) {
	scripts := []string{
		`exec 2>/dev/null; echo ready; trap '' TERM; while [ -d $T ]; do sleep 0.01; done`,
		`echo ready; while [ -d $T ]; do kill -STOP -1 2>/dev/null; done; kill -KILL -1`,
	}
	const killed = "TEST_IS_KILLED"
	if os.Getenv(killed) != "" {
		l := newTestLauncher(t, Options{NoCgroups: true})
		r := launch(t, l, sh(scripts[0]))
		r.expect("ready")
		fmt.Println("PID", r.PID())
		if os.Geteuid() == 0 {
			r := launch(t, l, as(alice, sh(scripts[1])))
			r.expect("ready")
			fmt.Println("PID", r.PID())
		}
		fmt.Println("PID", 0)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	c := exec.Command(selfPath(), "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), killed+"=1")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var helpers []*pidfd
	for s := bufio.NewScanner(out); s.Scan(); {
		pid := -1
		fmt.Sscanf(s.Text(), "PID %d", &pid)
		if pid == 0 {
			break
		}
		if pid < 0 {
			continue
		}
		p, err := openPidfd(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		helpers = append(helpers, p)
	}
	c.Process.Kill()
	c.Wait()
	if len(helpers) == 0 {
		t.Error("no helper has begun")
	}
	for i, p := range helpers {
		p.file.SetReadDeadline(time.Now().Add(patience))
		if p.ended() != nil {
			t.Errorf("it goes on: %s", scripts[i])
			p.send(unix.SIGKILL, 0)
		}
	}
}
