package process

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A lasting Parent keeps what it has of a child, as one does that outlives the launcher:
// each launcher of its is another supervisord, of which only the last lives.
type lasting struct {
	*thisProcess
	t *testing.T

	mu   sync.Mutex
	kept map[Name]*keptChild
}

type keptChild struct {
	Kept
	ended  chan struct{} // closed when status is set
	status syscall.WaitStatus
}

func newLasting(t *testing.T) *lasting {
	t.Helper()
	null, err := openHigh("/dev/null", unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newThisProcess(Options{}, null)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close(); unix.Close(null) })
	return &lasting{thisProcess: p, t: t, kept: map[Name]*keptChild{}}
}

func (p *lasting) Lasts() bool { return true }

func (p *lasting) Spawn(b Birth) (Child, error) {
	c, err := p.thisProcess.Spawn(b)
	if err != nil {
		return c, err
	}
	k := &keptChild{Kept: Kept{Name: b.Name, Child: c, Meta: b.Meta, Start: b.Start}, ended: make(chan struct{})}
	k.Kept = k.copied(p.t)
	ended := c.Ended
	go func() { k.status = <-ended; close(k.ended) }()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept[b.Name] = k
	c.Ended = k.tells()
	return c, nil
}

// tells is a Child's Ended.
func (k *keptChild) tells() <-chan syscall.WaitStatus {
	told := make(chan syscall.WaitStatus, 1)
	go func() { <-k.ended; told <- k.status }()
	return told
}

// copied has copies of all files.
func (k *keptChild) copied(t *testing.T) Kept {
	c := k.Kept
	dup := func(fd int) int {
		if fd < 0 {
			return fd
		}
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstHigh)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	c.PIDFD, c.Control, c.Start = dup(k.PIDFD), dup(k.Control), nil
	for _, fd := range k.Start {
		c.Start = append(c.Start, dup(fd))
	}
	c.Ended = k.tells()
	return c
}

// entry is what the next supervisord is told of a child.
func (p *lasting) entry(n Name) Kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[n]
	if k == nil {
		p.t.Fatalf("%s is not kept", n)
	}
	return k.copied(p.t)
}

func (p *lasting) Started(n Name) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.kept[n]; k != nil && k.Control >= 0 {
		unix.Close(k.Control)
		closeAll(k.Start)
		k.Control, k.Start = -1, nil
	}
	return nil
}

func (p *lasting) Release(n Name) error {
	p.Started(n)
	p.mu.Lock()
	if k := p.kept[n]; k != nil {
		unix.Close(k.PIDFD)
		delete(p.kept, n)
	}
	p.mu.Unlock()
	return p.thisProcess.Release(n)
}

func needsNoOther(t *testing.T) {
	t.Helper()
	if os.Getenv(otherParent) != "" {
		t.Skip("has a Parent of its own")
	}
}

// eachLasting runs a test with cgroups, where they can be had, and without.
func eachLasting(t *testing.T, test func(t *testing.T, p *lasting, next func() *Launcher)) {
	needsNoOther(t)
	each(t, func(t *testing.T, l *Launcher) {
		p := newLasting(t)
		test(t, p, func() *Launcher { return newTestLauncher(t, Options{NoCgroups: l.cgroups == nil, Parent: p}) })
	})
}

// leave begins a start, and leaves it as a supervisord does that is killed.
func leave(t *testing.T, l *Launcher, task *Task, at part) (*Process, *os.File) {
	t.Helper()
	r, w := complete(t, task)
	defer w.Close()
	ready, err := l.prepare(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	p, c, err := l.fork(t.Context(), task, ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Release() }) // of the one that is dead
	defer c.close()
	if err := at(t.Context(), p, c); err != nil {
		t.Fatal(err)
	}
	return p, r
}

// A part of a conversation.
type part = func(context.Context, *Process, *conversation) error

// parts are a part made of several.
func parts(all ...func(*conversation, context.Context, *Process) error) part {
	return func(ctx context.Context, p *Process, c *conversation) error {
		for _, step := range all {
			if err := step(c, ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
}

var toTheEnd = parts((*conversation).born, (*conversation).run)

func (c *conversation) tellFirst(ctx context.Context, _ *Process) error {
	k := c.compiler()
	k.read(c.ready.order.envFiles[0])
	k.Again()
	return c.tell(ctx, k.Program())
}

// Wherever a start is left, whoever takes it up has the process run what it was to run,
// once, with what it has read from files that are others by now.
func TestStartIsResumedWhereverItWasLeft(t *testing.T) {
	needsRoot(t)
	type conv = *conversation
	for _, cut := range []struct {
		name string
		at   part
		read bool // the files were
	}{
		{"forked", parts(), false},
		{"born", parts(conv.born), false},
		{"told", parts(conv.tellFirst), false},
		{"told and born", parts(conv.born, conv.tellFirst), false},
		{"both files read", parts(conv.born, conv.readFile, conv.readFile), true},
		{"run", toTheEnd, true},
	} {
		t.Run(cut.name, func(t *testing.T) {
			eachLasting(t, func(t *testing.T, parent *lasting, next func() *Launcher) {
				files := environmentOf(t, "A=old\nC=old\n", "B=old\nC=new\n")
				task := as(alice, sh(`echo $A $B $C $LISTEN_PID; exit 7`))
				task.Program.EnvironmentFiles = files
				task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 1 << 40, Hard: 1 << 40}} // more than root may have
				task.Sockets, _ = listen(t, 1)
				was, out := leave(t, next(), &task, cut.at)
				if cut.read {
					rewrite(t, files, "A=wrong\nB=wrong\nC=wrong\n")
				}
				var shown *Process
				p, err := next().Resume(t.Context(), parent.entry(was.name), func(p *Process) error { shown = p; return nil })
				if err != nil {
					t.Fatal(err)
				}
				r := runOf(t, p, out)
				r.expect("old old new " + decimal(was.PID()))
				if exit := r.Wait(); exit != (unit.Exit{Kind: unit.ByStatus, Code: 7}) {
					t.Errorf("it ended with %+v", exit)
				}
				if shown != p || p.Identity() != was.Identity() {
					t.Errorf("it is %+v, and was %+v", p.Identity(), was.Identity())
				}
				if w := p.Warnings(); len(w) != 1 {
					t.Errorf("warnings are %q", w)
				}
				if s, err := readStat(p.PID()); err != nil || s.state != 'Z' {
					t.Errorf("before it is stored that it has ended it is not kept: %+v, %v", s, err)
				}
				mustGo(t, p)
				if s, err := readStat(p.PID()); err == nil && s.start == p.Identity().StartTime {
					t.Error("it is not reaped")
				}
				if rest := r.rest(); rest != "" {
					t.Errorf("it ran again: %q", rest)
				}
			})
		})
	}
}

// environmentOf writes files that only a process of alice's may read.
func environmentOf(t *testing.T, texts ...string) (paths []string) {
	dir := openDir(t)
	os.Chown(dir, int(alice), int(alice))
	for i, text := range texts {
		paths = append(paths, filepath.Join(dir, decimal(i)))
		rewrite(t, paths[i:], text)
	}
	return paths
}

func rewrite(t *testing.T, paths []string, text string) {
	t.Helper()
	for _, path := range paths {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chown(path, int(alice), int(alice))
	}
}

// A start that fails while nobody hears it has failed.
func TestStartThatFailsMeanwhile(t *testing.T) {
	eachLasting(t, func(t *testing.T, parent *lasting, next func() *Launcher) {
		task := sh("echo ran")
		task.Program.Dir = "/no/such"
		was, _ := leave(t, next(), &task, func(ctx context.Context, p *Process, c *conversation) error {
			mustFail(t, toTheEnd(ctx, p, c), "chdir", 200, unix.ENOENT)
			return nil
		})
		_, err := next().Resume(t.Context(), parent.entry(was.name), nil)
		mustFail(t, err, "chdir", 200, unix.ENOENT)
		mustGo(t, was)
		if len(parent.kept) > 0 {
			t.Errorf("kept are %v", parent.kept)
		}
	})
}

// What was started is not asked again. Its tree is whole, and how it ended is told, to
// each who asks before it is released.
func TestProcessIsResumed(t *testing.T) {
	needsSetsid(t)
	eachLasting(t, func(t *testing.T, parent *lasting, next func() *Launcher) {
		task := sh(`setsid sh -c 'setsid sh -c "echo \$\$; exec sleep 1000" & exit' & wait; read x <&3; exit 9`)
		hold, wait := pipe(t)
		task.Sockets = []File{{hold, "hold"}}
		was, out := leave(t, next(), &task, toTheEnd)
		if err := was.Started(); err != nil {
			t.Fatal(err)
		}
		k := parent.entry(was.name)
		if k.Control >= 0 || len(k.Start) > 0 {
			t.Error("the conversation is kept after its end")
		}
		l := next()
		p, err := l.Resume(t.Context(), k, func(*Process) error { t.Error("it is shown again"); return nil })
		if err != nil {
			t.Fatal(err)
		}
		r := runOf(t, p, out)
		orphan := r.line()
		if e := p.Executable(); e == nil || e.Path() != "/bin/sh" || e.Moved() {
			t.Errorf("it runs %+v", e)
		} else {
			e.Close()
		}
		if s := p.Survivors(); len(s) != 2 {
			t.Errorf("its tree is %v", s)
		}
		unix.Close(wait)
		if exit := p.Wait(); exit.Code != 9 {
			t.Errorf("it ended with %+v", exit)
		}
		again, err := next().Resume(t.Context(), parent.entry(was.name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if exit := again.Wait(); exit.Code != 9 {
			t.Errorf("the next one hears that it ended with %+v", exit)
		}
		if s := again.Leftovers(); len(s) != 1 || decimal(s[0].PID) != orphan {
			t.Errorf("left over are %v, not %s", s, orphan)
		}
		if err := again.Signal(syscall.SIGKILL, unit.ControlGroup); err != nil {
			t.Error(err)
		}
		mustGo(t, again)
	})
}

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int // blocking, unlike those of os.Pipe
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return fds[0], fds[1]
}

// A child that was to be moved into its cgroup, and was not before its supervisord was
// killed, gets there before it runs, though its cgroup is gone.
func TestChildThatIsInNoCgroupYet(t *testing.T) {
	needsNoOther(t)
	parent := newLasting(t)
	dir := t.TempDir()
	first, err := NewLauncher(Options{RuntimeDirectory: dir, Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if first.cgroups == nil {
		t.Skip("needs cgroups: " + first.without)
	}
	first.moves.Store(true)
	task := sh("cat /proc/self/cgroup")
	was, out := leave(t, first, &task, parts())
	tree := was.tree.(*cgroupTree)
	path := filepath.Dir(first.cgroups.Dir())
	if err := os.WriteFile(path+"/cgroup.procs", []byte(decimal(was.PID())), 0); err != nil {
		t.Fatal(err)
	}
	first.Close() // removes what is empty, as the next one does when it begins
	if tree.group.ID() != 0 {
		t.Fatal("the cgroup is there, so this tests nothing")
	}
	l, err := NewLauncher(Options{RuntimeDirectory: dir, Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := l.Resume(t.Context(), parent.entry(was.name), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := runOf(t, p, out)
	for line := r.line(); !strings.HasPrefix(line, "0::"); line = r.line() {
	}
	if got := r.lines.Text(); got != "0::"+was.Identity().Cgroup || p.Identity() != was.Identity() {
		t.Errorf("it runs in %s, not in %s", got, was.Identity().Cgroup)
	}
	mustGo(t, p)
}

// A process that does not get on, told again by each of many supervisords, has no room for
// more to read. That is waited for.
func TestProcessThatReadsNothing(t *testing.T) {
	needsNoOther(t)
	l := newLasting(t)
	launcher := newTestLauncher(t, Options{NoCgroups: true, Parent: l})
	task := sh("echo ran")
	was, out := leave(t, launcher, &task, func(ctx context.Context, p *Process, c *conversation) error {
		if err := c.born(ctx, p); err != nil {
			return err
		}
		p.Signal(syscall.SIGSTOP, unit.ProcessOnly)
		eventually(t, "it stands still", func() bool { s, err := readStat(p.PID()); return err == nil && s.state == 'T' })
		for {
			k := &compiler{Builder: spawn.NewBuilder(c.child.Base, 0), order: c.ready.order, at: c.at}
			k.begin()
			k.execute(c.ready.order.complete(nil, c.ready.order.own(p.identity)))
			err := spawn.Tell(c.child.Control, k.Program())
			if err == unix.EAGAIN {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				mustFail(t, c.tell(ctx, k.Program()), "start", 255, unix.ECANCELED)
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	p, err := launcher.Resume(t.Context(), l.entry(was.name), func(p *Process) error {
		go p.Signal(syscall.SIGCONT, unit.ProcessOnly)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := runOf(t, p, out)
	r.expect("ran")
	mustGo(t, p)
}

// What cannot be resumed is left as it is.
func TestWhatCannotBeResumed(t *testing.T) {
	eachLasting(t, func(t *testing.T, parent *lasting, next func() *Launcher) {
		task := sh("echo ran; exec sleep 1000")
		was, out := leave(t, next(), &task, parts())
		files := openFDs(t)
		for name, break_ := range map[string]func(*Kept){
			"no words":     func(k *Kept) { k.Meta = "x" },
			"no order":     func(k *Kept) { unix.Close(k.Start[0]); k.Start[0], _ = spawn.Sealed([]byte("x")) },
			"too few":      func(k *Kept) { unix.Close(k.Start[1]); k.Start = k.Start[:1] },
			"another file": func(k *Kept) { unix.Close(k.Start[1]); k.Start[1], _ = spawn.Sealed(nil) },
			"no cgroup":    func(k *Kept) { k.Meta = `{"Cgroup":"/"}` },
		} {
			k := parent.entry(was.name)
			break_(&k)
			if p, err := next().Resume(t.Context(), k, nil); err == nil || p != nil {
				t.Errorf("%s: no error", name)
			}
		}
		if n := openFDs(t) - files; n > 0 {
			t.Logf("%d more files, of the launchers", n)
		}
		p, err := next().Resume(t.Context(), parent.entry(was.name), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := runOf(t, p, out)
		r.expect("ran")
	})
}

// All of an order is kept, whichever bytes it has.
func TestOrderIsKept(t *testing.T) {
	o := &order{}
	n := 0
	fill(reflect.ValueOf(o).Elem(), &n)
	got, err := decodeOrder(o.encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(o, got, cmp.AllowUnexported(order{}, envFile{}, rlimit{})); d != "" {
		t.Error(d)
	}
}

// fill puts something of its own into each part of v.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			fill(reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem(), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.String:
		v.SetString("\xff\x00" + decimal(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*n))
	default:
		v.SetUint(uint64(*n))
	}
}

// A file that was read over by the next one is still had.
func TestRoomKeepsWhatWasRead(t *testing.T) {
	r, err := newRoom(3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(int(r))
	texts := []string{"the first one", "", "third"}
	for n, text := range texts {
		if err := r.write([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
		for before, want := range texts[:n+1] {
			if got, err := r.text(before, uint64(len(want))); err != nil || string(got) != want {
				t.Errorf("after %d files file %d is %q: %v", n+1, before, got, err)
			}
		}
	}
}

// Frames name ops by their places, and another supervisord may have written the program. A
// change of the places has a number.
func TestEditionCounts(t *testing.T) {
	needsRoot(t) // as another user it has other ops
	places := fnv.New64a()
	seven := 7
	for _, o := range []*order{
		{path: "/p", argv: []string{"p"}, dir: "/"},
		{
			path: "/p", argv: []string{"p"}, dir: "/", defaults: true, setIDs: true, uid: 1, gid: 1, groups: []uint32{1}, user: "u", group: "g",
			nice: &seven, oom: &seven, envFiles: []envFile{{path: "-/e"}}, limits: []rlimit{{unix.RLIMIT_CORE, 0, 0}},
		},
		{path: "/p", argv: []string{"p"}, dir: "/", defaults: true, handover: true},
	} {
		for _, pinned := range []bool{false, true} {
			c := &conversation{at: newLayout(5, pinned, len(o.envFiles) > 0, 4), ready: ready{order: o}}
			k := c.compiler()
			for _, f := range o.envFiles {
				k.read(f)
			}
			k.execute(nil)
			program := k.Program()
			for i := uint32(0); program.Label(i) != (spawn.Label{}); i++ {
				_, warns := k.warnings[i]
				fmt.Fprintln(places, program.Label(i), warns)
			}
		}
	}
	want := map[int]string{1: "abbdd87db0e228cf"}
	if got := fmt.Sprintf("%x", places.Sum64()); got != want[edition] {
		t.Errorf("the places of edition %d have the sum %s, not %s: count the edition up, and enter its sum here", edition, got, want[edition])
	}
}

// A start that another edition has begun goes on; what it cannot name it says so.
func TestStartOfAnotherEdition(t *testing.T) {
	eachLasting(t, func(t *testing.T, parent *lasting, next func() *Launcher) {
		other := func(k Kept) Kept {
			k.Meta = strings.Replace(k.Meta, fmt.Sprintf(`"Edition":%d`, edition), `"Edition":0`, 1)
			return k
		}
		good, bad := sh("echo ran"), sh("echo ran")
		good.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 1 << 40, Hard: 1 << 40}}
		bad.Program.Dir = "/no/such"
		was, out := leave(t, next(), &good, parts((*conversation).born))
		p, err := next().Resume(t.Context(), other(parent.entry(was.name)), nil)
		if err != nil {
			t.Fatal(err)
		}
		runOf(t, p, out).expect("ran")
		if w := p.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "another version of supervisord") {
			t.Errorf("warnings are %q", w)
		}
		was, _ = leave(t, next(), &bad, parts((*conversation).born))
		_, err = next().Resume(t.Context(), other(parent.entry(was.name)), nil)
		if e := mustFail(t, err, "start", 255, unix.ENOENT); e.Error() != "cannot start /bin/sh: no such file or directory" || e.Hint() == "" {
			t.Errorf("it says %q, hint %q", e, e.Hint())
		}
	})
}
