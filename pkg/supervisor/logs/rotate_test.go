package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Three generations write at once, over many rotations. Then each line is in the
// files exactly once, no line is cut, and the index knows whose each is.
func TestRotationUnderWritingKeepsEveryLineOnce(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%t", compress), func(t *testing.T) {
			spec := unit.Log{File: true, MaxSize: 40_000, MaxFiles: maxPast, Compress: compress}
			s, dir := newSink(t, spec)
			const n = 5000
			var running sync.WaitGroup
			for g := 1; g <= 3; g++ {
				st := newStream(t, s, Meta{Invocation: unit.Invocation(g), Generation: unit.Generation(10 * g), Instance: g, PID: 100 * g})
				running.Go(func() { run(t, st, program("bursts", strconv.Itoa(n))) })
			}
			running.Wait()
			awaitCompression(s)

			wantEachOnce(t, dir, spec.MaxSize, n, 3)
			for g := 1; g <= 3; g++ {
				got := read(t, s, Query{N: -1, Generation: unit.Generation(10 * g)})
				if len(got) != n {
					t.Fatalf("the index finds %d lines of generation %d, want %d", len(got), 10*g, n)
				}
				for i, l := range got {
					if string(l.Text)+"\n" != burst(i) || l.PID != 100*g || l.Instance != g || l.Invocation != unit.Invocation(g) || l.Time.IsZero() {
						t.Fatalf("line %d of generation %d is %+v, %q", i, 10*g, l.Meta, l.Text)
					}
				}
			}
		})
	}
}

func wantEachOnce(t *testing.T, dir string, maxSize int64, n, times int) {
	t.Helper()
	logs, _ := filepath.Glob(dir + "/api.log*")
	seen := make(map[string]int)
	for _, name := range logs {
		if strings.HasSuffix(name, ".idx") {
			continue
		}
		text := slurp(t, name)
		if int64(len(text)) > maxSize || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s has %d bytes and ends with %q", name, len(text), text[max(0, len(text)-10):])
		}
		for line := range strings.Lines(text) {
			seen[line]++
		}
	}
	if len(seen) != n {
		t.Errorf("there are %d different lines, want %d", len(seen), n)
	}
	for i := range n {
		if seen[burst(i)] != times {
			t.Fatalf("line %d is there %d times, want %d", i, seen[burst(i)], times)
		}
	}
	if len(logs) < 20 {
		t.Errorf("there are %d files only", len(logs))
	}
}

func slurp(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		r, err = gzip.NewReader(f)
		must(t, err)
	}
	text, err := io.ReadAll(r)
	must(t, err)
	return string(text)
}

// awaitCompression returns when nothing is being compressed. Each question is
// answered by the goroutine that would begin the next.
func awaitCompression(s *Sink) {
	for busy := true; busy; {
		s.await(func() { busy = s.keep.squeeze != nil }, make(chan struct{}))
	}
}

func TestOldFilesGo(t *testing.T) {
	s, dir := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 3})
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	for i := range 95 {
		say(st, burst(i))
	}
	settle(t, s)
	wantNames(t, dir, "api.log", "api.log.1", "api.log.1.idx", "api.log.2", "api.log.2.idx", "api.log.3", "api.log.3.idx", "api.log.idx")
	wantFile(t, dir+"/api.log.1", bursted(80, 90))
	wantFile(t, dir+"/api.log", bursted(90, 95))

	// Fewer are to be kept: that holds from the next rotation on.
	s.Configure(unit.Log{File: true, MaxSize: 1000, MaxFiles: 1})
	say(st, bursted(95, 101))
	settle(t, s)
	wantNames(t, dir, "api.log", "api.log.1", "api.log.1.idx", "api.log.idx")
	wantFile(t, dir+"/api.log", bursted(100, 101))

	s.Configure(unit.Log{File: true, MaxSize: 1000, MaxFiles: 0})
	say(st, bursted(101, 111))
	settle(t, s)
	wantNames(t, dir, "api.log", "api.log.idx")
}

func bursted(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(burst(i))
	}
	return b.String()
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("there are %v\nwant %v", got, want)
	}
}

// A new supervisord goes on with the files of the one before.
func TestFilesOutliveTheSink(t *testing.T) {
	d, dir := newDir(t)
	for g := 1; g <= 3; g++ {
		s := openSink(d, plenty)
		st := newStream(t, s, Meta{Invocation: unit.Invocation(g), Generation: unit.Generation(g)})
		say(st, fmt.Sprintf("generation %d\n", g))
		st.Finish()
		s.Close()
	}
	s := openSink(d, plenty)
	defer s.Close()
	wantFile(t, dir+"/api.log", "generation 1\ngeneration 2\ngeneration 3\n")
	wantLines(t, read(t, s, Query{N: -1, Generation: 2}), "generation 2")
	wantLines(t, read(t, s, Query{N: 2}), "generation 2", "generation 3")
}

func TestReopenAfterTheFileWasMoved(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	say(st, "one\n")
	settle(t, s)
	must(t, os.Rename(dir+"/api.log", dir+"/api.log.old"))
	say(st, "two\n")
	must(t, s.Reopen())
	say(st, "three\n")
	settle(t, s)
	wantFile(t, dir+"/api.log.old", "one\ntwo\n")
	wantFile(t, dir+"/api.log", "three\n")
	wantLines(t, read(t, s, Query{N: -1, Tag: 1}), "three")
}

func TestDeletedFileComesBackByItself(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	say(st, "one\n")
	settle(t, s)
	must(t, os.Remove(dir+"/api.log"))
	say(st, "two\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "two\n")
	wantLines(t, read(t, s, Query{N: -1, Tag: 1}), "two")
}

func TestFileTruncatedByOthers(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	say(st, "a long line that goes\n")
	settle(t, s)
	must(t, os.Truncate(dir+"/api.log", 0))
	say(st, "two\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "two\n")
	wantLines(t, read(t, s, Query{N: -1, Tag: 1}), "two")
}

// That it was truncated while there was much to write is no reason for a hole.
func TestFileTruncatedAmidMuch(t *testing.T) {
	s, dir := newSink(t, plenty)
	st, other := newStream(t, s, who(0)), newStream(t, s, who(1))
	say(st, "a long line that goes\n")
	settle(t, s)
	free := stuck(s)
	writes(t, st, "so does this\n")
	s.errand(func() { os.Truncate(dir+"/api.log", 0) })
	writes(t, other, "two\nthree\n")
	free()
	settle(t, s)
	wantFile(t, dir+"/api.log", "two\nthree\n")
	wantLines(t, read(t, s, Query{N: -1, Tag: who(0).Tag}))
	wantLines(t, read(t, s, Query{N: -1, Tag: who(1).Tag}), "two", "three")
}

// The place and the records of what comes next are those of a file that has changed
// since they were thought out.
func TestFileChangesJustBeforeItIsWritten(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(path string) error
		want string
	}{
		"truncated": {func(path string) error { return os.Truncate(path, 0) }, ""},
		"cut":       {func(path string) error { return os.Truncate(path, 4) }, "one\n"},
		"longer": {func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString("foreign\n")
			}
			return errors.Join(err, f.Close())
		}, "one\ntwo\nforeign\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newSink(t, plenty)
			st := newStream(t, s, who(0))
			for _, line := range []string{"one\n", "two\n"} {
				say(st, line)
				settle(t, s)
			}
			c := func(i int, text string) chunk {
				return chunk{from: newStream(t, s, who(i)), time: time.Now(), text: []byte(text), lines: 1}
			}
			s.await(func() {
				s.keep.add(c(0, "mine\n"))
				s.keep.add(c(1, "other\n"))
				if err := change.do(dir + "/api.log"); err != nil {
					t.Error(err)
				}
			}, nil)
			settle(t, s)
			wantFile(t, dir+"/api.log", change.want+"mine\nother\n")
			wantLines(t, read(t, s, Query{N: -1, Tag: who(1).Tag}), "other")
			got := texts(read(t, s, Query{N: -1, Tag: who(0).Tag}))
			if len(got) == 0 || got[len(got)-1] != "mine" {
				t.Errorf("the lines of the first are %q", got)
			}
		})
	}
}

func TestLogDirectoryIsMadeAgain(t *testing.T) {
	s, dir := newSink(t, plenty)
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	say(st, "one\n")
	settle(t, s)
	must(t, os.RemoveAll(dir))
	say(st, "two\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "two\n")
	st2, err := os.Stat(dir)
	must(t, err)
	if st2.Mode().Perm() != 0o750 {
		t.Errorf("the directory has mode %v", st2.Mode())
	}
}

// What stands in the way of a rotation makes the file grow for a while, and then
// costs lines.
func TestRotationThatCannotBe(t *testing.T) {
	s, dir := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 2})
	now := time.Unix(1e9, 0)
	s.keep.now = func() time.Time { return now }
	must(t, os.MkdirAll(dir+"/api.log.1/not-empty", 0o700))
	must(t, os.MkdirAll(dir+"/api.log.2/not-empty", 0o700))
	st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
	for i := range 30 {
		say(st, burst(i))
	}
	settle(t, s)
	wantFile(t, dir+"/api.log", bursted(0, 20))
	written, dropped, err := s.Stats()
	if written != 20 || dropped != 10 || err == nil || !strings.Contains(err.Error(), "cannot rotate "+dir+"/api.log: ") {
		t.Errorf("stats say %d, %d, %v", written, dropped, err)
	}

	must(t, os.RemoveAll(dir+"/api.log.1"))
	must(t, os.RemoveAll(dir+"/api.log.2"))
	now = now.Add(time.Minute)
	say(st, "well\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "well\n")
	wantLines(t, read(t, s, Query{N: 1}), "(10 lost)", "well")
	if _, _, err := s.Stats(); err != nil {
		t.Error(err)
	}
}

// A log is removed to make room for others: of a service that has ended it must not
// be kept.
func TestNothingIsOpenOfWhatHasEnded(t *testing.T) {
	dir := t.TempDir()
	s := openSink(openDir(t, dir), plenty)
	defer s.Close()
	open := func() (n int) {
		fds, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, dir+"/api.log") {
				n++
			}
		}
		return n
	}
	end := func(st *Stream) { st.Finish(); <-st.done }
	st, other := newStream(t, s, Meta{Invocation: 1}), newStream(t, s, Meta{Invocation: 2})
	say(other, "one\n")
	end(other)
	if settle(t, s); open() != 2 {
		t.Errorf("%d files are open while another run goes on", open())
	}
	say(st, "two\nthr")
	end(st)
	if settle(t, s); open() != 0 {
		t.Errorf("%d files are open when both have ended", open())
	}
	say(newStream(t, s, Meta{Invocation: 3, Generation: 7}), "four\n")
	settle(t, s)
	wantFile(t, dir+"/api.log", "one\ntwo\nthr\nfour\n")
	wantLines(t, read(t, s, Query{N: -1, Generation: 7}), "four")
}

// A file system may take what is written and refuse it later, at fsync(2) or close(2).
// Then the original stays, whole, and no truncated compressed file replaces it.
func TestTheOriginalStaysUnlessTheCompressedFileIsOnDisk(t *testing.T) {
	for _, when := range []string{"sync", "close"} {
		t.Run(when, func(t *testing.T) {
			s, dir := newSink(t, unit.Log{File: true, MaxSize: 1000, MaxFiles: 3})
			st := newStream(t, s, Meta{Invocation: 1, Tag: 1})
			say(st, bursted(0, 11))
			settle(t, s)
			s.await(func() {
				from, err := os.Open(dir + "/api.log.1")
				must(t, err)
				to, err := os.Create(dir + "/api.log.gz.tmp")
				must(t, err)
				ino, err := inode(int(from.Fd()))
				must(t, err)
				q := &squeeze{from: from, to: refused{to, when}, inode: ino}
				s.keep.finish(q, q.run())
			}, make(chan struct{}))
			wantNames(t, dir, "api.log", "api.log.1", "api.log.1.idx", "api.log.idx")
			wantFile(t, dir+"/api.log.1", bursted(0, 10))
		})
	}
}

// refused is a file that fails late.
type refused struct {
	*os.File
	when string
}

func (f refused) Sync() error  { return errors.Join(f.File.Sync(), f.fails("sync")) }
func (f refused) Close() error { return errors.Join(f.File.Close(), f.fails("close")) }

func (f refused) fails(when string) error {
	if f.when == when {
		return syscall.ENOSPC
	}
	return nil
}
