package keeper

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A manager is the process that has the rules.
type manager struct {
	k       *keeper
	pid     int
	pidfd   int
	line    int
	control int // -1: it executes supervisord

	up, rules, serves bool

	by     *timer // it is up, serves, or has ended
	next   *timer // ping
	answer *timer // to it
	pings  uint32

	queue   []word
	blocked bool       // the line is full
	resend  *timer     // too many files are on their way
	alarmed [65]bool   // it is about to be told of the signal
	known   [65]uint32 // the serial that it was told of

	why    string // it was killed
	gone   bool
	status syscall.WaitStatus
}

// past is how the manager before has ended.
type past struct {
	managers int
	pid      int
	status   syscall.WaitStatus
	why      string
}

func newManager(k *keeper, line int) *manager {
	m := &manager{k: k, pidfd: -1, control: -1, line: line}
	m.by, m.answer = k.judge(m.late), k.judge(m.silent)
	m.next, m.resend = k.timer(m.ping), k.timer(m.ready)
	return m
}

// launch starts a manager.
func (k *keeper) launch() {
	k.began = time.Now()
	ours, theirs, err := newLine()
	if err != nil {
		k.cannotLaunch(err)
		return
	}
	m := newManager(k, ours)
	m.say(&fixed{k.hello()})
	k.now = m
	k.ask(&start{
		Request: spawn.Request{Cgroup: -1, Files: []int{0, 1, 2, theirs, k.exe}},
		own:     k.table.hold(theirs),
		done:    m.born,
	})
}

func (k *keeper) hello() *message {
	const code = "" // nobody compares it yet
	return &message{verb: sayHello, fields: []string{decimal(Wire), code, decimal(os.Getpid()), decimal(k.limit), decimal(k.score)}}
}

// born: the manager was forked, and is to execute supervisord.
func (m *manager) born(s *start) {
	err := s.Err
	if err == nil {
		m.pid, m.control = s.Child.PID, s.Child.Control
		err = m.watch()
	}
	if err != nil { // without its socket it ends
		m.close()
		m.k.now = nil
		m.k.cannotLaunch(err)
		return
	}
	m.by.in(m.k.Times.Patience)
	p := m.k.program(s)
	if err = unix.E2BIG; p.Fits() {
		err = spawn.Tell(m.control, p)
	}
	if err != nil {
		m.kill("it could not be told what to run: " + err.Error())
	}
}

func (m *manager) watch() (err error) {
	if m.pidfd, err = unix.PidfdOpen(m.pid, 0); err != nil {
		return err
	}
	if err = m.k.watch(m.pidfd, unix.EPOLLIN, m.ended); err != nil {
		return err
	}
	if err = m.k.watch(m.control, unix.EPOLLIN, m.executes); err != nil {
		return err
	}
	return m.k.watch(m.line, unix.EPOLLIN, m.ready)
}

// executes hears how it gets on with its program.
func (m *manager) executes() {
	for m.control >= 0 {
		f, ok, err := spawn.Hear(m.control)
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil, !ok:
			m.closeControl()
		case f.Kind == spawn.Failed:
			m.why = "it could not be executed: " + syscall.Errno(f.Errno).Error()
		}
	}
}

func (m *manager) closeControl() {
	if m.control >= 0 {
		m.k.forget(m.control)
		unix.Close(m.control)
	}
	m.control = -1
}

func (k *keeper) cannotLaunch(err error) {
	k.past.why = "it could not be started: " + err.Error()
	k.afterwards(false, 1)
}

// kill ends a manager, which is always safe: that is the point of it all.
func (m *manager) kill(why string) {
	if m.why == "" {
		m.why = why
	}
	m.by.stop()
	m.answer.stop()
	if m.pidfd >= 0 {
		unix.PidfdSendSignal(m.pidfd, unix.SIGKILL, nil, 0)
	}
}

// late: what it had to do by now it has not done.
func (m *manager) late() {
	switch {
	case m.k.ending:
		m.kill("it did not end in time")
	case !m.up:
		m.kill("it was not up in time")
	default:
		m.kill("it had not taken over in time")
	}
}

func (m *manager) ping() {
	m.pings++
	m.say(&fixed{&message{verb: sayPing, number: m.pings}})
	m.answer.in(m.k.Times.Pong)
}

func (m *manager) silent() { m.kill("it did not answer") }

// pong: it is well.
func (m *manager) pong(q *message) error {
	if q.number == m.pings && m.answer.set() {
		m.answer.stop()
		m.next.in(m.k.Times.Ping)
	}
	return errLater
}

// ended: it is gone. What it had said is done before anything else.
func (m *manager) ended() {
	status, ok := endOf(m.pidfd)
	if !ok {
		if exitedAlready(m.pidfd) {
			m.k.listen(m.pidfd, 0)
			m.k.reaper.hide(m.ended)
		}
		return
	}
	m.gone, m.status = true, status
	m.hear(lastWords)
	m.executes()
	reap(unix.P_PIDFD, m.pidfd)
	m.close()
	m.k.now = nil
	m.k.past = past{m.k.past.managers + 1, m.pid, status, m.why}
	m.k.afterwards(m.serves, exitStatus(status))
}

// close gives up what we have of it.
func (m *manager) close() {
	for _, t := range []*timer{m.by, m.next, m.answer, m.resend} {
		t.stop()
	}
	m.gone, m.queue = true, nil
	m.closeControl()
	m.k.forget(m.line)
	m.k.refuse(m.line) // with all that was not read
	if m.pidfd >= 0 {
		m.k.forget(m.pidfd)
		unix.Close(m.pidfd)
	}
}

func exitStatus(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// afterwards: there is no manager. It has served, and would be supervisord's exit
// status.
func (k *keeper) afterwards(served bool, status int) {
	switch {
	case k.ending:
		k.finish(k.status)
	case !k.served:
		if k.past.why != "" {
			complain("the manager has ended: " + k.past.why)
		}
		k.finish(status)
	case served:
		k.failed = 0
		k.retry.in(max(0, shortest-time.Since(k.began)))
	default:
		k.failed++
		k.retry.in(pause(k.failed))
	}
}

// shortest is the time between two managers that serve.
const shortest = 20 * time.Millisecond

// pause is how long nobody is started when so many managers in a row did not come to
// serve.
func pause(failed int) time.Duration {
	const first, last = 10 * time.Millisecond, 5 * time.Second
	return min(first<<min(max(failed-1, 0), 20), last)
}
