// Package kept has the keeper as the Parent of processes: a few lines between package
// process, which knows no keeper, and package keeper, which knows no services.
//
// What the keeper has of the process web/17:
//
//	proc/web/17    the child, with the memo of its Birth as its meta
//	ctl/web/17     our end of its socket; until Started
//	start/web/17   files that the start is resumed with; until Started
//
// start/web/17 is put before the child is spawned, and dropped before the child is. So one
// without a child is what somebody has left who was killed, and nobody needs it.
package kept

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Parent is the keeper of a client. It is a [process.Parent].
type Parent struct {
	client  *keeper.Client
	session int // the keeper's

	mu    sync.Mutex
	pids  map[process.Name]int
	names map[int]process.Name
}

// What the keys of a process begin with.
const (
	proc  = "proc/"
	ctl   = "ctl/"
	start = "start/"
)

// New returns the keeper as a Parent. The client stays its owner's.
func New(c *keeper.Client) *Parent {
	p := &Parent{client: c, pids: map[process.Name]int{}, names: map[int]process.Name{}}
	p.session, _ = unix.Getsid(c.Keeper().PID)
	return p
}

// Take picks the processes from a list of what the keeper has: each for
// [process.Launcher.Resume], which says of each whether its start is stored. Their
// files are the caller's, as are those of the rest.
func (p *Parent) Take(list []keeper.Entry) (children []process.Kept, rest []keeper.Entry, err error) {
	parts := map[string]keeper.Entry{}
	for _, e := range list {
		switch {
		case strings.HasPrefix(e.Key, ctl), strings.HasPrefix(e.Key, start):
			parts[e.Key] = e
		case !isChild(e):
			rest = append(rest, e)
		}
	}
	for _, e := range list {
		if isChild(e) {
			n, _ := nameOf(e.Key)
			p.enter(n, e.PID)
			children = append(children, child(n, e, parts))
		}
	}
	for _, e := range parts {
		e.Close()
		err = errors.Join(err, p.client.Drop(e.Key))
	}
	return children, rest, err
}

// child takes what belongs to a process from parts.
func child(n process.Name, e keeper.Entry, parts map[string]keeper.Entry) process.Kept {
	k := process.Kept{Name: n, Meta: e.Meta, Child: childOf(e)}
	if line, there := parts[ctl+n.String()]; there && len(line.FDs) == 1 {
		k.Control = line.FDs[0]
		delete(parts, line.Key)
	}
	if s, there := parts[start+n.String()]; there {
		k.Start = s.FDs
		delete(parts, s.Key)
	}
	return k
}

func childOf(e keeper.Entry) process.Child {
	return process.Child{PID: e.PID, PIDFD: e.FDs[0], Control: -1, Base: e.Base, First: e.First, Ended: e.End}
}

func nameOf(key string) (n process.Name, ok bool) {
	service, number, ok := strings.Cut(strings.TrimPrefix(key, proc), "/")
	id, err := strconv.ParseUint(number, 10, 64)
	n = process.Name{Service: service, ID: unit.Invocation(id)}
	return n, ok && err == nil && key == proc+n.String()
}

// isChild says whether an entry is a process under a key of ours.
func isChild(e keeper.Entry) bool {
	_, ok := nameOf(e.Key)
	return ok && e.State != keeper.Kept
}

func (p *Parent) enter(n process.Name, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pids[n], p.names[pid] = pid, n
}

func (p *Parent) leave(n process.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pid := p.pids[n]; p.names[pid] == n {
		delete(p.names, pid)
	}
	delete(p.pids, n)
}

// PID is the keeper's.
func (p *Parent) PID() int { return p.client.Keeper().PID }

// Lasts is true: it outlives us.
func (p *Parent) Lasts() bool { return true }

// Spawn has the keeper fork, see [process.Parent].
func (p *Parent) Spawn(b process.Birth) (process.Child, error) {
	name := b.Name.String()
	if err := p.client.Put(start+name, "", b.Start...); err != nil {
		return process.Child{}, reason(err, b)
	}
	c, err := p.client.Spawn(keeper.Spawn{Key: proc + name, Meta: b.Meta, Control: ctl + name, Cgroup: b.Cgroup, Files: files(b)})
	if err != nil {
		p.client.Drop(start + name)
		return process.Child{}, reason(err, b)
	}
	p.enter(b.Name, c.PID)
	child := childOf(c.Entry)
	child.Control = c.Control
	return child, nil
}

// reason is why nothing was spawned.
func reason(err error, b process.Birth) error {
	if errors.Is(err, keeper.ErrLost) {
		return &process.StartError{Step: "spawn", Detail: "cannot start a process for " + b.Service + ": " + err.Error()}
	}
	return err
}

// files are what a child gets: by their keys those that the keeper has.
func files(b process.Birth) (all []keeper.File) {
	for _, fd := range b.Files {
		key, there := b.Keys[fd]
		name, number, _ := strings.Cut(key, "#")
		index, err := strconv.Atoi(number)
		if there && err == nil {
			all = append(all, keeper.Of(name, index))
		} else {
			all = append(all, keeper.Given(fd))
		}
	}
	return all
}

// Started drops what the start would have been resumed with.
func (p *Parent) Started(n process.Name) error {
	return errors.Join(p.client.Drop(ctl+n.String()), p.client.Drop(start+n.String()))
}

// Release drops all of a child.
func (p *Parent) Release(n process.Name) error {
	err := p.Started(n)
	if err == nil {
		err = p.client.Drop(proc + n.String())
	}
	if err == nil {
		p.leave(n)
	}
	return err
}

// Whose knows the children that we were told of. Another one that the keeper has forked
// is its template, a child that is being forked, or a manager: their names tell them from
// orphans, where the user is ours.
func (p *Parent) Whose(pid, session int) process.Whose {
	p.mu.Lock()
	_, known := p.names[pid]
	p.mu.Unlock()
	if known || session >= 0 && session == p.session || isKeepers(pid) {
		return process.Forked
	}
	return process.Orphan
}

// isKeepers says whether a process is called by one of the names that the keeper gives, and
// whether nobody has given it that name but our own user.
func isKeepers(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	name, rest, _ := strings.Cut(string(text), "\n")
	switch strings.TrimPrefix(name, "Name:\t") {
	case "superv-template", "supervisord-mgr":
		return strings.Contains(rest, "\nUid:\t"+strconv.Itoa(os.Getuid())+"\t")
	}
	return false
}
