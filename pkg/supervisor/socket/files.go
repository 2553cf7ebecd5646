package socket

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A File is a socket on its way to a worker.
type File struct {
	FD     int    // see [Table.Files] and [Table.Copies]
	Name   string // for LISTEN_FDNAMES
	Cookie uint64 // SO_COOKIE, which no other socket ever has; see [Finding.Dead]
}

// Files lists the descriptors for one process, in the order of the addresses of s,
// which need not be those of the last Bind: the process's own shards, and those
// that all processes share. They are the Table's: to be duplicated into a child, and
// neither closed nor changed. From now on the process has them, until [Table.Free]; 0
// is a holder that is not counted. If the unit is in use, each of them listens.
//
// An error says which address has no socket at present, or that it is steered and the
// process has no shard there ([Table.Open]); then it has nothing.
func (t *Table) Files(s *unit.Socket, holder unit.Invocation) ([]File, error) {
	g, end := t.begin(s.Name)
	defer end()
	files, held, err := g.files(s, g.keyOf(holder))
	if err != nil {
		return nil, err
	}
	g.hands.give(holder, held)
	return files, nil
}

// Copies is [Table.Files] with descriptors that are the caller's, to be closed with
// [Close]: a socket that dies meanwhile is replaced, and its descriptor becomes
// another file's.
func (t *Table) Copies(s *unit.Socket, holder unit.Invocation) ([]File, error) {
	g, end := t.begin(s.Name)
	defer end()
	files, held, err := g.files(s, g.keyOf(holder))
	if err == nil {
		err = duplicate(files)
	}
	if err != nil {
		return nil, err
	}
	g.hands.give(holder, held)
	return files, nil
}

// duplicate puts duplicates in the place of all descriptors, or leaves none open.
func duplicate(files []File) error {
	for i, f := range files {
		fd, err := unix.FcntlInt(uintptr(f.FD), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			Close(files[:i])
			return fmt.Errorf("cannot pass socket %s on: %w", f.Name, err)
		}
		files[i].FD = fd
	}
	return nil
}

// Close closes what [Table.Copies] returned.
func Close(files []File) {
	for _, f := range files {
		closeFD(f.FD)
	}
}

// keyOf is the room's for who has none, of which no process gets the socket.
func (g *group) keyOf(holder unit.Invocation) uint16 {
	if m := g.members[holder]; m != nil {
		return m.key
	}
	return roomKey
}

func (g *group) files(s *unit.Socket, key uint16) (files []File, held []Held, err error) {
	var done []unit.Address
	for _, a := range s.Listen {
		if slices.Contains(done, a) {
			continue
		}
		done = append(done, a)
		e := g.all[a]
		if e == nil {
			return nil, nil, bindError(s.Name, a, errUnbound)
		}
		if l, ok := e.(*listener); ok && g.up && !l.serving() {
			if err := l.listen(); err != nil {
				return nil, nil, err
			}
		}
		f, err := e.file(key)
		if err != nil {
			return nil, nil, err
		}
		f.Name = fdName(s)
		files = append(files, f)
		held = append(held, Held{Cookie: f.Cookie, Address: e.where().String()})
	}
	return files, held, nil
}

var errUnbound = errors.New("it was not bound before its start")
