package spawn

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A rig is a template, and who owns it.
type rig struct {
	*Template
	t    *testing.T
	null int
	ends []int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, null: null}
	if r.Template, err = New(Options{Null: null, Variables: testing.CoverMode() != "", Ended: func(pid int) { r.ends = append(r.ends, pid) }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		unix.Close(null)
		for _, pid := range r.ends {
			reap(t, pid)
		}
	})
	return r
}

func reap(t *testing.T, pid int) (ws syscall.WaitStatus) {
	t.Helper()
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		switch err {
		case nil:
			return ws
		case syscall.EINTR:
		default:
			t.Fatalf("cannot wait for %d: %v", pid, err)
		}
	}
}

// A started child and what a test knows of it.
type started struct {
	Child
	t     *testing.T
	first int
}

func (r *rig) fork(cgroup int, files ...int) *started {
	r.t.Helper()
	request := &Request{Cgroup: cgroup, Files: files}
	r.Fork(request)
	if request.Err != nil {
		r.t.Fatalf("cannot fork: %v", request.Err)
	}
	c := &started{request.Child, r.t, request.First()}
	if f := c.next(); f.Kind != Born {
		r.t.Fatalf("its first word is %+v", f)
	}
	return c
}

// hear waits for a frame; !ok: the child has become its program, or is dead.
func (c *started) hear() (Frame, bool) {
	c.t.Helper()
	for {
		const ever = 120
		if !readable(c.Control, ever) {
			c.t.Fatal("it says nothing")
		}
		f, ok, err := Hear(c.Control)
		if err == syscall.EAGAIN {
			continue
		}
		if err != nil {
			c.t.Fatal(err)
		}
		return f, ok
	}
}

func (c *started) next() Frame {
	c.t.Helper()
	f, ok := c.hear()
	if !ok {
		c.t.Fatal("it has ended")
	}
	return f
}

func (c *started) tell(b *Builder) *Program {
	c.t.Helper()
	p := b.Program()
	if err := Tell(c.Control, p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// ends closes what there is of the child, and says how it ended.
func (c *started) ends() syscall.WaitStatus {
	c.t.Helper()
	unix.Close(c.Control)
	return reap(c.t, c.PID)
}

// runs waits for the program, and says how it ended.
func (c *started) runs() syscall.WaitStatus {
	c.t.Helper()
	if f := c.next(); f.Kind != Exec {
		c.t.Fatalf("it says %+v", f)
	}
	if f, ok := c.hear(); ok {
		c.t.Fatalf("after all it says %+v", f)
	}
	return c.ends()
}

func (c *started) round(n int) *Builder { return NewBuilder(c.Base, n) }

// become writes the end of a program: sh with a script.
func become(b *Builder, script string, env ...string) *Builder {
	b.Label(Label{Step: "exec", Detail: "/bin/sh", Status: 203})
	path, argv, envp := b.Text("/bin/sh"), b.Texts([]string{"sh", "-c", script}), b.Texts(append(env, "PATH=/bin:/usr/bin"))
	b.AnswerValue(Exec, 0)
	b.Call(unix.SYS_EXECVE, path, argv, envp)
	return b
}

func setIDs(b *Builder, id uintptr) *Builder {
	b.Call(unix.SYS_SETGROUPS, 0, 0)
	b.Call(unix.SYS_SETRESGID, id, id, id)
	b.Call(unix.SYS_SETRESUID, id, id, id)
	return b
}

func TestProgramRuns(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	// A session of its own, no file but its three, and its pid.
	c.tell(become(c.round(0), `test "$WHO" = $$ && read _ _ _ _ _ s _ </proc/self/stat && test $s = $$ && test ! -e /proc/$$/fd/3 && exit 42`, "WHO="+strconv.Itoa(c.PID)))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
}

// Of each round a child does one program, and of any other none: whoever does not know
// whether it was sent may send it again.
func TestRoundIsDoneOnce(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	count := func(round int, value uint64) *Builder {
		b := c.round(round)
		b.AnswerValue(Read, value)
		b.Again()
		return b
	}
	for range 3 {
		c.tell(count(0, 1))
	}
	c.tell(count(7, 2))
	c.tell(count(1, 3))
	c.tell(become(c.round(2), "exit 42"))
	for _, want := range []Frame{{Kind: Read, Value: 1, Round: 1}, {Kind: Read, Value: 3, Round: 2}} {
		if f := c.next(); f != want {
			t.Errorf("it says %+v, not %+v", f, want)
		}
	}
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
}

// What is looked at is there for the next one who looks, also when the child has left a
// program unread.
func TestFramesAreThereForTheNextOne(t *testing.T) {
	r := newRig(t)
	request := &Request{Cgroup: -1}
	r.Fork(request)
	c := &started{request.Child, t, request.First()}
	defer c.ends()
	for range 2 {
		if err := Rewind(c.Control); err != nil {
			t.Fatal(err)
		}
		b := c.round(0)
		b.AnswerValue(Read, 5)
		b.Again()
		for _, b := range []*Builder{b, become(c.round(1), "exit 42"), become(c.round(1), "exit 43")} { // the last nobody reads
			if err := Tell(c.Control, b.Program()); err != nil && err != syscall.EPIPE {
				t.Fatal(err)
			}
		}
		var kinds []Kind
		for {
			if !readable(c.Control, 120) {
				t.Fatal("it says nothing")
			}
			f, ok, err := Look(c.Control)
			if err == syscall.EAGAIN {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			kinds = append(kinds, f.Kind)
		}
		if want := []Kind{Born, Read, Exec}; !slices.Equal(kinds, want) {
			t.Errorf("it says %v, not %v", kinds, want)
		}
	}
}

func TestWhatFailsIsToldExactly(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	b := c.round(0)
	b.Label(Label{Step: "chdir", Detail: "/nowhere", Status: 200})
	b.Call(unix.SYS_CHDIR, b.Text("/nowhere"))
	p := c.tell(become(b, "exit 42"))
	f := c.next()
	if f.Kind != Failed || syscall.Errno(f.Errno) != unix.ENOENT || p.Label(f.Index) != (Label{"chdir", "/nowhere", 200}) {
		t.Errorf("it says %+v: %+v", f, p.Label(f.Index))
	}
	if ws := c.ends(); ws.ExitStatus() != 200 {
		t.Errorf("it ended with %x", ws)
	}
}

// Every builtin, and where a program goes on.
func TestBuiltins(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	b := c.round(0)
	say := func(n uint64) { b.AnswerValue(Read, n) }
	numbers, limit := b.Words(5, 9), b.Words(7)
	b.Least(numbers, limit)
	b.Least(numbers+8, limit)
	b.Load(numbers, 1)
	b.Answer(Read, 1)
	b.Load(numbers+8, 1)
	b.Answer(Read, 1)
	b.Store(limit, 3)
	b.Check(limit, 0xffff, 3, unix.EIO)
	groups, others := b.Halves(3, 1, 2), b.Halves(1, 2, 3)
	b.Within(groups, others, 3, unix.EIO)
	in, out := new(Place), new(Place)
	b.Within(groups, b.Halves(1, 2, 4), 3, unix.EDOM).Allow(unix.EDOM).Else(out)
	say(100)
	b.Here(out)
	b.Equal(1, 7, unix.EIO).Then(in)
	say(101)
	b.Here(in)
	b.Call(unix.SYS_CLOSE, 77).AllowAny().Keep(2) // -1
	b.Equal(2, ^uintptr(0), unix.EIO)
	b.Answer(Warned, 2) // with the errno
	b.Fail(unix.EXDEV)
	c.tell(b)
	for _, want := range []Frame{
		{Kind: Read, Value: 5},
		{Kind: Read, Value: 7},
		{Kind: Warned, Value: 1<<64 - 1, Errno: uint32(unix.EBADF)},
		{Kind: Failed, Errno: uint32(unix.EXDEV)},
	} {
		f := c.next()
		f.Index, f.Round = 0, 0
		if f.Kind == Read {
			f.Errno = 0
		}
		if f != want {
			t.Errorf("it says %+v, not %+v", f, want)
		}
	}
	c.ends()
}

// A program that is too large for a message comes in a file.
func TestLargeProgram(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	env := []string{}
	for i := range 4 {
		env = append(env, fmt.Sprintf("LARGE%d=%s", i, strings.Repeat("x", 100<<10)))
	}
	c.tell(become(c.round(0), `test ${#LARGE3} = 102400 && exit 42`, env...))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
}

// Nothing of a program is trusted that cannot be: it is read by a process that has no
// bounds checks.
func TestProgramThatIsNone(t *testing.T) {
	r := newRig(t)
	for name, spoil := range map[string]func(h *header){
		"size":  func(h *header) { h.size++ },
		"first": func(h *header) { h.first = h.size },
		"count": func(h *header) { h.count = 1 << 60 },
	} {
		c := r.fork(-1)
		p := become(c.round(0), "exit 42").Program()
		spoil((*header)(unsafe.Pointer(&p.message[0])))
		if err := Tell(c.Control, p); err != nil {
			t.Fatal(err)
		}
		if f, ok := c.hear(); ok {
			t.Errorf("%s: it says %+v", name, f)
		}
		if ws := c.ends(); ws.ExitStatus() != 0 {
			t.Errorf("%s: it ended with %x", name, ws)
		}
	}
	c := r.fork(-1)
	unix.Write(c.Control, []byte("short"))
	if ws := c.ends(); ws.ExitStatus() != 0 {
		t.Errorf("it ended with %x", ws)
	}
}

// Files come in their order, however many.
func TestFilesInTheirOrder(t *testing.T) {
	r := newRig(t)
	const many = 600 // three messages
	var files []int
	var pipes [][2]int
	for range many {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Skip("needs more files: ", err)
		}
		pipes, files = append(pipes, p), append(files, p[1])
	}
	c := r.fork(-1, files...)
	b := c.round(0)
	for i := range many {
		b.Call(unix.SYS_WRITE, uintptr(c.first+i), b.Halves(uint32(i)), 4)
	}
	b.AnswerValue(Read, 0)
	c.tell(b)
	c.next()
	for i, p := range pipes {
		var got [4]byte
		if n, err := unix.Read(p[0], got[:]); n != 4 || int(got[0])|int(got[1])<<8 != i {
			t.Errorf("file %d got %v, %v", i, got, err)
		}
		unix.Close(p[0])
		unix.Close(p[1])
	}
	c.ends()
}

func TestFileThatIsNone(t *testing.T) {
	r := newRig(t)
	request := &Request{Cgroup: -1, Files: []int{1 << 20}}
	if r.Fork(request); request.Err != unix.EBADF {
		t.Errorf("error is %v", request.Err)
	}
	c := r.fork(-1)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("the next ended with %x", ws)
	}
}

// A template that is dead is replaced within the same start.
func TestTemplateThatIsDead(t *testing.T) {
	r := newRig(t)
	was := r.PID()
	unix.Kill(was, unix.SIGKILL)
	c := r.fork(-1)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 || r.PID() == was {
		t.Errorf("it ended with %x", ws)
	}
}

// One that does not answer is replaced when its owner has had enough; a request that
// was sent twice is not sent again.
func TestTemplateThatIsStopped(t *testing.T) {
	r := newRig(t)
	stop := func() int {
		pid := r.PID()
		unix.Kill(pid, unix.SIGSTOP)
		for state(t, pid) != 'T' {
			runtime.Gosched()
		}
		return pid
	}
	was := stop()
	first, second := &Request{Cgroup: -1}, &Request{Cgroup: -1}
	r.Ask(first)
	r.Ask(second)
	if r.Answered() != nil {
		t.Fatal("it has answered")
	}
	r.Expired()
	for _, want := range []*Request{first, second} {
		var got *Request
		for got == nil {
			readable(r.FD(), Patience)
			got = r.Answered()
		}
		if got != want || got.Err != nil || r.PID() == was {
			t.Fatalf("got %+v of template %d", got, r.PID())
		}
		(&started{got.Child, t, 0}).ends()
	}
	stop()
	twice := &Request{Cgroup: -1}
	r.Ask(twice)
	r.Expired()
	stop()
	for r.Expired(); r.Answered() != twice; r.Expired() { // unless it was quicker than the second stop
		readable(r.FD(), Patience)
	}
	if twice.Err == nil {
		(&started{twice.Child, t, 0}).ends()
	} else if twice.Err != unix.ETIMEDOUT {
		t.Errorf("error is %v", twice.Err)
	}
	c := r.fork(-1)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("the next ended with %x", ws)
	}
}

func state(t *testing.T, pid int) byte {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return text[bytes.LastIndexByte(text, ')')+2]
}

func TestNoSignalEndsATemplate(t *testing.T) {
	r := newRig(t)
	was := r.PID()
	for sig := unix.Signal(1); sig < 32; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP {
			unix.Kill(was, sig)
		}
	}
	c := r.fork(-1)
	// Nothing is blocked or ignored, though all of it is blocked in the template.
	c.tell(become(c.round(0), `while read name value; do case $name in Sig[BI]*) test $value = 0000000000000000 || exit 1; esac; done </proc/self/status; exit 42`))
	if ws := c.runs(); ws.ExitStatus() != 42 || r.PID() != was {
		t.Errorf("it ended with %x, of template %d, which was %d", ws, r.PID(), was)
	}
}

// Who waits for a program, and the template, end with supervisord.
func TestNobodyOutlivesTheOwner(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	pid := r.PID()
	r.Close()
	r.socket = -1
	reap(t, pid)
	r.ends = nil
	if ws := c.ends(); ws.ExitStatus() != 0 {
		t.Errorf("it ended with %x", ws)
	}
}

// A child that waits can be ended by whatever ends a program.
func TestSignalEndsWhoWaits(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	unix.Kill(c.PID, unix.SIGTERM)
	if ws := reap(t, c.PID); ws.Signal() != unix.SIGTERM {
		t.Errorf("it ended with %x", ws)
	}
	unix.Close(c.Control)
}

var secret = []byte(strings.Join([]string{"what", "supervisord", "knows"}, "-"))

// No memory of supervisord's is in a template, and none of its files.
func TestNothingOfOursIsInATemplate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: nobody else may look at the memory of a template")
	}
	r := newRig(t)
	r.fork(-1).ends() // then it has taken everything off
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.PID()))
	if err != nil || len(files) != 4 {
		t.Errorf("it has files %v, %v", files, err)
	}
	if !shrinkable {
		t.Skip("needs a build without cgo: of others the template keeps the memory")
	}
	if found, _ := search(t, os.Getpid()); found == 0 {
		t.Error("the secret is not found where it is")
	}
	found, size := search(t, r.PID())
	t.Logf("%d KiB can be read in the template", size>>10)
	if found > 0 {
		t.Error("the template has the secret")
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", r.PID()))
	if err != nil || bytes.Contains(maps, []byte("[stack]")) || bytes.Count(maps, []byte(" rw")) > 2 {
		t.Errorf("it has more than its board and its stack: %v\n%s", err, maps)
	}
}

// What was on the stack, or on its pages beside it, is not in a template either.
func TestStackOfATemplate(t *testing.T) {
	if os.Geteuid() != 0 || !shrinkable {
		t.Skip("needs root, and a build without cgo")
	}
	var onStack [6 << 10]byte
	for i := 0; i < len(onStack); i += len(secret) {
		copy(onStack[i:], secret)
	}
	r := newRig(t)
	r.fork(-1).ends()
	if found, _ := search(t, r.PID()); found > 0 {
		t.Errorf("the template has the secret %d times", found)
	}
	if !bytes.HasPrefix(onStack[:], secret) {
		t.Error("it was not there")
	}
}

// However many mappings there are.
func TestManyMappings(t *testing.T) {
	if os.Geteuid() != 0 || !shrinkable {
		t.Skip("needs root, and a build without cgo")
	}
	page := os.Getpagesize()
	for i := range 300 {
		m, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON) // each is apart
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(m)
		if copy(m, secret); i%3 == 0 {
			unix.Mprotect(m, unix.PROT_NONE)
		}
	}
	r := newRig(t)
	r.fork(-1).ends()
	if found, _ := search(t, r.PID()); found > 0 {
		t.Errorf("the template has the secret %d times", found)
	}
}

// search looks for the secret in what a process can write.
func search(t *testing.T, pid int) (found, size int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	piece := make([]byte, 1<<20) // ours grow with what we read into them
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		if !ok || !m.writable {
			continue
		}
		for at := m.from; at < m.to; at += uintptr(len(piece)) {
			n, _ := mem.ReadAt(piece[:min(uintptr(len(piece)), m.to-at)], int64(at))
			found += bytes.Count(piece[:n], secret)
			size += n
		}
	}
	return found, size
}

// A child that is a user's, and has yet to execute, shows that user nothing, and may
// be stopped by it; nobody else waits.
func TestUserLooksAtWhatWaits(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root, and setpriv(1)")
	}
	const uid = 41236
	r := newRig(t)
	c := r.fork(-1)
	b := setIDs(c.round(0), uid)
	b.Text("SECRET=x")
	b.AnswerValue(Read, 0)
	b.Again()
	c.tell(b)
	if f := c.next(); f.Kind != Read {
		t.Fatalf("it says %+v", f)
	}
	as := func(script string) error {
		id := strconv.Itoa(uid)
		return exec.Command(setpriv, "--reuid", id, "--regid", id, "--clear-groups", "sh", "-c", strings.ReplaceAll(script, "%", "/proc/"+strconv.Itoa(c.PID))).Run()
	}
	for _, script := range []string{"cat %/environ", "cat %/maps", "ls %/fd/", "head -c1 %/mem", "readlink %/exe", "readlink %/cwd", "cat %/auxv", "ls %/map_files/"} {
		if as(script) == nil {
			t.Errorf("the user may %s", script)
		}
	}
	if err := as("kill -STOP " + strconv.Itoa(c.PID)); err != nil {
		t.Errorf("the user may not stop it: %v", err)
	}
	c.tell(become(c.round(1), "exit 42"))
	other := r.fork(-1)
	other.tell(become(setIDs(other.round(0), uid+1), "exit 43"))
	if ws := other.runs(); ws.ExitStatus() != 43 {
		t.Errorf("another ended with %x", ws)
	}
	unix.Kill(c.PID, unix.SIGCONT)
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
}

// A cgroup that is frozen holds up its own child and nobody else: no start, and no
// collection of garbage, for which all threads of a program must stand still.
func TestFrozenCgroup(t *testing.T) {
	dir := cgroup2(t)
	if err := os.WriteFile(dir+"/cgroup.freeze", []byte("1"), 0); err != nil {
		t.Skip("needs the freezer: ", err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r := newRig(t)
	frozen := &Request{Cgroup: fd}
	r.Fork(frozen)
	if frozen.Err == unix.ENOSYS {
		t.Skip("needs clone3(2)")
	}
	if frozen.Err != nil {
		t.Fatal(frozen.Err)
	}
	runtime.GC()
	c := r.fork(-1)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("another ended with %x", ws)
	}
	if _, _, err := Hear(frozen.Child.Control); err != unix.EAGAIN {
		t.Errorf("the frozen one says something: %v", err)
	}
	unix.Kill(frozen.Child.PID, unix.SIGKILL)
	(&started{frozen.Child, t, 0}).ends()
}

// cgroup2 is a cgroup of our own, or the test is skipped.
func cgroup2(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
			continue
		}
		dir, err := os.MkdirTemp(root, "spawn-test-")
		if err != nil {
			t.Skip("needs a cgroup: ", err)
		}
		t.Cleanup(func() {
			os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0)
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("needs cgroup2")
	return ""
}

// Where the template may have no more children the start says so, and the next works.
func TestNoRoomForAChild(t *testing.T) {
	dir, err := os.MkdirTemp("/sys/fs/cgroup/pids", "spawn-test-")
	if err != nil {
		if dir, err = os.MkdirTemp("/sys/fs/cgroup", "spawn-test-"); err != nil {
			t.Skip("needs a cgroup: ", err)
		}
	}
	defer os.Remove(dir)
	r := newRig(t)
	if err := os.WriteFile(dir+"/pids.max", []byte("1"), 0); err != nil {
		t.Skip("needs the pids controller: ", err)
	}
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(r.PID())), 0); err != nil {
		t.Skip("needs a cgroup that takes processes: ", err)
	}
	request := &Request{Cgroup: -1}
	if r.Fork(request); request.Err != unix.EAGAIN {
		t.Errorf("error is %v", request.Err)
	}
	os.WriteFile(dir+"/pids.max", []byte("max"), 0)
	c := r.fork(-1)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
	pid := r.PID()
	r.stop()
	reap(t, pid)
	r.ends = nil
}

// Who has the answer has the files alone, but for the child: the program's end of its
// control socket tells when it runs, and a port is free when who listened is gone.
func TestTemplateKeepsNoFileOfAChild(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: nobody else may look at the files of a template")
	}
	r := newRig(t)
	files := make([]int, 800)
	for i := range files {
		files[i] = r.null
	}
	c := r.fork(-1, files...)
	if left, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.PID())); err != nil || len(left) != 4 {
		t.Errorf("it has files %v, %v", left, err)
	}
	c.ends()
}

// A template that is forked when we may have no more files has none of ours all the same.
func TestTemplateWithoutMoreFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: nobody else may look at the files of a template")
	}
	r := newRig(t)
	top := 0
	for range 1000 { // there are gaps
		fd, err := unix.FcntlInt(uintptr(r.null), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		top = max(top, fd)
	}
	unix.Kill(r.PID(), unix.SIGKILL)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(top) + 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	request := &Request{Cgroup: -1}
	r.Fork(request)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	if request.Err != nil {
		t.Fatal(request.Err)
	}
	for fd := range 3 {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.PID(), fd)); link != "/dev/null" {
			t.Errorf("its file %d is %s, %v", fd, link, err)
		}
	}
	(&started{request.Child, t, 0}).ends()
}

// A limit of files that was raised since the template was forked counts.
func TestLimitOfFilesThatWasRaised(t *testing.T) {
	r := newRig(t)
	was := r.PID()
	limit := unix.Rlimit{Cur: 8, Max: 8}
	if err := unix.Prlimit(was, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Skip("needs to lower the limit of a template: ", err)
	}
	c := r.fork(-1, r.null, r.null, r.null, r.null, r.null, r.null)
	c.tell(become(c.round(0), "exit 42"))
	if ws := c.runs(); ws.ExitStatus() != 42 || r.PID() == was {
		t.Errorf("it ended with %x, of template %d, which was %d", ws, r.PID(), was)
	}
}

// A socket takes no message that is larger than its buffer, which a machine may have
// made small (net.core.wmem_default).
func TestProgramThatIsLargerThanTheBuffer(t *testing.T) {
	r := newRig(t)
	c := r.fork(-1)
	if err := unix.SetsockoptInt(c.Control, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10); err != nil {
		t.Fatal(err)
	}
	c.tell(become(c.round(0), `test ${#LARGE} = 20000 && exit 42`, "LARGE="+strings.Repeat("x", 20000)))
	if ws := c.runs(); ws.ExitStatus() != 42 {
		t.Errorf("it ended with %x", ws)
	}
}

// A kernel for arm64 may have pages of 16 or 64 KiB: munmap(2) takes the whole of a page
// of which it is given a part, and mmap(2) no address within one.
func TestPagesThatAreLarge(t *testing.T) {
	const maps = `000000010000-000000400000 r-xp 00000000 00:10 77 /usr/bin/supervisord
000000400000-000000500000 rw-p 00000000 00:10 77 /usr/bin/supervisord
000000500000-000000600000 rw-p 00000000 00:00 0
004000000000-004000400000 rw-p 00000000 00:00 0
004000400000-004004000000 ---p 00000000 00:00 0
`
	const here = uintptr(0x4000123458)
	for _, page := range []uintptr{4 << 10, 16 << 10, 64 << 10} {
		b := &board{}
		b.list(maps, here, page, false)
		if b.unmapped == 0 || b.stack[0]%page != 0 || b.stack[1]%page != 0 || b.stack[0]+deep > here || b.stack[1]-deep < here {
			t.Errorf("%d: %d are unmapped, and the stack is %x", page, b.unmapped, b.stack)
		}
		for _, u := range b.unmap[:b.unmapped] {
			if u[0]%page != 0 || u[1]%page != 0 || u[0] < b.stack[1] && u[0]+u[1] > b.stack[0] {
				t.Errorf("%d: %x is unmapped, the stack is %x", page, u, b.stack)
			}
		}
		if boardSize%page != 0 || programSize%page != 0 || regionSize%page != 0 {
			t.Errorf("%d: a program cannot map files", page)
		}
	}
}

// The stack may be at the end of what the heap has of its memory, and at its beginning.
func TestStackAcrossMappings(t *testing.T) {
	const maps = `004000000000-004000400000 rw-p 00000000 00:00 0
004000400000-004004000000 ---p 00000000 00:00 0
`
	for _, here := range []uintptr{0x4000400000 - 4096, 0x4000400000 + 4096, 0x4000400000, 0x4000000000 + 4096, 0x4004000000 - 4096} {
		b := &board{}
		b.list(maps, here, 4096, false)
		size := uintptr(0)
		for _, u := range b.unmap[:b.unmapped] {
			if size += u[1]; u[0] < b.stack[1] && u[0]+u[1] > b.stack[0] {
				t.Errorf("%x: %x is unmapped, the stack is %x", here, u, b.stack)
			}
		}
		if stays := uintptr(64<<20) - size; stays > b.stack[1]-b.stack[0] {
			t.Errorf("%x: %d bytes stay", here, stays)
		}
	}
}

// Where close_range(2) is filtered each number is closed: not a billion, as a limit of
// files may be.
func TestFilesToCloseAreFew(t *testing.T) {
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 300)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n := filesAtMost(1 << 30); n <= uintptr(fd) || n > 1<<20 {
		t.Errorf("%d is above all files, of which one is %d", n, fd)
	}
}
