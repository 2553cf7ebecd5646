package process

import (
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// An order is a task as it is on the disk now: all that a process is to become.
// Numbers only: names were looked up.
type order struct {
	path string // what to run; absolute
	argv []string
	dir  string

	env      []string  // KEY=VALUE; of equal keys the last counts
	envFiles []envFile // over env, in their order
	protocol []string  // over all of them
	names    []string  // $LISTEN_FDNAMES; one a socket
	handover bool      // two more files come after the sockets: $SUPERVISORD_HANDOVER
	watchdog uint64    // $WATCHDOG_USEC; 0: not set

	setIDs      bool
	uid, gid    uint32
	groups      []uint32
	user, group string // as errors call them
	umask       uint64

	nice, oom *int // nil: see defaults
	limits    []rlimit
	defaults  bool // what has no value does not come from supervisord either: see priority
}

// An envFile is a file to be read with the rights of the program's user, and
// what comes after it.
type envFile struct {
	path  string // with "-" before it may be missing
	pairs []string
}

// An rlimit is one setrlimit(2).
type rlimit struct {
	resource   int
	soft, hard uint64
}

// longest is how many bytes arguments and environment may have together. Linux
// itself takes 2 MiB of both, in its default.
const longest = 1 << 20

func (o *order) tooLong() bool {
	n := len(o.path) + len(o.dir)
	for _, list := range [][]string{o.argv, o.env, o.protocol, o.names} {
		for _, s := range list {
			n += len(s) + 1
		}
	}
	for _, f := range o.envFiles {
		n += len(f.path) + 1
	}
	return n > longest
}

// A layout says where a process has its files when it begins.
type layout struct {
	output, executable, room int // -1: none
	sockets, count           int // the first, and how many, those of the handover among them
	top                      int // above all
}

// what a process gets besides its socket and its cgroup, from its first file on. They
// are borrowed: should the start outlast its caller, and they be other files by then,
// the process has no program and ends without a look at them.
func (t *Task) files(null int, file *Executable, room room) (files []int) {
	output := t.Output
	if output < 0 {
		output = null
	}
	files = []int{output}
	if file != nil {
		files = append(files, file.fd)
	}
	if room >= 0 {
		files = append(files, int(room))
	}
	for _, s := range t.Sockets {
		files = append(files, s.FD)
	}
	if t.Handover != nil {
		files = append(files, t.Handover[0], t.Handover[1])
	}
	return files
}

// newLayout is where those are whose first file is first.
func newLayout(first int, pinned, room bool, files int) layout {
	l := layout{output: first, executable: -1, room: -1, top: first + files}
	next := first + 1
	if pinned {
		l.executable = next
		next++
	}
	if room {
		l.room = next
		next++
	}
	l.sockets, l.count = next, l.top-next
	return l
}

// The control socket and the executable are above all that came, so that sockets can
// move down to where sd_listen_fds(3) wants them.
func (l layout) highControl() uintptr    { return uintptr(l.top) }
func (l layout) highExecutable() uintptr { return uintptr(l.top + 1) }

const firstSocket = 3 // SD_LISTEN_FDS_START

// Slots of our programs, besides that of the control socket.
const (
	control = 0
	open    = 1
	number  = 2
	other   = 3
)

// edition says how a compiler writes programs: what a process answers names an op by its
// place. It counts up whenever an op that can fail, or answer, gets another place. Then who
// resumes a start that another edition has begun cannot tell which step has failed.
const edition = 1

// A compiler writes the programs of one start. The order of what they do is
// systemd's: what needs privileges, then the user, then what must be done with that
// user's rights.
type compiler struct {
	*spawn.Builder
	order *order
	at    layout

	warnings map[uint32]func(value uint64, errno syscall.Errno) string // by the op that answers
}

// begin is how the first program of a start begins. That reads the first environment file,
// if there is one.
func (c *compiler) begin() {
	c.moveFiles()
	c.adjustOOM()
	c.priority()
	c.joinKeyring()
	c.setLimits()
	c.setGroups()
	c.setUser()
	c.dropCapabilities()
	c.step(stepChdir, c.order.dir)
	c.Call(unix.SYS_CHDIR, c.Text(c.order.dir))
}

func (c *compiler) step(s step, detail string) { c.Label(s.label(detail)) }

func (c *compiler) moveFiles() {
	c.step(stepFds, "")
	l := c.at
	c.Call(unix.SYS_DUP3, control, l.highControl(), unix.O_CLOEXEC).Take(0).Keep(control)
	if l.executable >= 0 {
		c.Call(unix.SYS_DUP3, uintptr(l.executable), l.highExecutable(), unix.O_CLOEXEC)
	}
	if l.room >= 0 { // before limit_as is set
		c.Call(unix.SYS_MMAP, c.Room(), spawn.Room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED, uintptr(l.room), 0)
	}
	c.Call(unix.SYS_DUP3, uintptr(l.output), 1, 0)
	c.Call(unix.SYS_DUP3, uintptr(l.output), 2, 0)
	for i := range l.count {
		c.Call(unix.SYS_DUP3, uintptr(l.sockets+i), uintptr(firstSocket+i), 0)
	}
	// What is between is close-on-exec. It is closed here so that neither the user nor
	// the directory of the program can reach any of it.
	c.Call(unix.SYS_CLOSE_RANGE, uintptr(firstSocket+l.count), l.highControl()-1, 0).AllowAny()
}

// What a program has that its order gives no value for does not come from whoever
// started supervisord: nice and an oom score that supervisord was given are for
// supervisord. It gets what the machine's first process has: nice 0, the ordinary
// scheduler, no io class, oom_score_adj 0, no core dumps before it asks for them.
// What may not be set back stays, and is warned of.
//
// Other limits, the processors and the io of the machine it may use, and all
// that PID 1 of a container has, are meant for those below.

// adjustOOM ignores a refusal, as systemd does: in a container without
// CAP_SYS_RESOURCE the value cannot be lowered, and /proc may be read-only.
func (c *compiler) adjustOOM() {
	asked := 0
	switch {
	case c.order.oom != nil:
		asked = *c.order.oom
	case !c.order.defaults:
		return
	}
	c.step(stepOOMAdjust, decimal(asked))
	root := os.Geteuid() == 0
	if !root { // then the file is ours only while our memory is to be seen
		c.Call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	}
	path, now := c.Text("/proc/self/oom_score_adj"), c.Space(8)
	done, refused := new(spawn.Place), new(spawn.Place)
	c.readScore(path, now)
	if c.order.oom == nil && !root {
		// An ordinary user may not lower it, and has it from a session that means it so.
		c.Check(now, 0xff, '-', unix.EDOM).Allow(unix.EDOM).Else(done)
	}
	text := decimal(asked)
	c.Call(unix.SYS_OPENAT, atFDCWD, path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY).Keep(open).Allow(unix.EACCES, unix.EPERM, unix.EROFS).Else(refused)
	c.Call(unix.SYS_WRITE, open, c.Text(text), uintptr(len(text))).Take(0).Allow(unix.EACCES, unix.EPERM).Then(done)
	c.Here(refused)
	c.readScore(path, now)
	c.Load(now, number)
	c.warn(number, func(value uint64, errno syscall.Errno) string {
		return stays("oom_score_adj", asked, c.order.oom == nil, score(value), errno)
	})
	c.Here(done)
	c.Call(unix.SYS_CLOSE, open).Take(0).AllowAny()
	c.Call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0) // execve sets it anew
}

// readScore leaves zeros where it cannot.
func (c *compiler) readScore(path, to uintptr) {
	done := new(spawn.Place)
	c.Call(unix.SYS_OPENAT, atFDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY).Keep(open).AllowAny().Else(done)
	c.Call(unix.SYS_READ, open, to, 8).Take(0).AllowAny()
	c.Call(unix.SYS_CLOSE, open).Take(0)
	c.Here(done)
}

// score is the text of oom_score_adj, at most six characters and a newline, as the
// 64 bits that it was loaded as.
func score(word uint64) string {
	text, _, _ := strings.Cut(string(bytesOfWord(word)), "\n")
	return strings.TrimRight(text, "\x00")
}

func bytesOfWord(word uint64) []byte {
	b := make([]byte, unsafe.Sizeof(word))
	*(*uint64)(unsafe.Pointer(&b[0])) = word
	return b
}

// priority also sets the umask, which cannot fail.
func (c *compiler) priority() {
	c.step(stepScheduler, "")
	c.Call(unix.SYS_UMASK, uintptr(c.order.umask))
	if c.order.defaults {
		c.setScheduler()
	}
	switch n := c.order.nice; {
	case n != nil:
		c.step(stepNice, decimal(*n))
		c.Call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(*n))
	case c.order.defaults:
		c.step(stepNice, "0")
		done := new(spawn.Place)
		c.Call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, 0).AllowAny().Then(done)
		c.Call(unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, 0).Keep(number).AllowAny()
		c.warn(number, func(value uint64, errno syscall.Errno) string {
			return stays("nice", 0, true, decimal(20-int(value)), errno) // the kernel counts from 40 down to 1
		})
		c.Here(done)
	}
}

// setScheduler makes the process one that the ordinary scheduler runs, and has the
// kernel derive its io priority from its nice value. Leaving a real-time policy or
// class is always allowed; a kernel without io priorities has none to set back.
func (c *compiler) setScheduler() {
	const (
		resetOnFork = 0x40000000
		processes   = 1 // IOPRIO_WHO_PROCESS
	)
	done := new(spawn.Place)
	c.Call(unix.SYS_SCHED_GETSCHEDULER, 0).Keep(number).AllowAny().Else(done)
	c.Equal(number, 0, unix.EDOM).Allow(unix.EDOM).Then(done)
	c.Equal(number, resetOnFork, unix.EDOM).Allow(unix.EDOM).Then(done)
	c.Call(unix.SYS_SCHED_SETSCHEDULER, 0, 0, c.Space(8)).AllowAny().Then(done)
	c.warn(number, func(value uint64, errno syscall.Errno) string {
		return stays("the scheduling policy", 0, true, decimal(int(value)), errno)
	})
	c.Here(done)
	c.Call(unix.SYS_IOPRIO_SET, processes, 0, 0).AllowAny()
}

// joinKeyring gives the program a session keyring of its own: that of
// supervisord's session may hold root's keys, and stays readable after setuid.
// It comes before the user is set, since an ordinary user's quota of keys is
// small. A kernel or a container without keys has none to protect.
func (c *compiler) joinKeyring() {
	c.step(stepKeyring, "")
	may := []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES}
	if !c.order.setIDs { // the keys are the program's own user's
		may = append(may, unix.EDQUOT)
	}
	c.Call(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).Allow(may...)
}

// setLimits sets the limits while they may still be raised: first to what ours are
// now, which may have changed since the template was forked.
func (c *compiler) setLimits() {
	for resource := range resources {
		c.step(stepLimits, limitNames[resource])
		if l, ok := inheritable(resource); ok {
			c.Call(unix.SYS_PRLIMIT64, 0, uintptr(resource), c.Words(l.Cur, l.Max), 0).AllowAny()
		}
	}
	core := false
	for _, l := range c.order.limits {
		core = core || l.resource == unix.RLIMIT_CORE
		c.setClosest(l, true)
	}
	if !core && c.order.defaults { // the kernel's own: none, and the right to ask for them
		c.setClosest(rlimit{unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY}, false)
	}
}

// resources is how many there are that have a limit (getrlimit(2)).
const resources = unix.RLIMIT_RTTIME + 1

// inheritable is our own limit, but for the soft one of files where that is still as
// package os has raised it.
func inheritable(resource int) (l unix.Rlimit, ok bool) {
	if unix.Prlimit(0, resource, nil, &l) != nil {
		return l, false
	}
	if soft := softFiles(); resource == unix.RLIMIT_NOFILE && l.Cur == soft.raised {
		l.Cur = min(l.Max, soft.before)
	}
	return l, true
}

// setClosest sets l, or what comes closest to it when it may not be raised so
// far (as systemd does), and warns of that.
func (c *compiler) setClosest(l rlimit, warn bool) {
	c.step(stepLimits, limitNames[l.resource])
	done, asked, now := new(spawn.Place), c.Words(l.soft, l.hard), c.Space(16)
	soft, hard, hardNow := asked, asked+8, now+8
	c.Call(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), asked, 0).Allow(unix.EPERM).Then(done)
	c.Call(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), 0, now)
	if warn {
		c.Load(hardNow, number)
		c.warn(number, func(value uint64, _ syscall.Errno) string {
			return limitNames[l.resource] + ": asked " + limitText(l.soft, l.hard) + ", the hard limit is " + limitText(value, value)
		})
	}
	c.Least(hard, hardNow)
	c.Least(soft, hard)
	c.Call(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), asked, 0)
	c.Here(done)
}

// warn answers with what is in a slot.
func (c *compiler) warn(slot int, words func(value uint64, errno syscall.Errno) string) {
	if c.warnings == nil {
		c.warnings = map[uint32]func(uint64, syscall.Errno) string{}
	}
	c.warnings[uint32(c.Answer(spawn.Warned, slot))] = words
}

// setGroups and setUser each check what they did: a call that says it worked
// and did not would leave the program with root's rights.

func (c *compiler) setGroups() {
	if !c.order.setIDs {
		return
	}
	c.step(stepGroup, c.order.group)
	groups := c.order.groups
	for _, g := range groups {
		if g == noID {
			c.Fail(unix.EINVAL)
			return
		}
	}
	n, want := uintptr(len(groups)), c.Halves(groups...)
	got := c.Space(4 * (len(groups) + 1)) // of one more EINVAL tells
	c.Call(unix.SYS_SETGROUPS, n, want)
	c.setIDs(unix.SYS_SETRESGID, unix.SYS_GETRESGID, c.order.gid)
	c.Call(unix.SYS_GETGROUPS, n+1, got).Keep(number)
	c.Equal(number, n, unix.EPERM)
	c.Within(want, got, len(groups), unix.EPERM)
}

func (c *compiler) setUser() {
	if !c.order.setIDs {
		return
	}
	c.step(stepUser, c.order.user)
	c.setIDs(unix.SYS_SETRESUID, unix.SYS_GETRESUID, c.order.uid)
	c.Call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0) // of a new user it is fs.suid_dumpable (proc_sys_fs(5))
}

// noID is the number that means "leave it" to setresuid(2), which then succeeds.
const noID = 1<<32 - 1

// setIDs sets real, effective and saved id.
func (c *compiler) setIDs(set, get uintptr, id uint32) {
	if id == noID {
		c.Fail(unix.EINVAL)
		return
	}
	c.Call(set, uintptr(id), uintptr(id), uintptr(id))
	at := c.Space(3 * 4)
	c.Call(get, at, at+4, at+8)
	for i := range uintptr(3) {
		c.Check(at+4*i, noID, id, unix.EPERM)
	}
}

// dropCapabilities leaves a program's user nothing but that user's rights for what
// follows. Root's capabilities went with its id, but for securebits that keep them, and a
// supervisord that is not root may have some: the change of a user leaves those, and
// execve takes them off (capabilities(7)). Of root itself it empties the inheritable and
// ambient sets, which survive a later change of user.
func (c *compiler) dropCapabilities() {
	c.step(stepCapabilities, "")
	who, sets := c.Halves(unix.LINUX_CAPABILITY_VERSION_3, 0), c.Space(2*3*4)
	dropped := []uintptr{sets + 2*4, sets + 5*4} // inheritable
	if c.order.uid != 0 {
		dropped = append(dropped, sets, sets+4, sets+3*4, sets+4*4) // effective and permitted
	}
	c.Call(unix.SYS_CAPGET, who, sets)
	for _, at := range dropped {
		c.Store(at, 0)
	}
	c.Call(unix.SYS_CAPSET, who, sets)                                                            // ambient is a subset, and follows
	c.Call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL).Allow(unix.EINVAL) // before Linux 4.3
	c.Call(unix.SYS_CAPGET, who, sets)
	for _, at := range dropped {
		c.Check(at, 1<<32-1, 0, unix.EPERM)
	}
}

// read reads an environment file to where supervisord sees it, and waits for nothing
// that is no plain file. What it waits for all the same holds up this start alone.
func (c *compiler) read(f envFile) {
	path, optional := optionalFile(f.path)
	c.step(stepEnvironment, path)
	none, done := new(spawn.Place), new(spawn.Place)
	opened := c.Call(unix.SYS_OPENAT, atFDCWD, c.Text(path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC).Keep(open)
	if optional {
		opened.Allow(unix.ENOENT).Else(none)
	}
	st := c.Space(int(unsafe.Sizeof(unix.Stat_t{})))
	c.Call(unix.SYS_FSTAT, open, st).Take(0)
	c.Check(st+unsafe.Offsetof(unix.Stat_t{}.Mode), unix.S_IFMT, unix.S_IFREG, unix.EINVAL)
	c.ReadAll(open, c.Room(), maxFile+1).Keep(number)
	c.Call(unix.SYS_CLOSE, open).Take(0)
	c.Answer(spawn.Read, number)
	c.Skip(done)
	c.Here(none)
	c.AnswerValue(spawn.Read, 0)
	c.Here(done)
}

// execute runs the program: the pinned file, or what is at the path now. The frame
// before it tells "it ran" from "it died before it could".
//
// A pinned file that is still at its path is executed by that path. Executed by
// an fd, a program is called in ps, top and pgrep after the fd ("8") before
// Linux 6.14, and after the target of a symbolic link since (redis-server would
// be redis-check-rdb). A file that comes to the path between the look and the
// execve is run in its stead; that is the file that a start just after it runs.
func (c *compiler) execute(env []string) {
	o := c.order
	c.step(stepExec, o.path)
	path, argv, envp := c.Text(o.path), c.Texts(o.argv), c.Texts(env)
	if c.at.executable < 0 {
		c.AnswerValue(spawn.Exec, 0)
		c.Call(unix.SYS_EXECVEAT, atFDCWD, path, argv, envp, 0)
		return
	}
	fd, empty := c.at.highExecutable(), c.Text("")
	moved := new(spawn.Place)
	pinned, there := c.Space(int(unsafe.Sizeof(unix.Stat_t{}))), c.Space(int(unsafe.Sizeof(unix.Stat_t{})))
	c.Call(unix.SYS_FSTAT, fd, pinned).AllowAny().Else(moved)
	c.Call(sysFstatat, atFDCWD, path, there, 0).AllowAny().Else(moved)
	for _, field := range []uintptr{unsafe.Offsetof(unix.Stat_t{}.Dev), unsafe.Offsetof(unix.Stat_t{}.Ino)} {
		c.Load(pinned+field, number)
		c.Load(there+field, other)
		c.Equal2(number, other, unix.EDOM).Allow(unix.EDOM).Else(moved)
	}
	c.AnswerValue(spawn.Exec, 0)
	c.Call(unix.SYS_EXECVEAT, atFDCWD, path, argv, envp, 0).AllowAny()
	c.Here(moved)
	c.AnswerValue(spawn.Exec, 0)
	c.Call(unix.SYS_EXECVEAT, fd, empty, argv, envp, unix.AT_EMPTY_PATH)
}

const atFDCWD = ^uintptr(99) // -100
