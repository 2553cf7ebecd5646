package logs

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// stuck is a sink whose disk hangs until the function is called.
func stuck(s *Sink) (free func()) {
	hang := make(chan struct{})
	s.errand(func() { <-hang })
	return func() { close(hang) }
}

// writes has a worker write, and waits until its first line has come.
func writes(t *testing.T, st *Stream, text string) {
	t.Helper()
	first, _, _ := strings.Cut(text, "\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow(t, st.sink, Query{Follow: true}, func(l Line) bool { return string(l.Text) != first })
	}()
	for st.sink.followers() == 0 {
		runtime.Gosched()
	}
	writeAll(st.WriteEnd(), []byte(text))
	<-done
}

func (s *Sink) followers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub.followers
}

// A disk that hangs holds up no worker: after a moment its lines wait in memory, and
// when the disk goes on they are written.
func TestDiskThatHangsHoldsUpNoWorker(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, who(0))
	s.mu.Lock()
	s.disk.late = time.Millisecond
	s.mu.Unlock()
	free := stuck(s)
	var want string
	for _, line := range []string{"one", "two", "three", "four"} {
		writes(t, st, line+"\n")
		if n := holds(st.WriteEnd()); n > len(line)+1 {
			t.Errorf("%d bytes are in the pipe", n)
		}
		want += line + "\n"
	}
	free()
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", want)
	if written, dropped, err := s.Stats(); written != 4 || dropped != 0 || err != nil {
		t.Errorf("%d written, %d dropped, %v", written, dropped, err)
	}
}

// Until then they stay in the pipe, where the next manager finds them.
func TestLineIsInThePipeUntilItIsWritten(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, who(0))
	free := stuck(s)
	writes(t, st, "mine\n")
	if n := holds(st.WriteEnd()); n != len("mine\n") {
		t.Errorf("%d bytes are in the pipe", n)
	}
	free()
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "mine\n")
}

// A worker has its pipe open for reading as well. That it takes its own lines back
// harms nobody.
func TestWorkerThatReadsItsOwnOutput(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, who(0))
	free := stuck(s)
	writes(t, st, "mine\n")
	if n, err := unix.Read(st.WriteEnd(), make([]byte, 100)); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	free()
	settle(t, s)
	unix.Write(st.WriteEnd(), []byte("more\n"))
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "mine\nmore\n")
}

// Where a file cannot be spliced to, it is written to, and that is told once.
func TestFileThatCannotBeSplicedTo(t *testing.T) {
	d, dir := newDir(t)
	told := make(chan string, 10)
	s := Open(d, "api", plenty, Elsewhere{Tell: func(service, what string) { told <- service + ": " + what }}, Stage{})
	t.Cleanup(s.Close)
	st := newStream(t, s, who(0))
	say(st, "one\n")
	s.await(func() { unix.FcntlInt(s.keep.log.Fd(), unix.F_SETFL, unix.O_APPEND) }, make(chan struct{})) // EINVAL
	for _, line := range []string{"two\n", "three\n", "four\n"} {
		unix.Write(st.WriteEnd(), []byte(line))
	}
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\ntwo\nthree\nfour\n")
	if got := <-told; !strings.HasPrefix(got, "api: output is read before it is written to "+dir+"/api.log, ") || len(told) > 0 {
		t.Errorf("told %q, and %d times more", got, len(told))
	}
	if written, dropped, err := s.Stats(); written != 4 || dropped != 0 || err != nil {
		t.Errorf("%d written, %d dropped, %v", written, dropped, err)
	}
}

const appendOnly = 0x20 // FS_APPEND_FL in ioctl_iflags(2)

// chattr +a: the file can only be opened to append.
func TestFileThatOnlyGrows(t *testing.T) {
	s, dir := newSink(t, plenty)
	say(newStream(t, s, who(0)), "one\n")
	settle(t, s)
	f, err := os.Open(dir + "/api.log")
	must(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|appendOnly)
	}
	if err != nil {
		t.Skip("the file system has no append-only files for us: ", err)
	}
	defer unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	must(t, s.Reopen())
	st := newStream(t, s, who(0))
	unix.Write(st.WriteEnd(), []byte("two\n"))
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\ntwo\n")
}

// A line without an end is the last of a pipe that nobody has any more.
func TestStreamEndsInTheMidstOfALine(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, who(0))
	writes(t, st, "one\nlast words")
	st.CloseWriteEnd()
	<-st.done
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\nlast words")
}

// Others wait for the end of a line that is begun in the file, but not for ever.
func TestOthersWaitForTheEndOfALine(t *testing.T) {
	s, dir := newSink(t, plenty)
	s.hold, s.keep.bear = time.Millisecond, time.Millisecond
	st, other := newStream(t, s, who(0)), newStream(t, s, who(1))
	writes(t, st, "Password: ")
	unix.Write(other.WriteEnd(), []byte("other\n"))
	other.Finish()
	unix.Write(st.WriteEnd(), []byte("ok\n"))
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "Password: \nother\nok\n")
}

// Who writes more at once than the pipe has room for waits there, and nobody is woken if
// the beginning of a line was in it.
func TestWriteThatIsLargerThanThePipe(t *testing.T) {
	s, dir := newSink(t, plenty)
	s.hold = time.Hour
	st := newStream(t, s, who(0))
	writes(t, st, "first\nbegun")
	for holds(st.WriteEnd()) != len("begun") {
		runtime.Gosched()
	}
	text := strings.Repeat(" and gone on with\n", 2*roomy/18)
	writeAll(st.WriteEnd(), []byte(text))
	st.Finish()
	settle(t, s)
	wantFile(t, dir+"/api.log", "first\nbegun"+text)
}

// A line that is longer than its pipe does not wait there for its end.
func TestPipeThatIsTooSmallForALine(t *testing.T) {
	for _, ours := range []bool{true, false} { // whether we have the write end as well
		s, dir := newSink(t, plenty)
		s.hold = time.Hour
		st := newStream(t, s, who(0))
		_, err := unix.FcntlInt(uintptr(st.WriteEnd()), unix.F_SETPIPE_SZ, os.Getpagesize())
		must(t, err)
		fd, err := unix.Dup(st.WriteEnd())
		must(t, err)
		w := os.NewFile(uintptr(fd), "output")
		if !ours {
			st.CloseWriteEnd()
		}
		line := strings.Repeat("x", 5*os.Getpagesize()) + "\n"
		w.WriteString(line)
		w.Close()
		st.Finish()
		settle(t, s)
		wantFile(t, dir+"/api.log", line)
	}
}

// A line that is begun in a file ends there, though the file is full.
func TestLineIsNotTornByRotation(t *testing.T) {
	s, dir := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 3})
	st := newStream(t, s, who(0))
	say(st, strings.Repeat("a", 900))
	say(st, strings.Repeat("a", 200)+"\nnext\n")
	settle(t, s)
	wantFile(t, dir+"/api.log.1", strings.Repeat("a", 1100)+"\n")
	wantFile(t, dir+"/api.log", "next\n")
}
