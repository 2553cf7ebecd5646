package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// patience is how long a status waits for what only file systems can tell: which
// executables and which files of the configuration are others by now.
const patience = 200 * time.Millisecond

// looks are questions to file systems that may hang: one at a time, and nobody
// waits for long.
type looks struct {
	mu   sync.Mutex
	last *seen // the last complete answer
	busy chan struct{}
}

// seen is what the file systems said.
type seen struct {
	differs map[string]bool // by the path of an executable that is kept open
	files   bool            // the configuration's files differ from what was loaded
}

// facts are what a status says besides what the actors show.
type facts struct {
	words.Facts
	notes []string
}

func (rep *reporter) look(services []entry, c *config.Config) facts {
	f := facts{Facts: words.Facts{Now: now(), Clock: time.Now(), Memory: map[int]uint64{}, Job: rep.jobIn}}
	for _, e := range services {
		for p := range e.View().State.Procs() {
			f.Memory[p.PID] = resident(p)
		}
	}
	s, current := rep.looks.ask(func() *seen { return rep.see(services, c) })
	if s != nil {
		f.Differs = s.differs
	}
	switch {
	case !current:
		f.notes = append(f.notes, "a file system does not answer, so it is not known which executables and files of the configuration have changed")
	case s.files:
		f.notes = append(f.notes, "the configuration's files have changed since they were loaded; to load them: superctl daemon-reload")
	}
	return f
}

// see asks the file systems.
func (rep *reporter) see(services []entry, c *config.Config) *seen {
	s := &seen{differs: map[string]bool{}, files: c.FilesDiffer()}
	for _, e := range services {
		for _, p := range e.View().Baked {
			s.differs[p.Path()] = p.Differs(p.Path())
		}
	}
	return s
}

// ask returns what f says, or what it said last if that takes too long.
func (l *looks) ask(f func() *seen) (s *seen, current bool) {
	l.mu.Lock()
	if l.busy == nil {
		l.busy = make(chan struct{})
		go l.run(f, l.busy)
	}
	busy := l.busy
	l.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-busy:
		current = true
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, current
}

func (l *looks) run(f func() *seen, done chan struct{}) {
	s := f()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.busy = s, nil
	close(done)
}

// jobIn is the first of those who share a job in progress.
func (rep *reporter) jobIn(j unit.Job) *ipc.Job {
	if x, ok := rep.ledger.JobOf(j.ID); ok {
		return &x
	}
	return nil
}

// resident is the memory of a main process in bytes (proc_pid_statm(5)).
func resident(p unit.Proc) uint64 {
	if p.PID == 0 || p.Exit.Kind != unit.NotExited {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		return 0
	}
	if f := strings.Fields(string(text)); len(f) > 1 {
		pages, _ := strconv.ParseUint(f[1], 10, 64)
		return pages * uint64(os.Getpagesize())
	}
	return 0
}
