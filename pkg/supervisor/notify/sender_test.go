package notify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it sends as other users")
	}
}

// senderAs is this binary as another user, who must be able to execute it.
func senderAs(t *testing.T, uid uint32, path, text string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	binary, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "send"), binary, 0o755))
	c := sending(path, text)
	c.Path = filepath.Join(dir, "send")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c
}

// staysAs is such a process that has sent its datagram and is still there.
func staysAs(t *testing.T, uid uint32, path, text string) (pid int) {
	t.Helper()
	c := senderAs(t, uid, path, text)
	c.Env = append(c.Env, "NOTIFY_TEST_STAY=1")
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { in.Close(); c.Wait() })
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatalf("nothing was sent: %v", err)
	}
	return c.Process.Pid
}

// T44: who says READY=1 to the socket of a program that may drop root by itself
// is believed if it belongs to the invocation, whoever it has become; a
// neighbour of the same new user is not.
func TestWhoBelongsIsBelieved(t *testing.T) {
	needsRoot(t)
	h := bound(t, Options{GID: 4242, UIDs: []uint32{0}, Access: unit.NotifyAll, Open: true})
	var st unix.Stat_t
	must(t, unix.Lstat(h.Path(), &st))
	if st.Mode&0o777 != 0o666 {
		t.Errorf("its mode is %o", st.Mode&0o777)
	}
	friend, neighbour := staysAs(t, 65534, h.Path(), "READY=1"), staysAs(t, 65534, h.Path(), "STOPPING=1")
	h.Start(1, func(pidfd, pid int) bool {
		if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
			t.Errorf("the pidfd of process %d: %v", pid, err)
		}
		return pid == friend
	})
	if m := <-h.messages; !m.Notice.Ready || m.UID != 65534 || m.PID != friend {
		t.Errorf("got %+v", m)
	}
	if got := <-h.refused; got != string(notMember)+" (uid 65534)" {
		t.Errorf("refused: %s", got)
	}
	n, last := h.Refusals()
	if want := fmt.Sprintf("%s (pid %d, uid 65534)", notMember, neighbour); n != 1 || last != want {
		t.Errorf("%d refusals, the last %q, want %q", n, last, want)
	}
}

// A sender that is gone belongs to nothing any more, unless the owner knows better.
func TestSenderThatIsGone(t *testing.T) {
	needsRoot(t)
	for _, known := range []bool{false, true} {
		h := bound(t, Options{GID: -1, Access: unit.NotifyAll, Open: true})
		c := senderAs(t, 65534, h.Path(), "READY=1")
		must(t, c.Run())
		h.Start(1, func(int, int) bool { return known })
		if !known {
			if got := <-h.refused; got != string(senderGone)+" (uid 65534)" {
				t.Errorf("refused: %s", got)
			}
			continue
		}
		select {
		case m := <-h.messages:
			if !m.Notice.Ready {
				t.Errorf("got %+v", m)
			}
		case got := <-h.refused: // the kernel gives no pidfd of who is gone
			if got != string(senderGone)+" (uid 65534)" {
				t.Errorf("refused: %s", got)
			}
		}
	}
}

func TestMainOfAnotherUser(t *testing.T) {
	needsRoot(t)
	h := bound(t, Options{GID: -1, Access: unit.NotifyMain, Open: true})
	main := staysAs(t, 65534, h.Path(), "READY=1")
	staysAs(t, 65534, h.Path(), "STOPPING=1")
	h.Start(main, func(int, int) bool { return true })
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
	if got := <-h.refused; got != string(notMain)+" (uid 65534)" {
		t.Errorf("refused: %s", got)
	}
}

// Refusals is bounded, however many there are.
func TestRefusalsAreBounded(t *testing.T) {
	h := listen(t, Options{GID: -1, Access: unit.NotifyNone})
	const n = 200
	for range n {
		must(t, send(h.Path(), strings.Repeat("x", MaxMessage)))
	}
	must(t, h.Drain(t.Context()))
	got, last := h.Refusals()
	if want := fmt.Sprintf("%s (pid %d, uid %d)", nobodyMay, os.Getpid(), os.Getuid()); got != n || last != want {
		t.Errorf("%d, %q, want %d, %q", got, last, n, want)
	}
	if len(h.Dropped()) != 1 || len(h.refused) != 1 {
		t.Errorf("kept: %v, told: %d", h.Dropped(), len(h.refused))
	}
}

// T42: descriptors that cannot be closed, sent by a stranger, do not silence a
// socket that every user can write to.
func TestStrangersStuckDescriptorsDoNotSilence(t *testing.T) {
	h := listen(t, Options{GID: -1, Access: unit.NotifyAll, Open: true})
	supported := false
	h.now.raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS)
		supported = err == nil
	})
	if !supported {
		t.Skip("needs Linux 6.16")
	}
	for range maxClosing { // as if all closers were stuck
		closing <- struct{}{}
	}
	file, err := os.Open("/proc/self/exe")
	must(t, err)
	defer file.Close()
	for range fewFDs {
		must(t, send(h.Path(), "STATUS=x", int(file.Fd())))
		<-h.messages
	}
	must(t, send(h.Path(), "READY=1"))
	if m := <-h.messages; !m.Notice.Ready {
		t.Errorf("got %+v", m)
	}
	if n, last := h.Refusals(); n != 1 || last != string(cannotClose) {
		t.Errorf("%d refusals, %q", n, last)
	}
	if err := send(h.Path(), "STATUS=x", int(file.Fd())); err != unix.EPERM {
		t.Errorf("a descriptor is still taken: %v", err)
	}
	for range maxClosing {
		<-closing
	}
}

// The same before Linux 6.16: the socket is closed to all but root and the user of the
// main process.
func TestStrangersStuckDescriptorsOnAnOlderKernel(t *testing.T) {
	needsRoot(t)
	defer func(was func(int, bool) error) { passRights = was }(passRights)
	passRights = func(int, bool) error { return unix.ENOPROTOOPT }
	h := bound(t, Options{GID: -1, Access: unit.NotifyAll, Open: true})
	main := staysAs(t, 65534, h.Path(), "STATUS=main")
	h.Start(main, func(_, pid int) bool { return pid == main })
	<-h.messages
	free := stuckClosers()
	defer free()
	file, err := os.Open("/proc/self/exe")
	must(t, err)
	defer file.Close()
	for range fewFDs {
		must(t, send(h.Path(), "STATUS=x", int(file.Fd())))
		<-h.messages
	}
	must(t, send(h.Path(), "READY=1"))
	if m := <-h.messages; !m.Notice.Ready { // it was queued
		t.Errorf("got %+v", m)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(h.Path(), &st))
	if st.Mode&0o777 != 0o600 || st.Uid != 65534 {
		t.Errorf("its mode is %o, its user %d", st.Mode&0o777, st.Uid)
	}
	must(t, send(h.Path(), "STOPPING=1"))
	if m := <-h.messages; !m.Notice.Stopping {
		t.Errorf("got %+v", m)
	}
}

// Nor do as many as can be queued.
func TestQueueOfStuckDescriptorsDoesNotSilence(t *testing.T) {
	defer func(was func(int, bool) error) { passRights = was }(passRights)
	for name, pass := range map[string]func(int, bool) error{
		"now": passRights, "before Linux 6.16": func(int, bool) error { return unix.ENOPROTOOPT },
	} {
		t.Run(name, func(t *testing.T) {
			passRights = pass
			h := bound(t, Options{GID: -1, Access: unit.NotifyAll, Open: true})
			free := stuckClosers()
			defer free()
			file, err := os.Open("/proc/self/exe")
			must(t, err)
			defer file.Close()
			for range 6 {
				must(t, send(h.Path(), "STATUS=x", slices.Repeat([]int{int(file.Fd())}, maxFDs)...))
			}
			h.Start(1, nil)
			ready := make(chan struct{})
			go func() {
				defer close(ready)
				for m := range h.messages {
					if m.Notice.Ready {
						return
					}
				}
			}()
			for heard := false; !heard; {
				send(h.Path(), "READY=1") // until it comes to a socket that is read
				select {
				case <-ready:
					heard = true
				default:
				}
			}
		})
	}
}

// stuckClosers is as if all closers were stuck, until free is called.
func stuckClosers() (free func()) {
	for range maxClosing {
		closing <- struct{}{}
	}
	return func() {
		for range maxClosing {
			<-closing
		}
	}
}
