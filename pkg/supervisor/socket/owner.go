package socket

import (
	"errors"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// An OwnerFunc returns the numbers of a user and a group. An empty name is -1, which
// leaves the owner as it is. It may wait for a directory, and bounds that wait itself:
// only what changes the same unit waits for it.
type OwnerFunc func(user, group string) (uid, gid int, err error)

// Owners names who knows users and groups. It comes before the first [Table.Bind] of a
// unit that has either; without it, binding such a unit fails.
func (t *Table) Owners(f OwnerFunc) { t.owners = f }

func noOwners(string, string) (uid, gid int, err error) {
	return 0, 0, errors.New("nobody here knows users and groups")
}

// An owner is whom a path is given to.
type owner struct{ uid, gid int }

// owner finds out whom the path is to be given to. Nothing has changed if that cannot be
// known.
func (l *listener) owner(s *unit.Socket) (o owner, err error) {
	o = owner{-1, -1}
	if s.User != "" || s.Group != "" {
		l.during("looking up its owner", func() { o.uid, o.gid, err = l.owners(s.User, s.Group) })
	}
	return o, err
}
