package unit

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// systemd.service(5) gives this example for RestartSteps=: 10s, 4 steps, 160s.
func TestBackoffIsSystemds(t *testing.T) {
	l := Life{RestartSec: 10 * time.Second, RestartMax: 160 * time.Second, RestartSteps: 4}
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 160} {
		got := l.backoff(i + 1)
		if d := got - want*time.Second; d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("restart %d waits %v; want %v", i+1, got, want*time.Second)
		}
	}
}

// What crashes together does not start together: R13 of a supervisor's faults.
func TestCrashLoopsSpread(t *testing.T) {
	due := map[Time]bool{}
	for i := range 50 {
		l := usual
		spec := &Spec{Name: fmt.Sprint("api", i), Life: l}
		s, _ := Step(Service{Inst: make([]Instance, 1)}, now, Asks{Job{ID: 1, Verb: Start}, &Build{Spec: spec}, 0})
		for range 3 { // the first is made good at once, the others wait
			for s.Inst[0].Main.ID == 0 {
				s, _ = Step(s, s.Deadline(), Elapsed{})
			}
			id := s.Inst[0].Main.ID
			s, _ = Step(s, now, Started{id, 4242})
			s, _ = Step(s, now, Exited{id, badly})
			s, _ = Step(s, now, Gone{id})
		}
		wait := time.Duration(s.Inst[0].Due - now)
		if base := l.backoff(2); wait < base*3/4 || wait > base*5/4 {
			t.Errorf("%s waits %v; want %v, a quarter more or less", spec.Name, wait, base)
		}
		due[s.Inst[0].Due] = true
	}
	if len(due) < 45 {
		t.Errorf("50 services that crash together start at %d different times", len(due))
	}
}

// Whose end is good, by systemd.service(5): status 0 and four signals, and what
// success_exit_status adds; a core dump never.
func TestWhatCountsAsSuccess(t *testing.T) {
	l := Life{Success: Statuses{Codes: []int{143}, Signals: []syscall.Signal{syscall.SIGUSR1}}}
	for _, c := range []struct {
		e    Exit
		want Result
	}{
		{Exit{Kind: ByStatus}, Success},
		{Exit{Kind: ByStatus, Code: 143}, Success},
		{Exit{Kind: ByStatus, Code: 1}, ExitCode},
		{Exit{Kind: ByKill, Signal: syscall.SIGTERM}, Success},
		{Exit{Kind: ByKill, Signal: syscall.SIGPIPE}, Success},
		{Exit{Kind: ByKill, Signal: syscall.SIGUSR1}, Success},
		{Exit{Kind: ByKill, Signal: syscall.SIGKILL}, Signaled},
		{Exit{Kind: ByDump, Signal: syscall.SIGUSR1}, CoreDump},
		{Exit{Kind: NotRun}, Resources},
		{Exit{Kind: Unseen}, Unknown},
	} {
		if got := l.Judge(c.e); got != c.want {
			t.Errorf("%+v is %s; want %s", c.e, got, c.want)
		}
	}
	once := Life{Type: Oneshot}
	if got := once.Judge(Exit{Kind: ByKill, Signal: syscall.SIGTERM}); got != Signaled {
		t.Errorf("a oneshot killed by SIGTERM is %s; want signal", got)
	}
}
