package logs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// The fakes are this binary: programs that write as services do.
var programs = map[string]func(arg string){
	"bursts":     bursts,
	"both":       both,
	"stdout":     devStdout,
	"supervisor": supervisor,
	"outlive":    outlive,
	"flip":       flip,
	"succeed":    succeed,
	"long":       long,
}

func TestMain(m *testing.M) {
	if p, ok := programs[os.Getenv("LOGS_TEST_PROGRAM")]; ok {
		p(os.Getenv("LOGS_TEST_ARG"))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// program is a fake. Its name in /proc can be run by any user.
func program(name, arg string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"LOGS_TEST_PROGRAM=" + name, "LOGS_TEST_ARG=" + arg, "GORACE=atexit_sleep_ms=0"}
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// run starts a fake with its output in st, and ends st when it has ended.
func run(t *testing.T, st *Stream, c *exec.Cmd) {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	out := os.NewFile(uintptr(fd), "output")
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	must(t, c.Start())
	st.CloseWriteEnd()
	if err := c.Wait(); err != nil {
		t.Errorf("the program failed: %v\n%s", err, st.Tail())
	}
	st.Finish()
}

// bursts writes as many numbered lines of 100 bytes, in bursts of 64.
func bursts(arg string) {
	n, _ := strconv.Atoi(arg)
	w := bufio.NewWriterSize(os.Stdout, 64*100)
	for i := range n {
		w.WriteString(burst(i))
	}
	w.Flush()
}

func burst(i int) string { return fmt.Sprintf("line %06d %s\n", i, strings.Repeat("x", 87)) }

// both writes to stdout and stderr in turn.
func both(arg string) {
	n, _ := strconv.Atoi(arg)
	for i := range n {
		f := os.Stdout
		if i%2 == 1 {
			f = os.Stderr
		}
		fmt.Fprintf(f, "%d\n", i)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var plenty = unit.Log{File: true, MaxSize: 64 << 20, MaxFiles: 5}

// newDir is a log directory and its path.
func newDir(t testing.TB) (*safepath.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	d, err := safepath.MakeDir(path, 0o750)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d, path
}

// newSink is the sink of a service named api, and the path of its directory.
func newSink(t testing.TB, spec unit.Log) (*Sink, string) {
	d, path := newDir(t)
	s := openSink(d, spec)
	t.Cleanup(s.Close)
	return s, path
}

// openSink is a sink that waits for a disk for as long as it takes, so that no
// line is lost where the machine is slow.
func openSink(d *safepath.Dir, spec unit.Log) *Sink {
	s := Open(d, "api", spec, Elsewhere{}, Stage{})
	s.disk.late, s.hold = time.Hour, time.Hour
	return s
}

// newStream is an invocation without a process: say puts its words in its mouth.
func newStream(t testing.TB, s *Sink, m Meta) *Stream {
	st, err := s.Stream(m, -1, -1)
	must(t, err)
	t.Cleanup(st.Finish)
	return st
}

func say(st *Stream, text string) {
	st.sink.accept(chunk{from: st, time: time.Now(), text: []byte(text), lines: countLines([]byte(text))})
}

// settle returns when all that was said is on the disk, or lost.
func settle(t testing.TB, s *Sink) {
	t.Helper()
	if !s.await(func() {}, make(chan struct{})) {
		t.Fatal("the disk does not answer")
	}
}

// read is what a query yields without following.
func read(t testing.TB, s *Sink, q Query) []Line {
	t.Helper()
	var all []Line
	for l, err := range s.Read(context.Background(), q) {
		if err != nil {
			t.Error(err)
		}
		all = append(all, l)
	}
	return all
}

var all = Query{N: -1}

func texts(lines []Line) []string {
	var s []string
	for _, l := range lines {
		if l.Lost > 0 {
			s = append(s, fmt.Sprintf("(%d lost)", l.Lost))
			continue
		}
		s = append(s, string(l.Text))
	}
	return s
}

func wantLines(t testing.TB, got []Line, want ...string) {
	t.Helper()
	if !slices.Equal(texts(got), want) {
		t.Errorf("got lines %q\nwant      %q", texts(got), want)
	}
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s holds %q\nwant %q", path, got, want)
	}
}

func TestBurstsArriveByteForByte(t *testing.T) {
	s, dir := newSink(t, plenty)
	const n = 10_000 // 1 MB
	run(t, newStream(t, s, Meta{Invocation: 1}), program("bursts", strconv.Itoa(n)))
	settle(t, s)

	var want strings.Builder
	for i := range n {
		want.WriteString(burst(i))
	}
	wantFile(t, dir+"/api.log", want.String())
	if written, dropped, err := s.Stats(); written != n || dropped != 0 || err != nil {
		t.Errorf("stats say %d written, %d dropped, %v", written, dropped, err)
	}
}

func TestStdoutAndStderrKeepTheirOrder(t *testing.T) {
	s, dir := newSink(t, plenty)
	run(t, newStream(t, s, Meta{Invocation: 1}), program("both", "500"))
	settle(t, s)
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintln(&want, i)
	}
	wantFile(t, dir+"/api.log", want.String())
}

func TestLastLineWithoutEndIsKeptAndGetsOneBeforeTheNextWriter(t *testing.T) {
	s, dir := newSink(t, plenty)
	first := newStream(t, s, Meta{Invocation: 1, Tag: 0x101})
	unix.Write(first.WriteEnd(), []byte("ready\npanic: no"))
	first.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "ready\npanic: no")
	if got := string(first.Tail()); got != "ready\npanic: no" {
		t.Errorf("the tail is %q", got)
	}

	second := newStream(t, s, Meta{Invocation: 2, Tag: 0x102})
	unix.Write(second.WriteEnd(), []byte("hello\n"))
	second.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "ready\npanic: no\nhello\n")
	if written, _, _ := s.Stats(); written != 3 {
		t.Errorf("stats say %d lines", written)
	}
	wantLines(t, read(t, s, Query{N: -1, Tag: 0x102}), "hello")
	wantLines(t, read(t, s, Query{N: -1, Tag: 0x101}), "ready", "panic: no")
}

// A prompt, or the last words of a program that hangs, are there although their line
// has no end yet; and when it comes, the line is one.
func TestLineWithoutEndIsThereSoon(t *testing.T) {
	s, dir := newSink(t, plenty)
	s.hold = time.Millisecond
	st := newStream(t, s, Meta{Invocation: 1, Tag: 7})
	unix.Write(st.WriteEnd(), []byte("Password: "))
	var got []Line
	follow(t, s, Query{N: -1, Follow: true}, func(l Line) bool {
		if got = append(got, l); len(got) == 1 {
			unix.Write(st.WriteEnd(), []byte("ok\nnext\n"))
		}
		return len(got) < 3
	})
	wantLines(t, got, "Password: ", "ok", "next")
	if !got[0].Part || got[1].Part || got[2].Part {
		t.Errorf("pieces: %+v", got)
	}
	settle(t, s)
	wantFile(t, dir+"/api.log", "Password: ok\nnext\n")
	wantLines(t, read(t, s, all), "Password: ok", "next")
	if tail := string(st.Tail()); tail != "Password: ok\nnext\n" {
		t.Errorf("the tail is %q", tail)
	}
}

// A line in pieces counts as one, and its pieces are marked.
func TestPiecesCountAsOneLine(t *testing.T) {
	s, _ := newSink(t, plenty)
	st := newStream(t, s, Meta{Invocation: 1})
	long := strings.Repeat("a", MaxLine)
	say(st, "first\n"+long+long+"b\nlast, and no end")
	settle(t, s)
	for n, want := range [][]string{{}, {"last, and no end"}, {long, long, "b", "last, and no end"}, {"first", long, long, "b", "last, and no end"}} {
		got := read(t, s, Query{N: n})
		wantLines(t, got, want...)
		for _, l := range got {
			if whole := len(l.Text) <= 5; l.Part == whole {
				t.Errorf("%.10q: a piece: %v", l.Text, l.Part)
			}
		}
	}
}

// What an invocation has printed is found by the beginning of its id when it has ended,
// also by the next supervisord, and in files that were rotated or compressed.
func TestInvocationsThatHaveEnded(t *testing.T) {
	dir, _ := newDir(t)
	spec := unit.Log{File: true, MaxSize: 1000, MaxFiles: 50, Compress: true}
	s := openSink(dir, spec)
	for n := range 30 {
		say(newStream(t, s, Meta{Invocation: unit.Invocation(n + 1), Tag: Tag(n + 100)}), fmt.Sprintf("I am %d %s\n", n, strings.Repeat("x", 100)))
	}
	awaitCompression(s)
	s.Close()
	s = openSink(dir, spec)
	defer s.Close()
	for n := range 30 {
		got := read(t, s, Query{N: 100, Tag: Tag(n + 100)})
		if len(got) != 1 || !strings.HasPrefix(string(got[0].Text), fmt.Sprintf("I am %d ", n)) || !s.Knows(t.Context(), Tag(n+100)) {
			t.Errorf("of the invocation %d: %q", n, texts(got))
		}
	}
	if s.Knows(t.Context(), 99) {
		t.Error("it knows who never was")
	}
	if _, ok := TagOf("0000006"); ok {
		t.Error("seven digits are enough")
	}
	if tag, ok := TagOf("00000064aaaaaaaabbbbbbbbcccccccc"); !ok || tag != 100 {
		t.Errorf("the tag is %v, %v", tag, ok)
	}
}

// Lines of a time, from files and from memory.
func TestLinesOfATime(t *testing.T) {
	begin := time.Now().Truncate(time.Second)
	for _, spec := range []unit.Log{plenty, {}} {
		s, _ := newSink(t, spec)
		st := newStream(t, s, Meta{Invocation: 1})
		for n := range 10 {
			text := fmt.Appendf(nil, "%d%s\n", n, strings.Repeat(" ", minMark))
			st.sink.accept(chunk{from: st, time: begin.Add(time.Duration(n) * time.Minute), text: text, lines: 1})
		}
		settle(t, s)
		for _, test := range []struct {
			since, until time.Duration
			n            int
			want         string
		}{{3, 5, -1, "345"}, {3, 5, 2, "45"}, {-1, 100, 1, "9"}, {20, 30, -1, ""}, {-9, -8, -1, ""}} {
			var got string
			for _, l := range read(t, s, Query{N: test.n, Since: begin.Add(test.since * time.Minute), Until: begin.Add(test.until * time.Minute)}) {
				got += strings.TrimSpace(string(l.Text))
			}
			if got != test.want {
				t.Errorf("file %v, from %d to %d, the last %d: %q, want %q", spec.File, test.since, test.until, test.n, got, test.want)
			}
		}
	}
}

// A line that is too long to be held back is written as it comes. Other writers wait for
// its end, but not for ever: then they end it, so that each line of the file is of one
// writer.
func TestLongLinesComeInPieces(t *testing.T) {
	s, dir := newSink(t, plenty)
	long := strings.Repeat("a", MaxLine)
	st, other := newStream(t, s, Meta{Invocation: 1}), newStream(t, s, Meta{Invocation: 2})
	say(st, long+long)
	say(st, "b\n"+long+"\n")
	say(st, long)
	say(other, "mine\n") // waits for the end of that line
	say(st, "rest\n")
	say(st, long)
	s.await(func() { s.keep.until = time.Time{} }, make(chan struct{})) // which now takes too long
	say(other, "mine\n")
	say(st, "rest\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", long+long+"b\n"+long+"\n"+long+"rest\nmine\n"+long+"\nmine\nrest\n")
	wantLines(t, read(t, s, all), long, long, "b", long, long, "rest", "mine", long, "mine", "rest")
}

func TestStreamHoldsBackWhatIsNoLineYet(t *testing.T) {
	s, dir := newSink(t, plenty)
	st, other := newStream(t, s, Meta{Invocation: 1}), newStream(t, s, Meta{Invocation: 2})
	unix.Write(st.WriteEnd(), []byte("whole\nhal"))
	follow(t, s, Query{N: -1, Follow: true}, func(l Line) bool { return string(l.Text) != "whole" })
	say(other, "other\n")
	unix.Write(st.WriteEnd(), []byte("f\n"))
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "whole\nother\nhalf\n")
}

// follow reads until the function says that it has seen enough.
func follow(t testing.TB, s *Sink, q Query, more func(Line) bool) {
	t.Helper()
	for l, err := range s.Read(context.Background(), q) {
		if err != nil {
			t.Error(err)
		}
		if !more(l) {
			return
		}
	}
	t.Error("following came to an end by itself")
}

func TestTailIsTheLastWholeLines(t *testing.T) {
	s := Open(nil, "api", unit.Log{}, Elsewhere{}, Stage{})
	defer s.Close()
	st := newStream(t, s, Meta{Invocation: 1})
	for i := range 1000 {
		say(st, burst(i))
		if i == 10 && len(st.Tail()) != 1100 {
			t.Errorf("after 11 lines the tail has %d bytes", len(st.Tail()))
		}
	}
	got := string(st.Tail())
	want := ""
	for i := 1000 - TailSize/100; i < 1000; i++ {
		want += burst(i)
	}
	if got != want {
		t.Errorf("got a tail of %d bytes that begins with %q, want %d, %q", len(got), got[:20], len(want), want[:20])
	}
	say(st, strings.Repeat("y", 3*TailSize))
	if got := string(st.Tail()); got != strings.Repeat("y", TailSize) {
		t.Errorf("the tail of a long line has %d bytes", len(got))
	}
	if len(st.tail.marks) > TailSize/minMark+2 {
		t.Errorf("there are %d marks", len(st.tail.marks))
	}
}

func TestWithoutFilesThePastIsReadFromTails(t *testing.T) {
	s := Open(nil, "api", plenty, Elsewhere{}, Stage{})
	defer s.Close()
	for i := 1; i <= keptTails+2; i++ {
		st := newStream(t, s, Meta{Invocation: unit.Invocation(i), Generation: unit.Generation(i % 2)})
		say(st, fmt.Sprintf("%d\n", i))
		st.Finish()
	}
	wantLines(t, read(t, s, all), "3", "4", "5", "6")
	wantLines(t, read(t, s, Query{N: 2}), "5", "6")
	wantLines(t, read(t, s, Query{N: 2, Generation: 1}), "3", "5")
	if l := read(t, s, Query{N: 1})[0]; l.Time.IsZero() || l.Invocation != 6 {
		t.Errorf("got %+v", l)
	}
}

func TestSinkWithoutFilesMakesNone(t *testing.T) {
	s, dir := newSink(t, unit.Log{})
	say(newStream(t, s, Meta{}), "hello\n")
	must(t, s.Reopen())
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("there is %v", names)
	}
	s.Configure(plenty)
	say(newStream(t, s, Meta{}), "world\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "world\n")
	s.Configure(unit.Log{})
	say(newStream(t, s, Meta{}), "again\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "world\n")
}

func TestStreamAfterCloseIsRefused(t *testing.T) {
	s, _ := newSink(t, plenty)
	s.Close()
	if _, err := s.Stream(Meta{}, -1, -1); err == nil {
		t.Error("there is a stream")
	}
	s.Close()
	s.Configure(plenty)
	read(t, s, all)
}

// What a worker has said when supervisord leaves is in the files or in the pipe.
func TestCloseLeavesThePipeAsItIs(t *testing.T) {
	s, dir := newSink(t, plenty)
	st, err := s.Stream(Meta{}, -1, -1)
	must(t, err)
	worker, err := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(worker)
	unix.Write(worker, []byte("before\n"))
	follow(t, s, Query{N: -1, Follow: true}, func(Line) bool { return false })
	s.Close()
	wantFile(t, dir+"/api.log", "before\n")

	unix.Write(worker, []byte("after\n"))
	b := make([]byte, 100)
	if n, _ := unix.Read(worker, b); string(b[:n]) != "after\n" {
		t.Errorf("the pipe holds %q", b[:n])
	}
}
