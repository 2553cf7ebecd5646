package socket

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// TestQueueIsShown: how many clients wait, and how many may, for each kind.
func TestQueueIsShown(t *testing.T) {
	for kind, a := range everyKind(t) {
		t.Run(kind, func(t *testing.T) {
			s := spec("http", a)
			s.Backlog = 5
			table := NewTable(nil)
			defer table.Close()
			must(t, table.Bind(s))
			if st := table.Status("http")[0]; st.Queue != 0 || st.Listening {
				t.Errorf("before Listen: %+v", st)
			}
			must(t, table.Listen("http"))
			table.Status("http")
			for range 3 {
				c, err := dial(table.Status("http")[0].Address)
				must(t, err)
				defer c.Close()
			}
			files, err := filesOf(table, "http", 0)
			must(t, err)
			// An accepted connection stands for all before it: they are queued by then.
			fd, err := accept(files[0].FD)
			must(t, err)
			defer unix.Close(fd)
			if a.Network == "unix" && noDiag.Load() {
				t.Skip("this kernel does not tell the queues of unix sockets (unix_diag)")
			}
			waitFor(t, func() bool {
				st := table.Status("http")[0]
				return st.Queue == 2 && st.Limit == 5 && st.Drops == 0 && st.Err == nil && st.Listening
			})
		})
	}
}

// TestDropsAreCounted: who comes to a full queue is dropped by the kernel.
func TestDropsAreCounted(t *testing.T) {
	s := spec("http", tcp("127.0.0.1", 0))
	s.Backlog = 1
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(s))
	must(t, table.Listen("http"))
	files, err := filesOf(table, "http", 0)
	must(t, err)
	to, err := unix.Getsockname(files[0].FD)
	must(t, err)
	waitFor(t, func() bool {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		unix.Connect(fd, to)
		return table.Status("http")[0].Drops > 0
	})
}

// waitFor repeats a look until it shows what must come, a bounded number of times.
func waitFor(t *testing.T, seen func() bool) {
	t.Helper()
	for range 1000 {
		if seen() {
			return
		}
	}
	t.Error("it never came")
}

// TestAnswersThatAreNone: what sock_diag says is parsed with care.
func TestAnswersThatAreNone(t *testing.T) {
	good := make([]byte, replyLen+12)
	binary.NativeEndian.PutUint16(good[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(good[replyLen:], 12)
	binary.NativeEndian.PutUint16(good[replyLen+2:], attributeQueue)
	binary.NativeEndian.PutUint32(good[replyLen+4:], 3)
	binary.NativeEndian.PutUint32(good[replyLen+8:], 7)
	if queue, limit := parseDiag(good); queue != 3 || limit != 7 {
		t.Errorf("%d of %d", queue, limit)
	}
	for n := range good {
		if queue, limit := parseDiag(good[:n]); queue != -1 || limit != -1 {
			t.Errorf("%d bytes: %d of %d", n, queue, limit)
		}
	}
	for _, size := range []uint16{0, 3, 13, 65535} {
		bad := append([]byte(nil), good...)
		binary.NativeEndian.PutUint16(bad[replyLen:], size)
		if queue, _ := parseDiag(bad); queue != -1 {
			t.Errorf("size %d: %d", size, queue)
		}
	}
	if queue, limit := unixQueue(-1); queue != -1 || limit != -1 {
		t.Errorf("no socket: %d of %d", queue, limit)
	}
}
