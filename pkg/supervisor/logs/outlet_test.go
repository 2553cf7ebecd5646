package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A reader is what an outlet writes to: it shows one write each time that it is
// told to.
type reader struct {
	shown strings.Builder
	on    chan error // nil: it takes all
}

func newReader() (*reader, *Outlet) {
	s := &reader{on: make(chan error)}
	return s, newOutlet(func(b []byte) (int, error) {
		if err := <-s.on; err != nil {
			return 0, err
		}
		return s.shown.Write(b)
	}, func(lost uint64) []byte { return fmt.Appendf(nil, "%d lost\n", lost) }, nil)
}

// release lets it show all that it will be given.
func (s *reader) release(o *Outlet) {
	close(s.on)
	o.Flush(time.Hour)
}

func TestNobodyWaitsForAStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newReader()
		began := time.Now()
		line := []byte(strings.Repeat("x", 999) + "\n")
		const n = 5000
		for range n {
			if m, err := o.Write(line); m != len(line) || err != nil {
				t.Fatal(m, err)
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it waited for %s", waited)
		}
		if o.queued > maxOutlet {
			t.Errorf("%d bytes wait", o.queued)
		}
		if o.Flush(time.Second) || time.Since(began) != time.Second {
			t.Errorf("Flush of a stuck one came back after %s", time.Since(began))
		}
		s.release(o)
		shown := strings.Count(s.shown.String(), string(line))
		if want := fmt.Sprintf("%d lost\n", n-shown); shown == 0 || !strings.HasSuffix(s.shown.String(), want) {
			t.Errorf("%d lines are shown, and the last is %q; want %q", shown, lastLine(s.shown.String()), want)
		}
	})
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n')+1:]
}

// Empty writes and short ones fill no memory either.
func TestManyShortLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newReader()
		for range 3 * maxWaiting {
			o.Write([]byte("\n"))
		}
		if len(o.queue) > maxWaiting {
			t.Errorf("%d writes wait", len(o.queue))
		}
		s.release(o)
	})
}

// Where lines are missing, their number stands.
func TestTheNumberOfLostLinesStandsWhereTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newReader()
		o.Write([]byte("first\n"))
		synctest.Wait() // it is on its way
		o.Write(bytes.Repeat([]byte("x\n"), maxOutlet/2-10))
		o.Write(bytes.Repeat([]byte("lost\n"), 100))
		s.on <- nil
		s.on <- nil
		synctest.Wait()
		o.Write([]byte("last\n"))
		s.release(o)
		if want := "x\n100 lost\nlast\n"; !strings.HasSuffix(s.shown.String(), want) {
			t.Errorf("it ends in %q", s.shown.String()[s.shown.Len()-30:])
		}
	})
}

// A write that fails costs its lines, and is not tried again until there are more.
func TestWhatCannotBeWrittenIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newReader()
		o.Write([]byte("a\nb\n"))
		s.on <- unix.EIO
		o.Write([]byte("c\n"))
		s.on <- unix.ENOSPC
		synctest.Wait()
		if o.busy {
			t.Error("it goes on by itself")
		}
		o.Write([]byte("d\n"))
		s.release(o)
		if got, want := s.shown.String(), "3 lost\nd\n"; got != want {
			t.Errorf("it shows %q; want %q", got, want)
		}
	})
}

// Who can wait does so once, and not again until the reader goes on.
func TestPatienceWithAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newReader()
		w, full := o.Patient(), bytes.Repeat([]byte("x\n"), maxOutlet/2)
		w.Write(full)
		began := time.Now()
		for range 3 {
			if _, err := w.Write(full); !errors.Is(err, ErrStuck) {
				t.Fatal(err)
			}
		}
		if waited := time.Since(began); waited != patience/2 {
			t.Errorf("it waited for %s", waited)
		}
		s.on <- nil
		s.on <- nil // the number
		synctest.Wait()
		time.AfterFunc(patience/3, func() { s.on <- nil })
		for range 2 {
			if _, err := w.Write(full); err != nil {
				t.Error(err)
			}
		}
		s.release(o)
		if want := fmt.Sprintf("%d lost\n", 3*maxOutlet/2); strings.Count(s.shown.String(), want) != 1 {
			t.Errorf("it does not say %q once", want)
		}
	})
}

// That lines are missing is told when something was written again, not each time
// that it is tried.
func TestLostLinesAreToldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail, told := true, []uint64{}
		o := newOutlet(func(b []byte) (int, error) {
			if fail {
				return 0, unix.EPIPE
			}
			return len(b), nil
		}, nil, func(lost uint64) { told = append(told, lost) })
		for _, fail = range []bool{true, true, true, false, false} {
			o.Write([]byte("a\n"))
			o.Flush(time.Hour)
		}
		if len(told) != 1 || told[0] != 3 {
			t.Errorf("it tells %d", told)
		}
	})
}

// On a pipe that nobody reads the flags stay as they are, and nothing waits; when
// somebody reads, all arrives that was not counted.
func TestOutletOfAPipe(t *testing.T) {
	for _, flag := range []int{0, unix.O_NONBLOCK} {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.FcntlInt(uintptr(p[1]), unix.F_SETFL, flag)
		o := NewOutlet(p[1], func(lost uint64) []byte { return fmt.Appendf(nil, "%d lost\n", lost) }, nil)
		const n = 4000
		for range n {
			o.Write([]byte(strings.Repeat("y", 511) + "\n"))
		}
		if flags, err := unix.FcntlInt(uintptr(p[1]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != flag {
			t.Errorf("its flags are %#x now, %v", flags, err)
		}
		r := os.NewFile(uintptr(p[0]), "pipe")
		go func() { o.Flush(time.Hour); unix.Close(p[1]) }()
		text, err := io.ReadAll(r)
		r.Close()
		shown := bytes.Count(text, []byte("y\n"))
		lost := 0 // told wherever they are missing, not only at the end: the pipe takes some while the test writes
		for line := range strings.Lines(string(text)) {
			var some int
			if _, err := fmt.Sscanf(line, "%d lost\n", &some); err == nil {
				lost += some
			}
		}
		if err != nil || shown == 0 || lost == 0 || shown+lost != n {
			t.Errorf("flags %#x: %d lines are read and %d told to be lost, %v", flag, shown, lost, err)
		}
	}
}
