package socket

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// asked is everything that a question calls.
func asked(table *Table) string {
	waiting, _ := table.Waiting("http", 1)
	return fmt.Sprintf("%+v\n%v\n%+v\n%d\n%v\n%v",
		table.Status("http"), table.Look("http"), table.Processes("http"), waiting, table.Names(), table.Unclaimed())
}

// state is what the kernel has of a socket and around its path.
func state(t *testing.T, dir string, fd int) string {
	t.Helper()
	cookie, err := cookieOf(fd)
	flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	_, limit := tcpQueue(fd)
	filter, _ := filterLen(fd)
	options, _ := json.Marshal(observe(fd, tcp("", 0)))
	text := fmt.Sprintf("%d %v %#x %t %d %d %s\n", cookie, err, flags, accepts(fd), limit, filter, options)
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		var st unix.Stat_t
		must(t, unix.Lstat(dir+"/"+n.Name(), &st))
		text += fmt.Sprintln(n.Name(), st.Ino, st.Mode, st.Ctim)
	}
	return text
}

// TestQuestionsChangeNothing, whatever was done to the socket; what they find is shown,
// and mended at the next event.
func TestQuestionsChangeNothing(t *testing.T) {
	done := map[string]func(int) error{"remove": nil, "nothing": func(int) error { return nil }}
	for deed, do := range deeds {
		done[deed] = do
	}
	for deed, do := range done {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprint(deed, down), func(t *testing.T) {
				dir := shortDir(t)
				a := tcp("127.0.0.1", 0)
				if deed == "remove" {
					a = file(dir + "/x")
					do = func(int) error { return os.Remove(dir + "/x") }
				}
				unasked(t, dir, a, deed, do, down)
			})
		}
	}
}

func unasked(t *testing.T, dir string, a unit.Address, deed string, do func(int) error, down bool) {
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("http", a)))
	must(t, table.Listen("http"))
	f := must2(t, table, 1)
	if down {
		must(t, table.Refuse("http"))
		f.FD = must2(t, table, 0).FD // a path was bound anew
	}
	if err := do(f.FD); err != nil {
		return // it cannot be done to such a socket
	}
	before := state(t, dir, f.FD)
	said := asked(table)
	for range 3 {
		if again := asked(table); again != said {
			t.Errorf("they said\n%s\nand then\n%s", said, again)
		}
	}
	if after := state(t, dir, f.FD); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	found := table.Look("http")
	mended := table.Audit("http")
	if deed != "remove" && len(found) != len(mended) {
		t.Errorf("looking finds %v, and %v is mended", found, mended)
	}
	for _, f := range found {
		if f.Mended != "" || !strings.Contains(said, f.What) {
			t.Errorf("%v is not in what was said: %s", f, said)
		}
	}
}
