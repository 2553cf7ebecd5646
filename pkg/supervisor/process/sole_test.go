package process

import (
	"os"
	"syscall"
	"testing"
)

// Where nobody else in the program waits for children, one in our session is reaped as
// well: PID 1 gets them from whoever dies there, and "exec supervisord" brings some.
// One that had ended before is no exception.
func TestSoleReapsItsSession(t *testing.T) {
	start := func() int {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 0"}, &syscall.ProcAttr{Env: os.Environ()})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before := start()
	eventually(t, "it has ended", func() bool { s, err := readStat(before); return err == nil && s.state == 'Z' })
	reaped := make(chan int, 10)
	l := newTestLauncher(t, Options{Sole: true, OnStray: func(pid int) { reaped <- pid }})
	if pid := <-reaped; pid != before {
		t.Errorf("reaped %d, not %d", pid, before)
	}
	after := start()
	if pid := <-reaped; pid != after {
		t.Errorf("reaped %d, not %d", pid, after)
	}
	launch(t, l, sh("echo ran")).expect("ran") // its own are left to those who wait for them
	if len(reaped) > 0 {
		t.Errorf("reaped %d", <-reaped)
	}
}
