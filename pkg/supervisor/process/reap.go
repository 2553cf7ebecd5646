package process

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reaper takes care of children of this process that it did not start: orphans that came to us
// because we are a subreaper, or PID 1. Our own it leaves to those who hold their
// pidfds, even while they are only being started and nobody knows their numbers: they
// are in their template's session before they lead their own. What is in our session other
// parts of the program have started, and it is reaped only where nobody in the program
// can be waiting for it.
//
// A child of a template that died before it could name it belongs to nobody. It ends
// with the template's request, and is reaped as a stray.
type reaper struct {
	stray func(pid int)  // may be nil
	died  func(pid int)  // is told of a template, once; it must not wait
	told  int            // of which it was
	sole  bool           // see Options.Sole
	kick  chan os.Signal // a child has ended, or a start
	quit  chan struct{}
	done  chan struct{}
}

func newReaper(o Options, died func(pid int)) *reaper {
	return &reaper{stray: o.OnStray, died: died, sole: o.Sole, kick: make(chan os.Signal, 1), quit: make(chan struct{}), done: make(chan struct{})}
}

// begin starts the reaper's goroutine.
func (r *reaper) begin() {
	signal.Notify(r.kick, syscall.SIGCHLD)
	r.look() // for those that ended before
	go r.run()
}

func (r *reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.kick:
			r.sweep()
		case <-r.quit:
			return
		}
	}
}

// close ends the reaper's goroutine.
func (r *reaper) close() {
	signal.Stop(r.kick)
	close(r.quit)
	<-r.done
}

// look asks for a sweep.
func (r *reaper) look() {
	select {
	case r.kick <- syscall.SIGCHLD:
	default: // one is due
	}
}

// sweep reaps the orphans that have ended.
func (r *reaper) sweep() {
	for _, pid := range own.allTemplates() {
		if pid != r.told && waits(pid) {
			r.told = pid
			r.died(pid)
		}
	}
	pids, err := children()
	if err != nil {
		return // the next child that ends brings the next sweep
	}
	for _, pid := range pids {
		if own.has(pid) { // there may be thousands
			continue
		}
		if s, err := readStat(pid); err == nil && s.state == 'Z' && own.leaves(s, r.sole) && reap(pid) && r.stray != nil {
			r.stray(pid)
		}
	}
}

// reap says whether it was there to be reaped.
func reap(pid int) bool {
	_, err := retry(func() (int, error) { return 0, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG, nil) })
	return err == nil
}

// waits says whether a child has ended and is not reaped.
func waits(pid int) bool {
	var info unix.Siginfo
	_, err := retry(func() (int, error) {
		return 0, unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	return err == nil && info.Signo != 0
}

// reapEnding waits for a child that is about to end, by the number that own has of it, and
// reaps it.
func reapEnding(pid int) {
	retry(func() (int, error) { return 0, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED, nil) })
}

// own holds the children that this program has started itself, whichever
// launcher did.
var own = register{pids: map[int]int{}, templates: map[int]bool{}}

type register struct {
	mu       sync.Mutex
	starting int         // starts whose number is not known yet
	unsure   bool        // a child was left alone because of them
	pids     map[int]int // those that are not reaped; two of a number while the first is taken off

	templates map[int]bool // those of them that fork others, which begin in their sessions
}

// begin and end enclose a start; end names the process, or 0 if there is none,
// and says whether the reaper should look again.
func (r *register) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting++
}

func (r *register) end(pid int) (look bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting--
	if pid > 0 {
		r.pids[pid]++
	}
	look, r.unsure = r.unsure, false
	return look
}

// begun names a child that was started beside those.
func (r *register) begun(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pids[pid]++
}

// begunTemplate and reapedTemplate are begun and reaped for a template.
func (r *register) begunTemplate(pid int) {
	r.mu.Lock()
	r.templates[pid] = true
	r.mu.Unlock()
	r.begun(pid)
}

func (r *register) reapedTemplate(pid int) {
	r.mu.Lock()
	delete(r.templates, pid)
	r.mu.Unlock()
	r.reaped(pid)
}

// allTemplates are those that are not reaped; it is seldom more than one.
func (r *register) allTemplates() (pids []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.templates {
		pids = append(pids, pid)
	}
	return pids
}

// reaped says that a process's number is free.
func (r *register) reaped(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids[pid]--; r.pids[pid] == 0 {
		delete(r.pids, pid)
	}
}

func (r *register) has(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pids[pid] > 0
}

// leaves says whether a child of ours that has ended is for the reaper. One with
// a session of its own, or still in its template's, may be ours and only just started;
// then the end of its start brings the next look. sole: so is one in our session.
func (r *register) leaves(s stat, sole bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ours := s.session == ownSession()
	switch {
	case r.pids[s.pid] > 0, ours && !sole:
		return false
	case r.starting > 0 && (ours || s.session == s.pid || r.templates[s.session]):
		r.unsure = true
		return false
	}
	return true
}

// whose is what is known of a child of ours. One that is being started is not known by
// its number yet. It is in its template's session before it leads its own.
func (r *register) whose(pid, session int) Whose {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.pids[pid] > 0, r.templates[session], session >= 0 && session == ownSession():
		return Forked
	case r.starting > 0 && session == pid:
		return Perhaps
	}
	return Orphan
}

func ownSession() int {
	sid, err := unix.Getsid(0)
	if err != nil {
		return -1
	}
	return sid
}
