package logs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A keeping is what outlives managers: the pipes of streams, and the stage.
type keeping struct {
	t     *testing.T
	fds   []int
	pipes [][2]int
	stage private
}

func keep(t *testing.T, streams int) *keeping {
	t.Helper()
	k := &keeping{t: t}
	for range streams {
		r, w, err := pipe(-1, -1)
		must(t, err)
		k.pipes = append(k.pipes, [2]int{r, w})
		k.fds = append(k.fds, r, w)
	}
	var err error
	k.stage, err = newPrivate()
	must(t, err)
	k.fds = append(k.fds, k.stage.r, k.stage.w)
	t.Cleanup(func() {
		for _, fd := range k.fds {
			unix.Close(fd)
		}
	})
	return k
}

func (k *keeping) dup(fd int) int {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	must(k.t, err)
	return own
}

// open is the sink of the next manager.
func (k *keeping) open(d *safepath.Dir) *Sink {
	s := prepare(d, "api", plenty, Elsewhere{}, Stage{R: k.dup(k.stage.r), W: k.dup(k.stage.w)})
	s.disk.late, s.hold, s.keep.bear = time.Hour, time.Hour, time.Hour
	s.goOn()
	k.t.Cleanup(s.Close)
	return s
}

// who wrote to a pipe.
func who(i int) Meta { return Meta{Invocation: 1, Tag: Tag(i + 1), Instance: i} }

func (k *keeping) resume(s *Sink, i int) *Stream {
	k.t.Helper()
	st, err := s.Resume(who(i), k.dup(k.pipes[i][0]), k.dup(k.pipes[i][1]), nil)
	must(k.t, err)
	k.t.Cleanup(st.Finish)
	return st
}

// What waits in a pipe comes when the next manager is there, and the tail goes on.
func TestNextManagerGoesOnWithTheStream(t *testing.T) {
	d, dir := newDir(t)
	k := keep(t, 1)
	s := k.open(d)
	st := k.resume(s, 0)
	writes(t, st, "one\ntwo\nth")
	st.abandon()
	s.Close()
	unix.Write(k.pipes[0][1], []byte("ree\nfour\n"))
	s = k.open(d)
	st = k.resume(s, 0)
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\ntwo\nthree\nfour\n")
	if tail := string(st.Tail()); tail != "one\ntwo\nthree\nfour\n" {
		t.Errorf("the tail is %q", tail)
	}
	wantLines(t, read(t, s, Query{N: -1, Tag: who(0).Tag}), "one", "two", "three", "four")
}

// The tail of a stream has nothing of others, and is found at the end of a long file.
func TestTailIsReadBack(t *testing.T) {
	d, _ := newDir(t)
	s := openSink(d, plenty)
	mine, other := newStream(t, s, who(0)), newStream(t, s, who(1))
	var want string
	for i := range 3 * maxRecall / 100 {
		say(mine, burst(i))
		say(other, "of another\n")
		want += burst(i)
	}
	settle(t, s)
	s.Close()
	k := keep(t, 1)
	s = k.open(d)
	st := k.resume(s, 0)
	st.Finish()
	tail := string(st.Tail())
	if len(tail) < TailSize-200 || !strings.HasSuffix(want, tail) {
		t.Errorf("%d bytes: %.200q", len(tail), tail)
	}
}

// What a killed manager had between pipe and file comes first; a line of which the file
// has the beginning is gone on with before anybody else has a turn.
func TestLineThatWasCutByAKillIsMended(t *testing.T) {
	d, dir := newDir(t)
	s := openSink(d, plenty)
	say(newStream(t, s, who(1)), "whole\n")
	say(newStream(t, s, who(0)), "begun")
	settle(t, s)
	s.Close()
	k := keep(t, 2)
	unix.Write(k.stage.w, []byte(" and staged"))
	unix.Write(k.pipes[0][1], []byte(" and rest\n"))
	unix.Write(k.pipes[1][1], []byte("other\n"))
	s = k.open(d)
	other := k.resume(s, 1)
	for len(other.Tail()) == 0 { // it has come, and waits
		runtime.Gosched()
	}
	st := k.resume(s, 0)
	st.Finish()
	other.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "whole\nbegun and staged and rest\nother\n")
	wantLines(t, read(t, s, Query{N: -1, Tag: who(0).Tag}), "begun and staged and rest")
}

// Also where nobody is left who wrote it.
func TestWhatAKilledManagerHadIsWrittenAtOnce(t *testing.T) {
	d, dir := newDir(t)
	k := keep(t, 0)
	unix.Write(k.stage.w, []byte("one\ntwo\n"))
	s := k.open(d)
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\ntwo\n")
	if written, _, _ := s.Stats(); written != 2 {
		t.Errorf("%d lines are written", written)
	}
}

// Records of text that never came into the file are none.
func TestIndexOfAKilledManager(t *testing.T) {
	d, dir := newDir(t)
	s := openSink(d, plenty)
	say(newStream(t, s, who(0)), "mine\n")
	settle(t, s)
	s.Close()
	idx, err := os.OpenFile(dir+"/api.log.idx", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	for _, at := range []int64{5, 9, 100} {
		_, err = idx.Write(entry{Meta: who(1), offset: at, time: time.Now()}.append(nil))
		must(t, err)
	}
	idx.Close()
	s = openSink(d, plenty)
	defer s.Close()
	say(newStream(t, s, who(0)), "mine too\n")
	settle(t, s)
	wantLines(t, read(t, s, Query{N: -1, Tag: who(0).Tag}), "mine", "mine too")
	wantLines(t, read(t, s, Query{N: -1, Tag: who(1).Tag}))
}

// With a kept pipe there is no end of file: Finish is the end, and what keeps the pipe
// is told before it is closed.
func TestKeptStreamEndsWithFinish(t *testing.T) {
	s, dir := newSink(t, plenty)
	before := openFDs(t)
	st := newStream(t, s, who(0))
	forgotten := make(chan bool, 1)
	var ends [2]int
	must(t, st.Keep(func(r, w int) (func(), error) {
		ends = [2]int{r, w}
		return func() {
			_, err := unix.FcntlInt(uintptr(ends[0]), unix.F_GETFD, 0)
			_, err2 := unix.FcntlInt(uintptr(ends[1]), unix.F_GETFD, 0)
			forgotten <- err == nil && err2 == nil
		}, nil
	}))
	st.CloseWriteEnd()
	unix.Write(ends[1], []byte("last words"))
	if len(forgotten) > 0 {
		t.Error("it was forgotten too early")
	}
	st.Finish()
	if open := <-forgotten; !open {
		t.Error("it was closed before it was forgotten")
	}
	settle(t, s)
	wantFile(t, dir+"/api.log", "last words")
	for openFDs(t) > before+4 { // the stage, and perhaps a spare pipe
		runtime.Gosched()
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

func TestPipeThatCannotBeKept(t *testing.T) {
	s, _ := newSink(t, plenty)
	st := newStream(t, s, who(0))
	if err := st.Keep(func(int, int) (func(), error) { return nil, unix.EMFILE }); err == nil || err.Error() != "cannot keep the output pipe of api: too many open files" {
		t.Error(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	if _, err := s.Resume(who(0), null, -1, nil); err == nil || err.Error() != "cannot go on with the output pipe of api: what was kept is not a pipe" {
		t.Error(err)
	}
}

// kills is how many managers are killed.
const kills = 60

// succeed is a manager for two streams. It ends with its stdin.
func succeed(path string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	d, err := safepath.OpenDir(path)
	fail(err)
	s := prepare(d, "api", plenty, Elsewhere{}, Stage{R: 7, W: 8})
	s.disk.late, s.hold, s.keep.bear = time.Hour, time.Hour, time.Hour
	s.goOn()
	for i := range 2 {
		_, err := s.Resume(who(i), 3+2*i, 4+2*i, nil)
		fail(err)
	}
	io.Copy(io.Discard, os.Stdin)
}

// long writes numbered lines, one for each byte of its stdin.
func long(arg string) {
	name, size, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(size)
	in := bufio.NewReader(os.Stdin)
	for i := 0; ; i++ {
		if _, err := in.ReadByte(); err != nil {
			return
		}
		os.Stdout.WriteString(longLine(name, i, n))
	}
}

func longLine(name string, i, size int) string {
	s := fmt.Sprintf("%s %06d ", name, i)
	return s + strings.Repeat(string(rune('a'+i%26)), size-len(s)-1) + "\n"
}

// A changes tells when a file in a directory has changed.
type changes struct {
	t  *testing.T
	fd int
	b  []byte
}

func watch(t *testing.T, dir string) *changes {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE)
	must(t, err)
	return &changes{t, fd, make([]byte, 4096)}
}

func (c *changes) wait() {
	c.t.Helper()
	for {
		_, err := unix.Read(c.fd, c.b)
		if err != unix.EINTR {
			must(c.t, err)
			return
		}
	}
}

// Two processes print long lines into one file, and the manager between is killed at
// any moment: each line is there once, and whole. Those of 10 kB are taken whole; those
// that are longer than MaxLine come in pieces, so the kill also comes in their midst.
func TestNoLineIsLostDoubledOrTornByKills(t *testing.T) {
	if os.Geteuid() == 0 && os.Getenv("LOGS_TEST_DIR") == "" {
		t.Run("as an ordinary user", func(t *testing.T) {
			dir, err := os.MkdirTemp("", "logs")
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			must(t, os.Chmod(dir, 0o777|os.ModeSticky))
			c := exec.Command("/proc/self/exe", "-test.run=^TestNoLineIsLostDoubledOrTornByKills$")
			c.Env = append(os.Environ(), "LOGS_TEST_DIR="+dir+"/log", "TMPDIR="+dir)
			c.Dir = "/"
			c.SysProcAttr = nobody()
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%.2000s", err, out)
			}
		})
	}
	for _, size := range []int{10_000, 50_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { killed(t, size) })
	}
}

func killed(t *testing.T, size int) {
	d, dir := newDir(t)
	k := keep(t, 2)
	changed := watch(t, dir)
	var give [2]*os.File
	var printers []*exec.Cmd
	for i := range give {
		c := program("long", fmt.Sprintf("%c %d", 'A'+i, size))
		in, to, err := os.Pipe()
		must(t, err)
		out := os.NewFile(uintptr(k.dup(k.pipes[i][1])), "output")
		c.Stdin, c.Stdout, give[i] = in, out, to
		must(t, c.Start())
		in.Close()
		out.Close()
		printers = append(printers, c)
		defer to.Close()
	}
	const each = 6
	lines := 0
	print := func() {
		for _, f := range give {
			f.Write(make([]byte, each))
		}
		lines += each
	}
	for range kills {
		m := newManager(t, d.Path(), k.fds)
		print()
		changed.wait()
		for range rand.IntN(3000) {
			unix.Getpid()
		}
		m.kill(t)
	}
	m := newManager(t, d.Path(), k.fds)
	print()
	for i, c := range printers {
		give[i].Close()
		must(t, c.Wait())
	}
	for holds(k.pipes[0][0])+holds(k.pipes[1][0])+holds(k.stage.r) > 0 {
		runtime.Gosched() // what is in neither pipe is in the file
	}
	m.kill(t)
	text, err := os.ReadFile(dir + "/api.log")
	must(t, err)
	wantEachLineOnce(t, text, lines, size)
	wantOwners(t, d)
}

func wantEachLineOnce(t *testing.T, text []byte, lines, size int) {
	t.Helper()
	next := map[string]int{"A": 0, "B": 0}
	for line := range bytes.Lines(text) {
		name := string(line[:1])
		if want := longLine(name, next[name], size); string(line) != want {
			t.Fatalf("after %v lines there is %.40q… (%d bytes), not %.40q…", next, line, len(line), want)
		}
		next[name]++
	}
	if next["A"] != lines || next["B"] != lines {
		t.Errorf("%v lines, not %d of each", next, lines)
	}
}

// wantOwners: the index knows who wrote each line.
func wantOwners(t *testing.T, d *safepath.Dir) {
	t.Helper()
	s := openSink(d, plenty)
	defer s.Close()
	for _, l := range read(t, s, all) {
		if begins := l.Text[0] == 'A' || l.Text[0] == 'B'; begins && l.Tag != Tag(l.Text[0]-'A'+1) {
			t.Fatalf("%.20q is of %d", l.Text, l.Tag)
		}
	}
}

type manager struct {
	pid   int
	stdin *os.File
}

func newManager(t *testing.T, dir string, fds []int) *manager {
	t.Helper()
	in, stdin, err := os.Pipe()
	must(t, err)
	files := []uintptr{in.Fd(), 2, 2}
	for _, fd := range fds {
		files = append(files, uintptr(fd)) // raw numbers: the pipes stay non-blocking
	}
	env := append(os.Environ(), "LOGS_TEST_PROGRAM=succeed", "LOGS_TEST_ARG="+dir, "GORACE=atexit_sleep_ms=0")
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"manager"}, &syscall.ProcAttr{Env: env, Files: files})
	must(t, err)
	in.Close()
	return &manager{pid, stdin}
}

func (m *manager) kill(t *testing.T) {
	t.Helper()
	must(t, unix.Kill(m.pid, unix.SIGKILL))
	_, err := unix.Wait4(m.pid, nil, 0, nil)
	must(t, err)
	m.stdin.Close()
}
