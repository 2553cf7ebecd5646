package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/cgroup"
)

// A Kept is a child that its [Parent] has from somebody before us.
type Kept struct {
	Name
	Child        // Control is negative where Started was said
	Meta  string // of its Birth
	Start []int  // of its Birth; none where Started was said

	Stored bool // what became of the start is stored, and the child is not asked
}

// Resume takes up a process that somebody before us has launched, wherever that was left:
// it goes on like [Launcher.Launch], of which all the rest is true here as well. It reads
// nothing from the disk, so the process gets what it would have got. Resume takes over all
// files of k.
//
// A start whose outcome is not stored is led to its end, again if it has had one: staged
// is called, and the error is that of the start. A process that has ended meanwhile has
// ended once this returns.
//
// If the error is neither a *StartError nor that of staged, nothing was done: the child is
// as it was, and may be resumed later.
func (l *Launcher) Resume(ctx context.Context, k Kept, staged func(*Process) error) (*Process, error) {
	r, err := l.recall(&k)
	if err != nil {
		k.close()
		return nil, fmt.Errorf("cannot resume process %d of %s: %w", k.PID, k.Service, err)
	}
	p := r.birth.adopt(r.file, r.identity)
	if !r.starts {
		if k.Control >= 0 {
			unix.Close(k.Control)
		}
		p.Started() // again, if whoever has stored it did not come to say so
		return p, nil
	}
	c, err := newConversation(k.Child, r.at, r.ready)
	if err != nil {
		p.end()
		return nil, stepSpawn.failed(errnoOf(err), k.Service, "")
	}
	c.foreign = r.edition != edition
	return l.lead(ctx, p, c, staged)
}

// starts says whether the child is to be asked what became of it.
func (k *Kept) starts() bool { return !k.Stored && k.Control >= 0 && len(k.Start) > 0 }

// close closes what nobody has taken over.
func (k *Kept) close() {
	closeAll(k.Start)
	unix.Close(k.PIDFD)
	if k.Control >= 0 {
		unix.Close(k.Control)
	}
}

// A recalled is what is known again of a child.
type recalled struct {
	ready
	starts   bool // see Kept.starts
	edition  int
	birth    *birth
	at       layout
	identity Identity
}

// recall reads what was kept. It takes over k.Start.
func (l *Launcher) recall(k *Kept) (r recalled, err error) {
	var m memo
	if err = json.Unmarshal([]byte(k.Meta), &m); err != nil {
		return r, fmt.Errorf("what was kept of it cannot be read: %w", err)
	}
	r.birth = &birth{Birth: Birth{Name: k.Name}, launcher: l, child: k.Child}
	r.starts, r.edition = k.starts(), m.Edition
	r.at = newLayout(k.First, m.Pinned != nil, m.Room, m.Files)
	if r.ready, err = m.recallStart(k); err != nil {
		return r, err
	}
	if err = m.recallTree(r.birth, r.starts); err == nil {
		r.identity, err = identify(k.PID, inodeOf(k.PIDFD), m.UID, r.birth.tree.String())
	}
	if err != nil {
		r.close()
		if t, ok := r.birth.tree.(*cgroupTree); ok {
			t.events.Close()
		}
	}
	return r, err
}

// recallStart is what the start was begun with, if it is to go on.
func (m *memo) recallStart(k *Kept) (r ready, err error) {
	r.room = -1
	if !k.starts() {
		if m.Pinned != nil {
			r.file = m.Pinned.running(k.PID)
		}
		return r, nil
	}
	start := k.Start
	k.Start = nil
	return m.ready(start)
}

// recallTree finds what holds the process's tree together. One whose start was left before
// it came into its cgroup is moved there.
func (m *memo) recallTree(b *birth, starts bool) error {
	if m.Cgroup == "" {
		b.tree = newSessionTree(b.launcher.kin, marks{uid: m.UID, invocation: m.Invocation, pipe: m.Pipe})
		return nil
	}
	g, err := cgroup.Find(m.Cgroup)
	if err == nil && m.Moves && starts && !g.Has(b.child.PID) && !endedNow(b.child.PIDFD) {
		g, err = b.launcher.moveIn(b)
	}
	if err != nil {
		return err
	}
	t, err := newCgroupTree(g)
	if err == nil {
		b.tree = t
	}
	return err
}

// moveIn makes the cgroup of a child: it was empty, and may be gone.
func (l *Launcher) moveIn(b *birth) (*cgroup.Group, error) {
	if l.cgroups == nil {
		return nil, errors.New("there are no cgroups: " + l.without)
	}
	g, err := l.cgroups.Make(b.Service, strconv.FormatUint(uint64(b.ID), 10))
	if err == nil {
		err = g.Add(b.child.PID)
	}
	return g, err
}
