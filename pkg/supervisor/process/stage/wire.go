package stage

import "syscall"

// MaxTask is the size of a task that a stage accepts, in bytes.
const MaxTask = 1 << 20

// A Task is what a stage is to become. Numbers only: names were looked up by
// supervisord.
type Task struct {
	Path   string // what to run; absolute
	Pinned bool   // run the file that the stage has as an fd; Path is for messages
	Argv   []string
	Dir    string

	Env      []string  // KEY=VALUE; of equal keys the last counts
	EnvFiles []EnvFile // over Env, in order
	Protocol []string  // over all of them
	Names    []string  // $LISTEN_FDNAMES; one a socket
	Handover bool      // two more fds come after the sockets: $SUPERVISORD_HANDOVER
	Watchdog uint64    // $WATCHDOG_USEC; 0: not set

	SetIDs   bool
	UID, GID uint64
	Groups   []uint64
	Umask    uint64

	SetNice, SetOOM bool
	Nice, OOM       int64
	Limits          []Limit
	Defaults        bool // what has no value here does not come from supervisord either: see setDefaults
}

// An EnvFile is a file to be read with the rights of the program's user, and
// what comes after it.
type EnvFile struct {
	Path  string // with "-" before it may be missing
	Pairs []string
}

// A Limit is one setrlimit(2).
type Limit struct{ Resource, Soft, Hard uint64 }

// Encode returns the message that carries t.
func Encode(t *Task) []byte {
	c := coder{}
	t.code(&c)
	return append(putUint(nil, uint64(len(c.buf))), c.buf...)
}

// code walks the fields, once for both directions.
func (t *Task) code(c *coder) {
	c.text(&t.Path)
	c.flag(&t.Pinned)
	c.texts(&t.Argv)
	c.text(&t.Dir)
	c.texts(&t.Env)
	list(c, &t.EnvFiles, func(c *coder, f *EnvFile) {
		c.text(&f.Path)
		c.texts(&f.Pairs)
	})
	c.texts(&t.Protocol)
	c.texts(&t.Names)
	c.flag(&t.Handover)
	c.number(&t.Watchdog)
	c.flag(&t.SetIDs)
	c.number(&t.UID)
	c.number(&t.GID)
	list(c, &t.Groups, (*coder).number)
	c.number(&t.Umask)
	c.flag(&t.SetNice)
	c.flag(&t.SetOOM)
	c.signed(&t.Nice)
	c.signed(&t.OOM)
	list(c, &t.Limits, func(c *coder, l *Limit) {
		c.number(&l.Resource)
		c.number(&l.Soft)
		c.number(&l.Hard)
	})
	c.flag(&t.Defaults)
}

// A coder appends to buf, or takes from it and says so by bad if that cannot be.
type coder struct {
	buf    []byte
	decode bool
	bad    bool
}

const wordSize = 8

func putUint(b []byte, v uint64) []byte {
	for shift := 0; shift < 64; shift += 8 {
		b = append(b, byte(v>>shift))
	}
	return b
}

func getUint(b []byte) (v uint64) {
	for i := range wordSize {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

func (c *coder) number(v *uint64) {
	switch {
	case !c.decode:
		c.buf = putUint(c.buf, *v)
	case len(c.buf) < wordSize:
		c.bad = true
	default:
		*v, c.buf = getUint(c.buf), c.buf[wordSize:]
	}
}

func (c *coder) signed(v *int64) {
	u := uint64(*v)
	c.number(&u)
	*v = int64(u)
}

func (c *coder) flag(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.number(&u)
	*v = u != 0
}

func (c *coder) text(v *string) {
	n := uint64(len(*v))
	c.number(&n)
	switch {
	case !c.decode:
		c.buf = append(c.buf, *v...)
	case n > uint64(len(c.buf)):
		c.bad = true
	default:
		*v, c.buf = string(c.buf[:n]), c.buf[n:]
	}
}

func (c *coder) texts(v *[]string) { list(c, v, (*coder).text) }

func list[T any](c *coder, v *[]T, item func(*coder, *T)) {
	n := uint64(len(*v))
	c.number(&n)
	if c.decode {
		if n > uint64(len(c.buf)) { // each item takes at least a byte
			c.bad = true
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		item(c, &(*v)[i])
	}
}

// receive takes the task; an error means that there will be none.
func receive(control int) (t Task, err error) {
	var head [wordSize]byte
	if err := fill(control, head[:]); err != nil {
		return t, err
	}
	n := getUint(head[:])
	if n > MaxTask {
		return t, syscall.EMSGSIZE
	}
	c := coder{buf: make([]byte, n), decode: true}
	if err := fill(control, c.buf); err != nil {
		return t, err
	}
	if t.code(&c); c.bad || len(c.buf) > 0 {
		return t, syscall.EBADMSG
	}
	return t, nil
}

// fill reads until b is full.
func fill(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Read(fd, b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return syscall.EPIPE
		}
		b = b[n:]
	}
	return nil
}

// What a stage answers: markWarning, with what follows it, for each thing that
// it goes on without; markExec when nothing but execve is left to do; and
// markFailed, with what follows it, when it gives up.
const (
	markWarning = 'w'
	markExec    = 'x'
	markFailed  = 'e'
)

// A Warning is something that the program gets otherwise than it should.
type Warning struct {
	Step       Step
	Default    bool // nobody asked for it
	Resource   uint64
	Soft, Hard uint64 // what was asked; for all but a limit it is Soft, and signed
	Got        uint64 // what it is; for a limit the hard one
	Errno      syscall.Errno
}

func (w *Warning) code(c *coder) {
	step, errno := uint64(w.Step), uint64(w.Errno)
	c.number(&step)
	c.flag(&w.Default)
	c.number(&w.Resource)
	c.number(&w.Soft)
	c.number(&w.Hard)
	c.number(&w.Got)
	c.number(&errno)
	w.Step, w.Errno = Step(step), syscall.Errno(errno)
}

// warn says something that is no reason not to start.
func (s *stage) warn(w Warning) {
	c := coder{buf: []byte{markWarning}}
	w.code(&c)
	write(s.control, c.buf)
}

// report is the last that supervisord hears of a stage that gives up.
func report(control int, f Failure) {
	b := []byte{markFailed, byte(f.Step)}
	b = putUint(b, uint64(f.Errno))
	write(control, append(b, f.Detail...))
}

// An Outcome is what became of a stage: the program ran, or the stage gave up,
// or (neither) it died.
type Outcome struct {
	Ran      bool
	Failure  Failure
	Warnings []Warning
}

// Read reads what a stage has answered until the end of the pair.
func Read(answer []byte) (o Outcome) {
	for len(answer) > 0 && answer[0] == markWarning {
		c := coder{buf: answer[1:], decode: true}
		var w Warning
		if w.code(&c); c.bad {
			return o
		}
		o.Warnings = append(o.Warnings, w)
		answer = c.buf
	}
	if len(answer) > 0 && answer[0] == markExec {
		answer, o.Ran = answer[1:], true
	}
	if len(answer) < 2+wordSize || answer[0] != markFailed {
		return o
	}
	o.Ran = false
	o.Failure = Failure{
		Step:   Step(answer[1]),
		Errno:  syscall.Errno(getUint(answer[2:])),
		Detail: string(answer[2+wordSize:]),
	}
	return o
}
