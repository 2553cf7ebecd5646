package keeper

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

var update = flag.Bool("update", false, "write the golden files")

// One of each.
var messages = []message{
	{verb: askPut, number: 1, fields: []string{"out/web/17", "a text"}},
	{verb: askDrop, number: 2, fields: []string{"out/web/17"}},
	{verb: askList, number: 3},
	{verb: askSpawn, number: 4, fields: []string{"proc/web/17", "a text", "ctl/web/17", "1", "out/web/17#1", ""}},
	{verb: askAdopt, number: 5, fields: []string{"proc/web/17", "a text", "4711"}},
	{verb: askTell, number: 6, fields: []string{"READY=1"}},
	{verb: askUp, number: 7},
	{verb: askServing, number: 8},
	{verb: askHeard, number: 9, fields: []string{"15", "3"}},
	{verb: askPong, number: 10},
	{verb: askExit, number: 11, fields: []string{"0"}},
	{verb: askUpgrade, number: 12, fields: []string{"/usr/bin/supervisord"}},
	{verb: askReexec, number: 13, fields: []string{"/usr/bin/supervisord"}},

	{verb: sayHello, fields: []string{"1", "", "4711", "1024", "0"}},
	{verb: sayDone, number: 1 << 31, fields: []string{"17"}},
	*(&entry{
		key: "proc/web/17", meta: "a text", files: &files{}, state: Ended, status: 42 << 8,
		pid: 4711, foreign: true, birth: born{0xffff_ffff_f000, 5},
	}).message(3, 1024),
	{verb: sayEnded, fields: []string{"proc/web/17", decimal(Unknown)}},
	{verb: saySignal, fields: []string{"15", "3"}},
	{verb: sayPing, number: 10},
	{verb: sayGo, fields: []string{"3", "4711", "9", "it did not answer"}},
	{verb: sayLeave},
}

// The messages are as they were when Wire got its number. Whoever has to change this
// file adds one to Wire.
func TestTheWireIsAsItWas(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "wire %d\n", Wire)
	seen := map[verb]bool{}
	for _, m := range messages {
		v := verbs[m.verb]
		fmt.Fprintf(&b, "\n%s %d %q, at most %d files\n%s", v.name, m.number, m.fields, v.files, hex.Dump(m.encode()))
		seen[m.verb] = true
	}
	for verb := range verbs {
		if !seen[verb] {
			t.Errorf("there is no %s in it", verbs[verb].name)
		}
	}
	const file = "testdata/wire.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != b.String() {
		t.Errorf("the messages have changed (%v): add one to Wire, then go test -run WireIsAsItWas -update", err)
	}
}

func TestMessagesAreReadAsTheyWereWritten(t *testing.T) {
	for _, m := range messages {
		got, err := decode(m.encode())
		if err != nil || got.verb != m.verb || got.number != m.number || !slices.Equal(got.fields, m.fields) {
			t.Errorf("%+v was read as %+v, %v", m, got, err)
		}
	}
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	e := &entry{
		key: "k", meta: "m", files: &files{}, state: Ended, status: Unknown,
		pid: 1 << 22, foreign: true, birth: born{^uintptr(0), 6},
	}
	got, err := readEntry(e.message(1, ^uint64(0)))
	want := Entry{Key: "k", Meta: "m", State: Ended, PID: 1 << 22, Foreign: true, Status: Unknown, Base: ^uintptr(0), First: 6, NoFile: ^uint64(0)}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func seed(f *testing.F) {
	for _, m := range messages {
		f.Add(m.encode())
	}
	f.Add([]byte("\x01\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte(""))
}

func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		if again := m.encode(); string(again) != string(b) {
			t.Errorf("%x was read as %+v, which is %x", b, m, again)
		}
	})
}

// noTemplate forks nothing: half of what it is asked waits for ever.
type noTemplate struct {
	waiting []*spawn.Request
	asked   int
}

func (n *noTemplate) Ask(r *spawn.Request) { n.waiting = append(n.waiting, r) }

func (n *noTemplate) Answered() *spawn.Request {
	if n.asked++; len(n.waiting) == 0 || n.asked%2 == 0 {
		return nil
	}
	r := n.waiting[0]
	n.waiting = n.waiting[1:]
	r.Err = unix.EAGAIN
	return r
}

func (n *noTemplate) Expired() {}
func (n *noTemplate) Died(int) {}
func (n *noTemplate) FD() int  { return -1 }
func (n *noTemplate) PID() int { return 0 }

// alone is a keeper in this process, and the manager's end of its line.
func alone(t testing.TB) (k *keeper, m *manager, line int) {
	t.Helper()
	k = newKeeper(Options{})
	k.Times = k.Times.orDefaults(0)
	k.template = &noTemplate{}
	ours, theirs, err := newLine()
	if err = errors.Join(err, k.loop.open()); err != nil {
		t.Fatal(err)
	}
	m = newManager(k, ours)
	k.now = m
	if err := k.watch(ours, unix.EPOLLIN, m.ready); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.close()
		for e := k.table.next(0); e != nil; e = k.table.next(0) {
			k.table.remove(e)
		}
		unix.Close(theirs)
		unix.Close(k.epoll)
	})
	return k, m, theirs
}

// Whatever a manager says, the keeper goes on, and what it counts is right.
func FuzzAsked(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, m, line := alone(t)
		m.up, m.rules = true, true
		rights := unix.UnixRights(0, 1)
		for range 3 {
			for i := 0; i < len(b); { // messages of some lengths, with files now and then
				n := min(1+int(b[i])*2, len(b)-i)
				files := rights[:len(rights)*(i%2)]
				unix.Sendmsg(line, b[i:i+n], files, nil, unix.MSG_NOSIGNAL)
				i += n
			}
			unix.Sendmsg(line, b, rights, nil, unix.MSG_NOSIGNAL)
			m.ready()
			k.collect()
		}
		held := 0
		for _, e := range k.table.order {
			if e.files != nil {
				held += len(e.files.fds)
			}
			if k.table.entries[e.key] != e {
				t.Errorf("%q is not under its key", e.key)
			}
		}
		for _, s := range k.starts {
			held += len(s.own) + perChild
		}
		if k.table.held != held {
			t.Errorf("it holds %d, and thinks %d", held, k.table.held)
		}
	})
}

// Whatever a keeper says, a client goes on, or is lost.
func FuzzSaid(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newClient(Handler{Ping: func(func()) {}, Signal: func(Signal) {}})
		w := &call{done: make(chan struct{})}
		c.expectAnswer(w, &message{})
		for range 3 {
			m, err := decode(b)
			if err == nil {
				err = c.hear(&m, nil)
			}
			if err != nil {
				break
			}
		}
		c.lose(ErrLost)
		<-w.done
	})
}

func TestBackOff(t *testing.T) {
	var got []string
	for failed := range 13 {
		got = append(got, pause(failed).String())
	}
	const want = "10ms 10ms 20ms 40ms 80ms 160ms 320ms 640ms 1.28s 2.56s 5s 5s 5s"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("the pauses are %s", s)
	}
	if pause(1<<40) != pause(20) {
		t.Error("it gets impatient")
	}
}

func TestExitStatus(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]int{0: 0, 42 << 8: 42, 9: 137, 11 | 0x80: 139} {
		if got := exitStatus(ws); got != want {
			t.Errorf("%x: %d", ws, got)
		}
	}
}
