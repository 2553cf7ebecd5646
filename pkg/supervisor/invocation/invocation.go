// Package invocation runs a program once: [Runner.Start] makes a process, and one
// goroutine follows it to the end of all that it leaves behind.
//
// A start goes one way. The goroutine takes what the process gets (sockets, the
// pipe of its output, a notify socket), makes it, and tells its owner that it is
// there (Owner.Staged). It runs nothing until the owner has stored who it is and
// says [Invocation.Proceed]. From then on the owner is told what happens: Started,
// Exited, Gone; or NotStarted, and nothing is left of it.
package invocation

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An Order is what to run.
type Order struct {
	ID     unit.Invocation
	Gen    unit.Generation
	Inst   int
	Spec   *unit.Spec
	Run    string              // $INVOCATION_ID; "": a new one
	Pinned *process.Executable // what to run; nil: what is at the path. Borrowed until it runs
	Fresh  bool                // if the path has another file than Pinned, that one
	Failed string              // but not this one, see [Invocation.File]
}

// An Owner is told what becomes of an invocation, in this order, by one goroutine
// at a time for each kind.
type Owner interface {
	Staged(*Invocation)                   // a process is there
	Said(m notify.Message, stored func()) // stored, which does not wait, says that what it changes is stored
	Happened(unit.Event)                  // Started, NotStarted, Exited, Gone
}

// An Invocation is one run of a service's program with what belongs to it.
type Invocation struct {
	r     *Runner
	order Order
	owner Owner
	id    string // $INVOCATION_ID

	file string // see File

	process *process.Process
	notify  *notify.Socket
	output  *logs.Stream
	sockets []*unit.Socket // that it enters by; written before there is a process
	lent    []int          // copies of their descriptors, until the process has its own
	proceed chan error     // has room for one
}

// Start makes an invocation in the background. When ctx is done, a start that has not led
// to a process is given up.
func (r *Runner) Start(ctx context.Context, o Order, to Owner) {
	i := &Invocation{r: r, order: o, owner: to, id: cmp.Or(o.Run, newID()), proceed: make(chan error, 1)}
	r.going.Go(func() { i.run(ctx) })
}

// newID is 128 random bits in hex (systemd.exec(5), $INVOCATION_ID).
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (i *Invocation) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, i.r.limit(i.order.Spec))
	defer cancel()
	if err := i.launch(ctx); err != nil {
		i.free(isSteered)
		i.close()
		i.owner.Happened(unit.NotStarted{ID: i.order.ID, Exit: NotRun(err)})
		return
	}
	i.follow()
}

// launch takes a place among those that start at once.
func (i *Invocation) launch(ctx context.Context) error {
	leave, err := i.r.places.take(ctx, i.order.Spec.Name)
	if err != nil {
		return err
	}
	defer leave()
	defer func() { closeAll(i.lent) }()
	t, err := i.prepare(ctx)
	if err != nil {
		return err
	}
	i.sayLeftovers()
	defer i.output.CloseWriteEnd()
	if t.Handover != nil {
		defer closeAll(t.Handover[:])
	}
	return i.start(ctx, t)
}

// sayLeftovers names those whom nobody ends, as systemd does when a service is
// started beside them.
func (i *Invocation) sayLeftovers() {
	if i.order.Spec.Life.KillMode != unit.ProcessOnly {
		return
	}
	for _, l := range i.r.Launcher.Leftovers(i.order.Spec.Name) {
		i.r.LeftOver(i.order.Spec.Name, fmt.Sprintf("pid %d (%s)", l.PID, l.Comm))
	}
}

// start makes the process. Whoever is told of it has it from then on, also when it
// never comes to run its program, so nothing of it is touched here any more.
func (i *Invocation) start(ctx context.Context, t process.Task) error {
	_, err := i.r.Launcher.Launch(ctx, t, func(p *process.Process) error {
		i.process = p
		i.output.Began(p.PID())
		i.owner.Staged(i)
		select {
		case err := <-i.proceed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return err
}

// Proceed lets the process run its program, now that its identity is stored; or
// has it end, with the error as the reason. It is called once, and does not wait.
func (i *Invocation) Proceed(err error) { i.proceed <- err }

// prepare takes what the process gets.
func (i *Invocation) prepare(ctx context.Context) (t process.Task, err error) {
	o, p := i.order, i.order.Spec.Program.Of(i.order.Inst)
	account, err := process.ResolveAccount(ctx, p)
	if err != nil {
		return t, err
	}
	t = process.Task{
		ID: o.ID, Service: o.Spec.Name, Instance: o.Inst, Program: p, Account: account,
		Env: []string{"INVOCATION_ID=" + i.id}, Watchdog: o.Spec.Life.Watchdog,
	}
	if t.Executable, err = i.executable(ctx, p); err != nil {
		return t, err
	}
	if t.Sockets, err = i.enter(ctx); err != nil {
		return t, err
	}
	if t.Handover, err = i.r.Pairs.lend(o.Spec, account); err != nil {
		return t, err
	}
	sink := i.r.Sink(o.Spec)
	tag, _ := logs.TagOf(i.id)
	if i.output, err = sink.Stream(logs.Meta{Invocation: o.ID, Tag: tag, Generation: o.Gen, Instance: o.Inst}, int(account.UID), int(account.GID)); err != nil {
		closePair(t.Handover)
		return t, err
	}
	t.Output = i.output.WriteEnd()
	if err := i.listen(&t); err != nil {
		closePair(t.Handover)
		return t, err
	}
	return t, nil
}

// executable is the file to run that is kept open; nil: what is at the path. The disk
// that it has to look at may not answer.
func (i *Invocation) executable(ctx context.Context, p *unit.Program) (*process.Executable, error) {
	c, err := process.Apart(ctx, i.r.Launcher, i.order.Spec.Name, p.Path, func() choice { return i.order.choose(p) })
	i.file = c.file
	return c.kept, err
}

// A choice is what to run.
type choice struct {
	kept *process.Executable // nil: what is at the path
	file string              // see Invocation.File
}

func (o Order) choose(p *unit.Program) choice {
	kept := o.Pinned
	if kept != nil && !o.Fresh {
		return choice{kept: kept}
	}
	path, err := process.Preflight(p)
	if err != nil {
		return choice{kept: kept}
	}
	file := ""
	if stamp, err := safepath.StampOf(path); err == nil {
		file = fmt.Sprint(stamp)
	}
	if kept != nil && (!kept.Differs(path) || file == o.Failed) {
		return choice{kept: kept}
	}
	return choice{file: file}
}

// enter opens the sockets to clients, and takes those that are for this process.
func (i *Invocation) enter(ctx context.Context) (files []process.File, err error) {
	o := i.order
	for _, s := range o.Spec.Sockets {
		of, err := s.Of(o.Inst)
		if err != nil {
			return nil, &process.StartError{Step: "sockets", Status: 202, Detail: err.Error()}
		}
		i.sockets = append(i.sockets, of)
	}
	all, err := i.r.Doors.Enter(ctx, i.visitor(), i.sockets)
	if err != nil {
		return nil, &process.StartError{Step: "sockets", Status: 202, Detail: err.Error(), Advice: process.HintOf(err)}
	}
	for _, f := range all {
		i.lent = append(i.lent, f.FD)
		files = append(files, process.File{FD: f.FD, Name: f.Name})
	}
	return files, nil
}

// visitor is who it is at the doors.
func (i *Invocation) visitor() doors.Process {
	return doors.Process{Service: i.order.Spec.Name, ID: i.order.ID}
}

// listen makes the socket on which the invocation says that it is ready, if anybody
// is to hear it.
func (i *Invocation) listen(t *process.Task) (err error) {
	if i.order.Spec.Notify == unit.NotifyNone {
		return nil
	}
	gid := -1
	if t.Account.Set {
		gid = int(t.Account.GID)
	}
	dir, err := i.r.NotifyDir()
	if err != nil {
		return err
	}
	i.notify, err = notify.Listen(dir, i.id[:16], notify.Options{
		GID: gid, UIDs: []uint32{t.Account.UID}, Access: i.order.Spec.Notify,
		Open:    t.Account.UID == 0, // it may become another user by itself
		Receive: i.owner.Said,
		Refused: func(reason string, pid int, uid uint32) { i.r.Refused(i.order.Spec.Name, reason, pid, uid) },
	})
	if err == nil {
		i.r.listens(i.notify, i.order.Spec.Name)
		t.Env = append(t.Env, "NOTIFY_SOCKET="+i.notify.Path())
	}
	return err
}

// follow tells the owner what becomes of the program that runs now, until
// nothing is left of it.
func (i *Invocation) follow() {
	id := i.order.ID
	i.owner.Happened(unit.Started{ID: id, PID: i.process.PID()})
	if i.notify != nil {
		i.notify.Start(i.process.PID(), i.process.Member) // what it has said so far waits there
	}
	exit := i.process.Wait()
	i.free(isSteered) // who waits in its queue waits for who comes next
	i.drain()         // what it said, it said before it ended
	i.owner.Happened(unit.Exited{ID: id, Exit: exit})
	if i.order.Spec.Life.KillMode == unit.ProcessOnly {
		i.release()
	} else {
		i.process.WaitGone(context.Background())
		i.close()
	}
	i.owner.Happened(unit.Gone{ID: id})
}

// drainFor is how long an owner may take to hear what a process had said.
const drainFor = time.Second

func (i *Invocation) drain() {
	if i.notify == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainFor)
	defer cancel()
	i.notify.Drain(ctx)
}

func (i *Invocation) close() {
	i.free(isShared)
	if i.output != nil {
		i.output.Finish()
	}
	if i.notify != nil {
		i.r.closeNotify(i.notify)
	}
}

// release is close for what may outlive its main process: its output is read for
// as long as somebody is there to write it, or that would wait for ever.
func (i *Invocation) release() {
	if i.notify != nil {
		i.r.closeNotify(i.notify)
	}
	go func() {
		i.process.WaitGone(context.Background())
		i.free(isShared)
		i.output.Finish()
	}()
}

// free gives back what the process had of sockets: of steered ones when it has
// ended, of those that it shares with all that it forked when they are gone as well.
func (i *Invocation) free(which func(*unit.Socket) bool) {
	for _, s := range i.sockets {
		if which(s) {
			i.r.Doors.Free(i.visitor(), []*unit.Socket{s})
		}
	}
}

func isSteered(s *unit.Socket) bool { return s.Steer }

func isShared(s *unit.Socket) bool { return !s.Steer }

// Leave says that it was told to go: a server may shut its sockets down then.
func (i *Invocation) Leave() { i.r.Doors.Leaving(i.visitor(), i.sockets) }

// NotRun is how an invocation ended that never began.
func NotRun(err error) unit.Exit {
	if e := (*process.StartError)(nil); errors.As(err, &e) {
		return e.Exit()
	}
	return unit.Exit{
		Kind: unit.NotRun, Code: 255, Step: "start",
		Detail: err.Error(), // which says it in full
		Hint:   process.Shortage(err),
	}
}

// A Trace identifies an invocation's processes to the next supervisord.
type Trace struct {
	process.Identity
	InvocationID string // $INVOCATION_ID
	Pipe         uint64 // inode of the pipe that its output goes to
}

// Trace is the invocation's, as JSON.
func (i *Invocation) Trace() json.RawMessage {
	text, err := json.Marshal(Trace{Identity: i.process.Identity(), InvocationID: i.id, Pipe: i.output.Inode()})
	if err != nil {
		panic(err) // it is numbers and strings
	}
	return text
}

// InvocationID is $INVOCATION_ID.
func (i *Invocation) InvocationID() string { return i.id }

// Signal sends a signal to those whom mode means.
func (i *Invocation) Signal(sig syscall.Signal, mode unit.KillMode) error {
	return i.process.Signal(sig, mode)
}

// Executable is what the process runs, kept open for the caller; nil: not known.
func (i *Invocation) Executable() *process.Executable { return i.process.Executable() }

// File tells the file that was at the path when it was started from all others;
// "": it runs the one that was kept open.
func (i *Invocation) File() string { return i.file }

// Tail is the last that it wrote.
func (i *Invocation) Tail() []byte { return i.output.Tail() }

// Survivors are what is left of its tree.
func (i *Invocation) Survivors() (names []string) {
	for _, s := range i.process.Survivors() {
		names = append(names, fmt.Sprintf("pid %d (%s)", s.PID, s.Comm))
	}
	return names
}

// Remarks are what a reader of the status should know of it.
func (i *Invocation) Remarks() (all []string) {
	all = i.process.Warnings()
	if i.notify == nil {
		return all
	}
	if n, last := i.notify.Refusals(); n > 0 {
		all = append(all, fmt.Sprintf("notify messages that did not count: %d, the last since %s", n, last))
	}
	return all
}

// maxLaunch is how long a start may take until the program runs, however long it
// may take to be ready.
const maxLaunch = 5 * time.Minute
