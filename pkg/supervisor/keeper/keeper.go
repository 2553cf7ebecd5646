// Package keeper is the part of supervisord that does not die. It holds descriptors, is
// the parent of every process, and knows no rules. All rules are the manager's: a
// process that the keeper starts, and starts again however that ends.
//
// # The table
//
// The keeper's table is the truth about descriptors and processes, as the manager's
// files are the truth about intentions. An entry has a key, a text that only the
// manager understands, and descriptors; or it is a process, whose descriptor is its
// pidfd. So of a manager that is killed nothing is lost but what it had not yet told
// anybody. Its successor reads its files, asks for the list, and goes on:
//
//   - What a manager has asked is done before the next one is started.
//   - A key is there once. So a manager that repeats itself starts no second copy: Spawn
//     of a key that is there fails.
//   - A child waits for programs (package spawn), and its control socket is kept as well.
//     So a manager can record a child before it lets it run, and the next manager can
//     give a program to a child that still waits.
//   - A child that has ended stays a zombie until its entry is dropped. How it ended is
//     told to every manager until one has stored it, and its number is nobody else's.
//   - A signal for supervisord is told to every manager until one has stored it.
//
// # The keeper
//
// It is one goroutine in epoll ([Run]), and it waits for nobody: not for a child, a
// manager, a disk. Even close(2) may wait, so that is done beside it. All that it starts the template forks, the manager as well. What it
// says to a manager is true when it is sent, not when it happened; so it queues no more
// than it has entries.
//
// # The manager
//
// It talks to the keeper through a [Client]. A new one looks at everything and says Up;
// it is told to go when nobody else rules; it takes over, and says Serving. One that is
// late with one of these, does not answer a ping, or talks rubbish, is killed, which is
// always safe. One that served is started again at once, any other with a growing
// pause. Until the first has served, supervisord has not started: then the end of its
// manager is the end of the keeper.
package keeper

import (
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// ManagerName is argv[0] of a manager.
const ManagerName = "supervisord-manager"

// Options of a keeper.
type Options struct {
	Args []string // the manager's arguments, behind its name

	// Variables says that this is a build for go build -cover: see spawn.Options.
	Variables bool

	Times Times
}

// Times are how long others have. Zero is the default.
type Times struct {
	Patience time.Duration // to be up, to serve after that, and to end; 10 s
	Pong     time.Duration // to answer a ping; 10 s
	Ping     time.Duration // between two pings; half of WatchdogSec= of systemd, else 30 s
}

func (t Times) orDefaults(watchdog time.Duration) Times {
	ping := 30 * time.Second
	if watchdog > 0 {
		ping = watchdog / 2
	}
	orElse := func(d *time.Duration, other time.Duration) {
		if *d == 0 {
			*d = other
		}
	}
	orElse(&t.Patience, 10*time.Second)
	orElse(&t.Pong, 10*time.Second)
	orElse(&t.Ping, ping)
	return t
}

type keeper struct {
	*loop
	Options
	in      receiver
	reaper  *reaper
	systemd *systemd

	table    *table
	template template
	starts   []*start // that the template was asked for
	answered uint64   // starts that were
	patience *timer   // for the first of them

	exe     int // what managers run
	null    int
	env     []string
	limit   uint64 // the soft limit of files that we were started with
	score   int    // and the oom_score_adj
	lowered bool   // it is lower now
	now     *manager
	served  bool // one has, ever
	failed  int  // managers in a row that did not
	retry   *timer
	began   time.Time // of the last manager
	past    past

	pending  [65]uint32 // the serials of signals that no manager has stored; 0: none
	signals  uint32
	terminal bool // we were started from one

	ending bool // Exit was said
	over   bool
	status int
}

// A template is what forks: see spawn.Template.
type template interface {
	Ask(*spawn.Request)
	Answered() *spawn.Request
	Expired()
	Died(pid int)
	FD() int
	PID() int
}

// Run is the life of a keeper, in a process that nothing else goes on in: it reaps all
// children of it. Run returns supervisord's exit status. It must be called on the
// process's first thread.
func Run(o Options) (status int) {
	runtime.LockOSThread() // a template ends with the thread that has forked it
	k := newKeeper(o)
	if err := k.begin(); err != nil {
		complain("cannot start: " + err.Error())
		return 1
	}
	for !k.over {
		k.collect()
		k.round()
	}
	return k.status
}

func newKeeper(o Options) *keeper {
	k := &keeper{loop: newLoop(), Options: o, table: newTable(), exe: -1, null: -1}
	k.in.refuse = k.refuse
	k.systemd = &systemd{k: k, fd: -1}
	k.reaper = newReaper(k)
	k.patience = k.judge(k.expired)
	k.retry = k.timer(k.launch)
	return k
}

func (k *keeper) begin() (err error) {
	name("supervisord")
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return failure("become a subreaper", err)
	}
	k.systemd.begin()
	if err = k.loop.open(); err != nil {
		return failure("wait for events", err)
	}
	closer, err := newCloser(k.loop)
	if err != nil {
		return failure("hear what was closed", err)
	}
	k.table.closer = closer.close
	k.limit = openFiles()
	k.score, k.lowered = lowerScore()
	k.terminal = hasTerminal()
	if err = k.hearSignals(); err != nil {
		return failure("hear signals", err)
	}
	if err = k.open(); err != nil {
		return err
	}
	k.env = os.Environ() // of which systemd has what was meant for us
	k.Times = k.Times.orDefaults(k.systemd.watchdog)
	k.reaper.sweep()
	k.launch()
	return nil
}

// open opens what every start needs.
func (k *keeper) open() (err error) {
	if k.null, err = openHigh("/dev/null", unix.O_RDWR); err != nil {
		return failure("open /dev/null", err)
	}
	if k.exe, err = openHigh("/proc/self/exe", unix.O_PATH); err != nil {
		return failure("open our own executable", err)
	}
	if k.template, err = k.newTemplate(); err != nil {
		return failure("fork the process that starts others", err)
	}
	return nil
}

// openHigh opens a file with a number that is none of a child's.
func openHigh(path string, flags int) (int, error) {
	const high = 10
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, high)
}

// finish ends the keeper.
func (k *keeper) finish(status int) { k.over, k.status = true, status }

// knows says whether a child is reaped elsewhere: with its entry, or as a manager.
func (k *keeper) knows(pid int) bool {
	return k.table.pids[pid] != nil || k.now != nil && k.now.pid == pid
}

type failed struct {
	what string
	err  error
}

func failure(what string, err error) error { return failed{what, err} }

func (f failed) Error() string { return "cannot " + f.what + ": " + f.err.Error() }

func (f failed) Unwrap() error { return f.err }

// complain writes one line to the standard error, if that does not have to be waited
// for.
func complain(text string) {
	const most = 512 // less than a pipe takes at once
	p := []unix.PollFd{{Fd: 2, Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err != nil || n < 1 || p[0].Revents&unix.POLLOUT == 0 {
		return
	}
	line := "supervisord: " + text
	unix.Write(2, append([]byte(line)[:min(len(line), most)], '\n'))
}

// name is what ps and pidof call this process. Run by a descriptor, it would have that
// number for its name (before Linux 6.14).
func name(text string) {
	if unix.Gettid() == unix.Getpid() {
		b := append([]byte(text), 0)
		unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0)
		return
	}
	os.WriteFile("/proc/self/comm", []byte(text), 0)
}
