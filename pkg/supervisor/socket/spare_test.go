package socket

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// misplaced are ways in which a path is taken from a socket that works.
var misplaced = map[string]func(at string) error{
	"removed": os.Remove,
	"renamed": func(at string) error { return os.Rename(at, at+".old") },
	"replaced by a dead socket": func(at string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: at + ".new"}); err != nil {
			return err
		}
		return os.Rename(at+".new", at)
	},
}

// TestPathIsPutBack: the processes that have the socket serve on, however often it
// happens, and whether it is noticed by the watch or by the start of a process.
func TestPathIsPutBack(t *testing.T) {
	for what, do := range misplaced {
		for _, by := range []string{"watch", "audit", "listen"} {
			t.Run(what+" "+by, func(t *testing.T) {
				at := shortDir(t) + "/x"
				table := NewTable(nil)
				defer table.Close()
				must(t, table.Bind(spec("http", file(at))))
				must(t, table.Listen("http"))
				old := must2(t, table, 1)
				found, times := make(<-chan Finding), 3
				if by == "watch" {
					found, times = watching(t, table), 1 // what happens again is told later
				}
				for range times {
					must(t, do(at))
					os.Remove(at + ".old")
					switch by {
					case "watch":
						if f := <-found; f.Mended == "" || f.Dead != 0 || f.Err != nil {
							t.Fatalf("told: %+v", f)
						}
					case "audit":
						if f := table.Audit("http"); len(f) != 1 || f[0].Void || f[0].Err != nil {
							t.Fatalf("found: %+v", f)
						}
					case "listen":
						must(t, table.Listen("http"))
					}
					served(t, table)
				}
				if again := must2(t, table, 2); again.Cookie != old.Cookie {
					t.Error("the socket was replaced")
				}
			})
		}
	}
}

// TestNothingIsLeftOfAPath, nor of its second name; and what a supervisord that was
// killed has left is in nobody's way.
func TestNothingIsLeftOfAPath(t *testing.T) {
	dir := shortDir(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/x"}))
	must(t, os.Link(dir+"/x", dir+"/x.spare"))
	unix.Close(fd)
	table := NewTable(nil)
	must(t, table.Bind(spec("http", file(dir+"/x"))))
	must(t, table.Listen("http"))
	must(t, os.Remove(dir+"/x"))
	table.Audit("http")
	served(t, table)
	must(t, table.Refuse("http"))
	must(t, table.Listen("http"))
	served(t, table)
	must(t, table.Close())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestPathIsPutBackAfterARestart: it went while no supervisord was there.
func TestPathIsPutBackAfterARestart(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	f := begun(t, spec("http", file(at)))
	f.do("listen", nil)
	f.kill()
	must(t, os.Remove(at))
	table, _, err := f.next()
	must(t, err)
	must(t, table.Listen("http"))
	served(t, table)
}
