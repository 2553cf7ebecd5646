package supervisor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/logs"
	"github.com/supervisord-go/supervisord/pkg/supervisor/notify"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var (
	errEnded  = errors.New("supervisord is ending")
	errDoomed = errors.New("it was told to go before it started")
)

// A Trace identifies an invocation's processes to the next supervisord.
type Trace struct {
	process.Identity
	InvocationID string // $INVOCATION_ID
	Pipe         uint64 // inode of the pipe that its output goes to
}

// An invocation is one run of a service's program with what belongs to it: its
// process, its notify socket and its output. Its goroutine, in follow, tells
// the actor what happens to it.
type invocation struct {
	m     *Manager
	order order
	id    string // $INVOCATION_ID

	process *process.Process
	notify  *notify.Socket
	output  *logs.Stream
	sockets []*unit.Socket // that it entered by, until they are free
	began   chan struct{}  // closed when the actor knows that the program runs, or never will
}

// start starts an invocation in the background. That takes a place among those
// that do so at once; what only waits to be ready takes none.
func (m *Manager) start(o order) {
	m.going.Add(1)
	go func() {
		defer m.going.Done()
		i := &invocation{m: m, order: o, id: newInvocationID(), began: make(chan struct{})}
		m.places <- struct{}{}
		err := i.launch()
		<-m.places
		if err != nil {
			close(i.began)
			i.close()
			o.tell(unit.NotStarted{ID: o.ID, Exit: notRun(err)})
			return
		}
		i.follow()
	}()
}

// newInvocationID is 128 random bits in hex (systemd.exec(5), $INVOCATION_ID).
func newInvocationID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (i *invocation) launch() error {
	o, p := i.order, i.order.spec.Program.Of(i.order.Inst)
	account, err := process.ResolveAccount(p)
	if err != nil {
		return err
	}
	files, err := i.enter()
	if err != nil {
		return &process.StartError{Step: "sockets", Status: 202, Detail: err.Error(), Advice: cmp.Or(hintOf(err), process.Shortage(err))}
	}
	hand, err := i.m.pairs.lend(o.spec, account)
	if err != nil {
		return err
	}
	if hand != nil {
		defer closeAll(hand[:])
	}
	if i.output, err = i.m.sink(o.spec).Stream(i.meta(), int(account.UID), int(account.GID)); err != nil {
		return err
	}
	defer i.output.CloseWriteEnd()
	env := []string{"INVOCATION_ID=" + i.id}
	if o.spec.Notify != unit.NotifyNone {
		if err := i.listen(account); err != nil {
			return err
		}
		env = append(env, "NOTIFY_SOCKET="+i.notify.Path())
	}
	pinned, _ := o.pinned.(*process.Executable)
	i.process, err = i.m.launcher.Launch(context.Background(), process.Task{
		ID: o.ID, Service: o.spec.Name, Instance: o.Inst, Program: p, Account: account,
		Env: env, Watchdog: o.spec.Life.Watchdog, Sockets: files, Handover: hand,
		Output: i.output.WriteEnd(), Executable: pinned,
	}, i.staged)
	return err
}

// hintOf is what an error says to do about it.
func hintOf(err error) string {
	if e := (interface {
		error
		Hint() string
	})(nil); errors.As(err, &e) {
		return e.Hint()
	}
	return ""
}

// enter opens the sockets to clients, and takes those that are for this process.
func (i *invocation) enter() ([]process.File, error) {
	var err error
	if i.sockets, err = i.m.socketsOf(i.order.spec, i.order.Inst); err != nil {
		return nil, err
	}
	return i.m.doors.enter(i.order.spec.Name, i.order.ID, i.order.heir, i.sockets)
}

func (i *invocation) meta() logs.Meta {
	return logs.Meta{Invocation: i.order.ID, Generation: i.order.Gen, Instance: i.order.Inst}
}

// listen makes the socket on which the invocation says that it is ready. What
// arrives before the actor knows that the program runs waits until it does.
func (i *invocation) listen(a process.Account) (err error) {
	gid := -1
	if a.Set {
		gid = int(a.GID)
	}
	if _, err := i.m.o.Store.Sub("notify", 0o711); err != nil { // made again, if somebody has removed it
		return err
	}
	i.notify, err = notify.Listen(i.m.notifyDir, i.id[:16], notify.Options{
		GID: gid, UIDs: []uint32{a.UID}, Access: i.order.spec.Notify,
		Receive: func(m notify.Message) {
			<-i.began
			i.order.tell(heard{id: i.order.ID, message: m})
		},
		Refused: func(reason string, pid int, uid uint32) {
			i.m.log.Warn().Str("unit", i.order.spec.Name).Int("pid", pid).Uint32("uid", uid).Msg("dropped a notify message: " + reason)
		},
	})
	return err
}

// staged is called when the process is there, and has yet to run its program.
func (i *invocation) staged(p *process.Process) error {
	i.process = p
	if i.notify != nil {
		i.notify.SetMain(p.PID())
	}
	return i.order.staged(i)
}

// follow tells the actor what becomes of the program that runs now, until
// nothing is left of it.
func (i *invocation) follow() {
	o := i.order
	o.tell(unit.Started{ID: o.ID, PID: i.process.PID()})
	close(i.began)
	exit := i.process.Wait()
	i.free() // who waits in its queue waits for who comes next
	if i.notify != nil {
		i.notify.Drain() // what it said, it said before it ended
	}
	o.tell(unit.Exited{ID: o.ID, Exit: exit})
	if o.spec.Life.KillMode != unit.ProcessOnly {
		i.process.WaitGone(context.Background())
	}
	i.close()
	o.tell(unit.Gone{ID: o.ID})
}

func (i *invocation) close() {
	i.free()
	if i.output != nil {
		i.output.Finish()
	}
	if i.notify != nil {
		i.notify.Close()
	}
}

// free gives back what the process had of sockets for itself.
func (i *invocation) free() {
	i.m.doors.free(i.order.ID, i.sockets)
	i.sockets = nil
}

// notRun is how an invocation ended that never began.
func notRun(err error) unit.Exit {
	if e := (*process.StartError)(nil); errors.As(err, &e) {
		return e.Exit()
	}
	return unit.Exit{
		Kind: unit.NotRun, Code: 255, Step: "start",
		Detail: err.Error(), // which says it in full
		Hint:   process.Shortage(err),
	}
}

func (i *invocation) Trace() Trace {
	return Trace{Identity: i.process.Identity(), InvocationID: i.id, Pipe: i.output.Inode()}
}

func (i *invocation) Signal(sig syscall.Signal, mode unit.KillMode) error {
	return i.process.Signal(sig, mode)
}

func (i *invocation) Program() program {
	if e := i.process.Executable(); e != nil {
		return e
	}
	return nil
}

func (i *invocation) Tail() []byte { return i.output.Tail() }

func (i *invocation) Survivors() []process.Survivor { return i.process.Survivors() }
