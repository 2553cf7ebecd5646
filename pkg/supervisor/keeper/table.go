package keeper

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A State is what an entry is.
type State byte

// The states.
const (
	Kept     State = iota // files, and no process
	Running               // a process: it waits for programs, or has become one
	Ended                 // a process that has. It stays a zombie until its entry is dropped
	spawning              // the template was asked for it; nobody is told of it yet
)

// Unknown is the status of a process of which nobody says how it ended.
const Unknown = ^syscall.WaitStatus(0)

// An entry is what the keeper has under a key.
type entry struct {
	id     uint64 // in the order in which they came
	key    string
	meta   string
	files  *files // of a process: its pidfd
	state  State
	status syscall.WaitStatus

	pid     int
	foreign bool // not our child
	birth   born

	dropped bool
}

// born is what only the start of a child could tell.
type born struct {
	base  uintptr // where it puts its programs
	first int     // the number of its first file
}

// files are descriptors that a start may still need when their entry is dropped.
type files struct {
	fds   []int
	users int
	over  bool
	then  func() // is called when they are closed; may be nil
}

// A table is what is kept. An entry is there once.
type table struct {
	entries map[string]*entry
	order   []*entry // by their ids
	last    uint64
	pids    map[int]*entry // of our children
	held    int            // descriptors that are open, or will be
	size    int            // of all entries without these

	closer func(fds []int, then func()) // closer.close, once there is one
}

func newTable() *table {
	return &table{entries: map[string]*entry{}, pids: map[int]*entry{}, closer: closeNow}
}

// reserve is how many numbers of descriptors stay free: for one message, which may
// bring 253, and for what it takes to start a manager, whatever the last one has
// filled us with.
const reserve = 253 + 64

// room says whether so many more descriptors may be held.
func (t *table) room(more int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(t.held+more+reserve) > limit.Cur {
		return unix.EMFILE
	}
	return nil
}

// free says whether there may be such an entry.
func (t *table) free(key, meta string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return unix.EINVAL
	case t.entries[key] != nil:
		return unix.EEXIST
	case len(meta) > maxMeta:
		return unix.EMSGSIZE
	case t.size+sizeOf(key, meta) > maxSize:
		return unix.ENOSPC
	}
	return nil
}

// maxSize is far more than anybody has use for, and less than a machine has.
const maxSize = 64 << 20

// sizeOf is about the memory that an entry takes.
func sizeOf(key, meta string) int {
	const each = 512
	return each + len(key) + len(meta)
}

// add puts an entry under its key, which must be free.
func (t *table) add(e *entry) *entry {
	t.last++
	e.id = t.last
	t.entries[e.key] = e
	t.order = append(t.order, e)
	t.size += sizeOf(e.key, e.meta)
	return e
}

// fill gives an entry its files, which are then held.
func (t *table) fill(e *entry, fds ...int) {
	e.files = &files{fds: fds}
	t.held += len(fds)
}

// child says that the process of an entry is our child.
func (t *table) child(e *entry) { t.pids[e.pid] = e }

// remove takes an entry away. Its files are closed when no start needs them.
func (t *table) remove(e *entry) {
	e.dropped = true
	t.size -= sizeOf(e.key, e.meta)
	delete(t.entries, e.key)
	if t.pids[e.pid] == e {
		delete(t.pids, e.pid)
	}
	if i, ok := t.at(e.id); ok {
		t.order = slices.Delete(t.order, i, i+1)
	}
	if e.files != nil {
		e.files.over = true
		t.close(e.files)
	}
}

// next is the first entry behind an id, of those that there are to tell of; nil: there
// is none.
func (t *table) next(id uint64) *entry {
	i, _ := t.at(id + 1)
	for ; i < len(t.order); i++ {
		if t.order[i].state != spawning {
			return t.order[i]
		}
	}
	return nil
}

func (t *table) at(id uint64) (int, bool) {
	return slices.BinarySearchFunc(t.order, id, func(e *entry, id uint64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
}

// lend returns one descriptor of an entry, and what to give back.
func (t *table) lend(key string, index int) (fd int, from *files, err error) {
	e := t.entries[key]
	if e == nil || e.files == nil || index < 0 || index >= len(e.files.fds) {
		return -1, nil, unix.ENOENT
	}
	e.files.users++
	return e.files.fds[index], e.files, nil
}

func (t *table) giveBack(f *files) {
	f.users--
	t.close(f)
}

func (t *table) close(f *files) {
	if f.over && f.users == 0 {
		t.discard(f.fds, f.then)
		f.fds = nil
	}
}

// hold counts descriptors that are not kept.
func (t *table) hold(fds ...int) []int {
	t.held += len(fds)
	return fds
}

// discard closes descriptors that are held, which they are until then.
func (t *table) discard(fds []int, then func()) {
	t.closer(fds, func() {
		t.held -= len(fds)
		if then != nil {
			then()
		}
	})
}

// message is what a manager is told of an entry.
func (e *entry) message(number uint32, limit uint64) *message {
	foreign := 0
	if e.foreign {
		foreign = 1
	}
	return &message{verb: sayEntry, number: number, files: e.files.fds, fields: []string{
		e.key, e.meta, decimal(e.state), decimal(e.pid), decimal(foreign),
		decimal(e.birth.base), decimal(e.birth.first), decimal(limit), decimal(e.status),
	}}
}
