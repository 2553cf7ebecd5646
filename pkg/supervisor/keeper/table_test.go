package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func (t *table) names() (keys []string) {
	for e := t.next(0); e != nil; e = t.next(e.id) {
		keys = append(keys, e.key)
	}
	return keys
}

func openNull(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// A table is bounded, also where nothing in it is a file.
func TestTableIsFull(t *testing.T) {
	table := newTable()
	meta := strings.Repeat("x", maxMeta)
	put := func(i int) error {
		key := fmt.Sprint(i)
		err := table.free(key, meta)
		if err == nil {
			table.add(&entry{key: key, meta: meta})
		}
		return err
	}
	n := 0
	for n < 2000 && put(n) == nil {
		n++
	}
	if err := put(n); err != unix.ENOSPC {
		t.Errorf("there is room for %d: %v", n, err)
	}
	table.remove(table.entries["7"])
	if err := put(n); err != nil {
		t.Errorf("after one is gone: %v", err)
	}
}

// Entries are told in the order in which they came, whatever goes meanwhile.
func TestTableOrder(t *testing.T) {
	table := newTable()
	for i := range 6 {
		table.add(&entry{key: fmt.Sprint(i)})
	}
	table.entries["4"].state = spawning
	if got := table.names(); !slices.Equal(got, []string{"0", "1", "2", "3", "5"}) {
		t.Errorf("%v: who is only asked for is not there", got)
	}
	second := table.entries["1"].id
	table.remove(table.entries["1"])
	table.remove(table.entries["2"])
	if e := table.next(second); e.key != "3" {
		t.Errorf("behind one that is gone comes %s", e.key)
	}
	table.add(&entry{key: "1"})
	if got := table.names(); !slices.Equal(got, []string{"0", "3", "5", "1"}) {
		t.Errorf("%v", got)
	}
}

// What a start has been lent stays open until it is given back.
func TestTableLends(t *testing.T) {
	table := newTable()
	fd := openNull(t)
	e := table.add(&entry{key: "out"})
	table.fill(e, openNull(t), fd)
	got, from, err := table.lend("out", 1)
	if got != fd || err != nil {
		t.Fatalf("%d, %v", got, err)
	}
	for _, index := range []int{-1, 2} {
		if _, _, err := table.lend("out", index); err != unix.ENOENT {
			t.Errorf("%d: %v", index, err)
		}
	}
	table.remove(e)
	if !isOpen(fd) || table.held != 2 {
		t.Errorf("it is closed; %d are held", table.held)
	}
	if _, _, err := table.lend("out", 1); err != unix.ENOENT {
		t.Errorf("it is lent once more: %v", err)
	}
	table.giveBack(from)
	if isOpen(fd) || table.held != 0 {
		t.Errorf("it is open; %d are held", table.held)
	}
}

// A list is one thing that is to be said, however long, and tells of what there is when it
// is told.
func TestListing(t *testing.T) {
	k, _, _ := alone(t)
	for i := range 4 {
		k.table.fill(k.table.add(&entry{key: fmt.Sprint(i)}))
	}
	l := &listing{k: k, number: 7, upTo: k.table.last}
	k.table.add(&entry{key: "later"})
	var got []string
	for over := false; !over; {
		m := l.message()
		if again := l.message(); again.verb != m.verb {
			t.Error("it is not the same when it could not be sent")
		}
		if m.verb == sayEntry {
			got = append(got, m.fields[0])
		}
		over = l.sent()
		if len(got) == 2 {
			if e := k.table.entries["2"]; e != nil {
				k.table.remove(e)
			}
		}
		if m.number != 7 || over != (m.verb == sayDone) {
			t.Errorf("%+v ends it: %v", m, over)
		}
	}
	if s := strings.Join(got, ""); s != "013" {
		t.Errorf("it told of %s", s)
	}
}

// Who waits for somebody else does not hold a pause of our own against him.
func TestAPauseIsForgiven(t *testing.T) {
	l := newLoop()
	judge, plain := l.judge(func() {}), l.timer(func() {})
	judge.in(10 * time.Second)
	plain.in(10 * time.Second)
	judged, due := judge.at, plain.at

	l.woke = time.Now().Add(-1500 * time.Millisecond)
	l.forgive(1000)
	if judge.at != judged {
		t.Error("half a second is no pause")
	}
	l.woke = time.Now().Add(-8 * time.Second)
	l.forgive(1000)
	if d := judge.at.Sub(judged); d < 7*time.Second || d > 8*time.Second {
		t.Errorf("the deadline moved by %v", d)
	}
	if plain.at != due {
		t.Error("so did what is not about others")
	}
}

// Timers that are due are called, once, and not when another one has stopped them.
func TestTimers(t *testing.T) {
	l := newLoop()
	var got []string
	second := l.timer(func() { got = append(got, "second") })
	first := l.timer(func() { got = append(got, "first"); second.stop() })
	first.in(0)
	second.in(0)
	l.timer(func() { got = append(got, "third") }).in(0)
	l.timer(func() { got = append(got, "late") }).in(time.Hour)
	for len(got) < 2 {
		l.expire()
	}
	l.expire()
	if !slices.Equal(got, []string{"first", "third"}) {
		t.Errorf("%v were called", got)
	}
	if w := l.wait(); w < 1000 {
		t.Errorf("then it waits %d ms", w)
	}
}

// A descriptor that was closed and opened again is another one, also for what epoll said
// just before.
func TestWhatIsForgottenIsNotCalled(t *testing.T) {
	l := newLoop()
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.epoll)
	var p [2][2]int
	for i := range p {
		if err := unix.Pipe2(p[i][:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Write(p[i][1], []byte("x"))
		defer unix.Close(p[i][0])
		defer unix.Close(p[i][1])
	}
	called := 0
	for i := range p {
		other := p[1-i][0]
		l.watch(p[i][0], unix.EPOLLIN, func() {
			called++
			l.forget(other)
			l.watch(other, unix.EPOLLOUT, func() { t.Error("it was called for what the other waited for") })
		})
	}
	l.round()
	if called != 1 {
		t.Errorf("%d were called", called)
	}
}
