package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

func init() {
	strangers["listens again and again"] = listensAgainAndAgain
	strangers["knocks"] = knocks
}

// listensAgainAndAgain is a supervisord that starts a thousand times, under the
// umask of a careless parent.
func listensAgainAndAgain(args []string) error {
	syscall.Umask(0)
	dir, err := safepath.OpenDir(args[0])
	if err != nil {
		return err
	}
	for range 1000 {
		l, err := Listen(dir, socketName)
		if err != nil {
			return err
		}
		l.Close()
		if err := Unlink(dir, socketName, NodeOf(dir, socketName)); err != nil {
			return err
		}
	}
	return nil
}

// knocks connects until stdin ends, and prints what came of it.
func knocks(args []string) error {
	var over atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	fmt.Println("ready")
	seen := map[error]int{}
	for last := false; !last; {
		last = over.Load()
		seen[knock(args[0])]++
	}
	for err, n := range seen {
		fmt.Println(err, n)
	}
	return nil
}

// T1: there is no moment between bind and chmod at which a stranger gets in, since
// the socket is born with its mode.
func TestAThousandStartsLetNoStrangerIn(t *testing.T) {
	dir := street(t)
	s := meet(t, somebody, "knocks", filepath.Join(dir, socketName))
	s.line()
	starts := meet(t, 0, "listens again and again", dir)
	starts.dismiss()
	seen := s.dismiss()
	for line := range strings.Lines(seen) {
		if !strings.HasPrefix(line, "permission denied") && !strings.HasPrefix(line, "no such file") {
			t.Errorf("a stranger who knocks saw: %s", line)
		}
	}
	if !strings.Contains(seen, "permission denied") {
		t.Errorf("the stranger never came at the right time: %s", seen)
	}
}

func TestSocketIsMadeWithItsMode(t *testing.T) {
	h := serve(t, street(t), &fake{})
	st, err := os.Stat(h.path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v", st.Mode())
	}
}

// T2, T11: only what nobody answers from is replaced.
func TestListenReplacesOnlyTheDead(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(t *testing.T, path string)
		want string // in the error; empty: it is replaced
	}{
		{"a socket that nobody listens on", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, ""},
		{"a socket that somebody listens on", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another supervisord answers there"},
		{"a file", func(t *testing.T, path string) { write(t, path) }, "no socket"},
		{"a link", func(t *testing.T, path string) {
			write(t, path+".target")
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		}, "no socket"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "no socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := street(t)
			path := filepath.Join(at, socketName)
			c.put(t, path)
			before, _ := os.Lstat(path)
			dir, err := safepath.OpenDir(at)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			l, err := Listen(dir, socketName)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v, want %q", err, c.want)
			}
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Error("it was touched")
			}
		})
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// T12: descriptors that are sent to us are refused where the kernel can do that.
func TestDescriptorsAreRefused(t *testing.T) {
	h := serve(t, street(t), &fake{})
	c := h.raw(t).(*net.UnixConn)
	_, _, err := c.WriteMsgUnix([]byte("G"), unix.UnixRights(0), nil)
	if !passRightsCanBeRefused(t) {
		t.Skip("the kernel has no SO_PASSRIGHTS (before 6.16)")
	}
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("sending a descriptor: %v, want EPERM", err)
	}
}

func passRightsCanBeRefused(t *testing.T) bool {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, soPassRights, 0) == nil
}

func TestAPathMayBeLong(t *testing.T) {
	dir := filepath.Join(street(t), strings.Repeat("d", 100), strings.Repeat("e", 100))
	h := serve(t, dir, &fake{info: Info{PID: 7}})
	i, err := h.visit(t).Info(t.Context())
	if err != nil || i.PID != 7 {
		t.Errorf("Info = %+v, %v", i, err)
	}
	if len(h.path) < 108 {
		t.Error("the path is not long: " + strconv.Itoa(len(h.path)))
	}
}

// A server goes on when its socket is bound again, for old clients and new ones;
// what others put there is left alone at the end.
func TestSocketIsBoundAgain(t *testing.T) {
	dir := street(t)
	h := serve(t, dir, &fake{info: Info{PID: 7}})
	old := h.visit(t)
	if _, err := old.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := safepath.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	was := NodeOf(d, socketName)
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	if NodeOf(d, socketName) == was {
		t.Error("it is not missed")
	}
	l, err := Listen(d, socketName)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- h.Serve(l) }()
	for _, c := range []*Client{old, h.visit(t)} {
		if i, err := c.Info(t.Context()); err != nil || i.PID != 7 {
			t.Errorf("%v, %v", i, err)
		}
	}
	if err := Unlink(d, socketName, was); err != nil {
		t.Error(err)
	}
	if NodeOf(d, socketName) == (Node{}) {
		t.Error("another socket was removed")
	}
	h.leave(t)
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("Serve = %v", err)
	}
}
