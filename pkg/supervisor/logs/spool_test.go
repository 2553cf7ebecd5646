package logs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A slow is something that works when it is told to.
type slow struct {
	begun chan []string // what it works on
	done  chan struct{}
}

func newSpool(limit int) (*spool[string], *slow) {
	w := &slow{begun: make(chan []string), done: make(chan struct{})}
	q := new(spool[string])
	q.init(new(sync.Mutex), limit, func(batch []string) {
		w.begun <- batch
		<-w.done
	})
	return q, w
}

// put is what a copy loop does; it says whether there was room.
func put(q *spool[string], text string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := q.wait(len(text))
	if room {
		q.add(text, len(text))
	}
	return room
}

func TestSpoolGathersWhatComesDuringWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, w := newSpool(100)
		put(q, "a")
		<-w.begun
		put(q, "b")
		put(q, "c")
		w.done <- struct{}{}
		if got := <-w.begun; !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("the next batch is %q", got)
		}
		w.done <- struct{}{}
		synctest.Wait()
		if q.busy || q.held != 0 {
			t.Errorf("at rest: busy %t, held %d", q.busy, q.held)
		}
	})
}

// A disk that does not answer is waited for once. When it answers, all is as before.
func TestSpoolLosesPatienceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, w := newSpool(10)
		put(q, "0123456789")
		<-w.begun
		start := time.Now()
		for i := range 3 {
			if put(q, "x") {
				t.Errorf("there was room for %d", i)
			}
		}
		if waited := time.Since(start); waited != patience {
			t.Errorf("waited %v in all, want %v", waited, patience)
		}
		w.done <- struct{}{}
		synctest.Wait()
		put(q, "0123456789")
		<-w.begun
		go func() { time.Sleep(patience / 2); w.done <- struct{}{} }()
		if !put(q, "x") {
			t.Error("did not wait for a disk that answers")
		}
		<-w.begun
		w.done <- struct{}{}
	})
}

// As long as it gets on, however slowly, nothing is lost: each sign of life
// gives it patience anew.
func TestSpoolWaitsForWhoIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, w := newSpool(1)
		var writers sync.WaitGroup
		writers.Go(func() {
			for range 20 {
				<-w.begun
				time.Sleep(patience * 9 / 10)
				w.done <- struct{}{}
			}
		})
		for range 2 {
			writers.Go(func() {
				for i := range 10 {
					if !put(q, fmt.Sprint(i)) {
						t.Errorf("no room for %d", i)
					}
				}
			})
		}
		writers.Wait()
	})
}

// A screen is a terminal that shows what it is told to show.
type screen struct {
	mu    sync.Mutex
	shown strings.Builder
	fail  error
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	return s.shown.Write(b)
}

func TestForwardShowsWholeLinesWithTheirOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term := new(screen)
		s := Open(nil, "api", unit.Log{Forward: true}, Elsewhere{Stdout: term}, Stage{})
		st := &Stream{sink: s, meta: Meta{Instance: 2}}
		say(st, "one\n\ntwo\n")
		say(st, "no")
		synctest.Wait()
		if strings.Contains(term.shown.String(), "no") {
			t.Errorf("what is no line yet is shown: %q", term.shown.String())
		}
		say(st, " end")
		st.flush(true)
		synctest.Wait()
		if want := "api[2] | one\napi[2] | \napi[2] | two\napi[2] | no end\n"; term.shown.String() != want {
			t.Errorf("shown: %q\nwant   %q", term.shown.String(), want)
		}
		term.fail = errors.New("input/output error")
		say(st, "three\nfour\n")
		synctest.Wait()
		if s.Hidden() != 2 {
			t.Errorf("%d lines are hidden", s.Hidden())
		}
		s.Configure(unit.Log{})
		say(st, "five\n")
		s.Close()
	})
}

// T62, R9: a terminal that was stopped with Ctrl-S does not stop the service.
func TestForwardToATerminalThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term := &hanging{release: make(chan struct{})}
		s := Open(nil, "api", unit.Log{Forward: true}, Elsewhere{Stdout: term}, Stage{})
		st := &Stream{sink: s}
		start := time.Now()
		for i := range 10 * maxForward / 100 {
			say(st, burst(i))
		}
		if waited := time.Since(start); waited != patience {
			t.Errorf("the copying waited %v, want %v", waited, patience)
		}
		if s.Hidden() == 0 {
			t.Error("nothing is hidden")
		}
		close(term.release)
		s.Close()
	})
}

type hanging struct{ release chan struct{} }

func (h *hanging) Write(b []byte) (int, error) {
	<-h.release
	return len(b), nil
}
