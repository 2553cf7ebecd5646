package unit

import (
	"slices"
	"syscall"
	"time"
)

// old: an Old leaves. It is asked, then told, and then its whole tree is gone,
// or somebody has to be told that it will not go.
func (t *turn) old(in *Instance, id Invocation, e Event) {
	i := slices.IndexFunc(in.Old, func(p Proc) bool { return p.ID == id })
	if i < 0 {
		return
	}
	p := &in.Old[i]
	switch e := e.(type) {
	case Started:
		p.PID = e.PID
		t.repeat(p) // the signal may have come before there was a process to take it
	case NotStarted, Gone:
		t.forget(*p)
		in.Old = slices.Delete(in.Old, i, i+1)
	case Said:
		t.extend(p, e.Notice.Extend)
	case Exited:
		p.Exit = e.Exit
		t.oldExited(p)
	case Traffic:
		t.traffic(p, e)
	case Elapsed:
		t.oldElapsed(p)
	}
}

// HungAfter is for how long a process that settles may take nobody from a queue in
// which somebody waits. Then it hangs or is at a limit of its own, and to wait for
// it only makes its clients wait. If it was a mere pause, it goes a little early, and
// nobody is lost: whoever waits there moves to who serves.
const HungAfter = 500 * time.Millisecond

// traffic: p goes when it has settled for long enough and nobody waits in its
// queues, and even before if it hangs. One with empty queues has its time to settle
// all the same: clients that have just connected may not have asked yet.
func (t *turn) traffic(p *Proc, e Traffic) {
	hangs := e.Waiting > 0 && t.now-e.Taken >= Time(HungAfter)
	switch {
	case !p.Phase.Settles():
	case hangs, p.Phase == Emptying && e.Waiting == 0:
		t.hung = hangs
		t.press(p)
		t.hung = false
	case p.Phase == Settling:
		p.Empty = e.Waiting == 0
	}
}

// oldElapsed: whoever still waits in p's queues has some time more.
func (t *turn) oldElapsed(p *Proc) {
	if l := t.life(p.Gen); p.Phase == Settling && !p.Empty && l.Empty > 0 {
		t.enter(p, Emptying, l.Empty)
		return
	}
	t.press(p)
}

// oldExited: what settles has nothing left to settle; and where the kill signal
// was for the main process alone, the rest of its tree has had its time.
func (t *turn) oldExited(p *Proc) {
	mixed := t.life(p.Gen).KillMode == Mixed && p.Phase < Told
	if p.Phase.Settles() || mixed {
		t.press(p)
	}
}

// press takes p one step further on its way out.
func (t *turn) press(p *Proc) {
	t.onward(p)
	t.repeat(p)
}

func (t *turn) onward(p *Proc) {
	l := t.life(p.Gen)
	switch {
	case p.Phase == Told, p.Phase == Stuck:
		t.enter(p, Stuck, Infinity)
	case p.Phase == Asked, p.Phase == Aborted, l.KillMode == Mixed && p.Exit.Kind != NotExited:
		t.enter(p, Told, l.Kill)
	default:
		t.enter(p, Asked, l.Stop)
	}
	p.Ping, p.Empty = 0, false
}

// repeat sends the signal that belongs to p's phase.
func (t *turn) repeat(p *Proc) {
	switch p.Phase {
	case Aborted:
		t.signal(p, syscall.SIGABRT)
	case Asked:
		t.signal(p, t.life(p.Gen).KillSignal)
	case Told:
		t.signal(p, syscall.SIGKILL)
	}
}

// leave makes p an Old that must go now.
func (t *turn) leave(in *Instance, p Proc) {
	if p.ID == 0 {
		return
	}
	t.press(&p)
	in.Old = append(in.Old, p)
}

// abort is leave for what does not answer: its signal leaves a core to look at.
func (t *turn) abort(in *Instance, p Proc) {
	t.enter(&p, Aborted, t.life(p.Gen).Abort)
	p.Ping = 0
	t.repeat(&p)
	in.Old = append(in.Old, p)
}

// retire makes p an Old that may first finish what the kernel has given it.
func (t *turn) retire(in *Instance, p Proc) {
	l := t.life(p.Gen)
	if p.Phase < Baking || !l.Steer {
		t.leave(in, p)
		return
	}
	t.enter(&p, Settling, l.Settle)
	p.Ping = 0
	in.Old = append(in.Old, p)
}

// Settles reports whether a process in f gets no new connections and has yet to be
// told to go.
func (f Phase) Settles() bool { return f == Settling || f == Emptying }

func (t *turn) forget(p Proc) Proc {
	t.do(Forget{p.ID})
	return Proc{}
}

// kill sends an operator's signal. What becomes of it is the processes' affair.
func (t *turn) kill(e Kills) {
	mode := ProcessOnly
	if e.Whom == KillAll {
		mode = ControlGroup
	}
	for i := range t.Inst {
		in := &t.Inst[i]
		t.killRole(e, KillNext, mode, in.Next)
		t.killRole(e, KillMain, mode, in.Main)
		t.killRole(e, KillOld, mode, in.Old...)
	}
}

func (t *turn) killRole(e Kills, role Whom, mode KillMode, ps ...Proc) {
	for _, p := range ps {
		if p.ID != 0 && (e.Whom == role || e.Whom == KillAll) {
			t.do(Signal{ID: p.ID, Signal: e.Signal, Mode: mode})
		}
	}
}
