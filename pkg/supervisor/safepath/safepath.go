// Package safepath opens files and directories whose path nobody else can bend.
//
// One question decides: who can rename a component of this path? Whoever can,
// can put another file in its place between two looks at it, or lead it
// elsewhere by a symbolic link. So a path is walked from / by directory
// descriptors, one component at a time, and each is judged where it lies:
//
//   - its owner is root or this process's effective user;
//   - nobody else may write into it (mode & 022), unless it is sticky, where
//     others can add entries but cannot rename ours;
//   - a symbolic link is followed only where both it and its directory pass the
//     same test, and its target is walked in the same way.
//
// What the walk ends at is kept open as a [Dir]. All later work goes through
// that descriptor and single names below it, so no path is looked up twice.
package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Dir is an open directory. It is safe for use by several goroutines; Close
// must come after all other calls.
type Dir struct {
	path string // for people and environments; never opened again
	fd   int    // O_PATH
}

// OpenDir walks to the directory at an absolute path. The error is an [*Error]
// that names the component which is missing or not to be trusted.
func OpenDir(path string) (*Dir, error) {
	return walkDir(&walk{asked: path, trusted: true})
}

// MakeDir is [OpenDir] for a directory of our own: missing components are made
// with exactly this mode, whatever the umask. A directory that was there must
// belong to this process's user and be open to nobody whom mode leaves out.
func MakeDir(path string, mode os.FileMode) (*Dir, error) {
	return makeDir(&walk{asked: path, mode: mode.Perm()})
}

// MakeLogDir is [MakeDir] where some systems let a group of daemons write to the
// directory above: /var/log is root:syslog 0775 on Ubuntu. Members of that group
// can take our directory away, or put another one of ours in its place, but
// never one of their own. So it is good for what is only written, and used by
// descriptor; not for sockets, locks, or anything that is believed when read.
func MakeLogDir(path string, mode os.FileMode) (*Dir, error) {
	return makeDir(&walk{asked: path, mode: mode.Perm(), group: true})
}

func makeDir(w *walk) (*Dir, error) {
	w.trusted, w.make = true, true
	d, err := walkDir(w)
	if err != nil {
		return nil, err
	}
	if err := d.mustBeOurs(w.mode); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// OpenForeign opens a directory that may be another user's, to work on single
// names in it. Its owner cannot lead the walk astray: links are followed only
// where [OpenDir] would follow them. But its owner can replace any entry at any
// time, so what is found there must be held by descriptor and compared before
// anything is done to it;.
func OpenForeign(path string) (*Dir, error) {
	return walkDir(&walk{asked: path})
}

// Path is the directory's absolute path without symbolic links, as it was when
// it was opened.
func (d *Dir) Path() string { return d.path }

// FD is the O_PATH descriptor, for *at system calls. It belongs to d.
func (d *Dir) FD() int { return d.fd }

// Close closes the descriptor.
func (d *Dir) Close() error {
	if err := unix.Close(d.fd); err != nil {
		return fmt.Errorf("cannot close %s: %w", d.path, err)
	}
	return nil
}

// ProcName is a path for bind(2) and connect(2), which know no *at form: name
// is looked up in this directory, whatever its path leads to meanwhile.
func (d *Dir) ProcName(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(d.fd) + "/" + name
}

// Sub opens a directory of ours in this one, and makes it if it is missing;
// owner and mode are judged as by [MakeDir].
func (d *Dir) Sub(name string, mode os.FileMode) (*Dir, error) {
	if err := d.mustBeName(name); err != nil {
		return nil, err
	}
	sub := &Dir{path: d.join(name), fd: -1}
	w := &walk{asked: sub.path, at: sub.path, make: true, mode: mode.Perm()}
	st, err := w.look(d.fd, name, &sub.fd)
	if err != nil {
		return nil, err
	}
	if kind(st) != unix.S_IFDIR {
		sub.Close()
		return nil, w.fail(unix.ENOTDIR)
	}
	if err := sub.mustBeOurs(mode.Perm()); err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// Rename gives an entry another name in the same directory. What had that name
// is replaced.
func (d *Dir) Rename(old, new string) error {
	if err := errors.Join(d.mustBeName(old), d.mustBeName(new)); err != nil {
		return err
	}
	if err := retry(func() error { return unix.Renameat(d.fd, old, d.fd, new) }); err != nil {
		return fmt.Errorf("cannot rename %s to %s: %w", d.join(old), new, err)
	}
	return nil
}

// Remove removes a file, link or socket, or an empty directory.
func (d *Dir) Remove(name string) error {
	if err := d.mustBeName(name); err != nil {
		return err
	}
	err := retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	if err == unix.EISDIR {
		err = retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", d.join(name), err)
	}
	return nil
}

// Names lists the entries, sorted.
func (d *Dir) Names() ([]string, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.path, err)
	}
	slices.Sort(names)
	return names, nil
}

func (d *Dir) join(name string) string {
	return strings.TrimSuffix(d.path, "/") + "/" + name
}

// mustBeName keeps what came from elsewhere from leaving the directory.
func (d *Dir) mustBeName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("cannot use %q in %s: %w: not the name of an entry", name, d.path, fs.ErrInvalid)
	}
	return nil
}

// mustBeOurs is the stricter test for a directory that only we write to.
func (d *Dir) mustBeOurs(mode os.FileMode) error {
	st, err := stat(d.fd)
	switch excess := os.FileMode(st.Mode).Perm() &^ mode; {
	case err != nil:
		return &Error{Path: d.path, Component: d.path, Err: err}
	case st.Uid != self():
		return &Error{
			Path: d.path, Component: d.path, Err: fs.ErrPermission,
			Why:  fmt.Sprintf("it belongs to uid %d, not to uid %d", st.Uid, self()),
			Hint: fmt.Sprintf("name another directory, or: chown %d %s", self(), quoted(d.path)),
		}
	case excess != 0:
		return &Error{
			Path: d.path, Component: d.path, Err: fs.ErrPermission,
			Why:  fmt.Sprintf("its mode %04o is open to others", st.Mode&0o7777),
			Hint: fmt.Sprintf("chmod %04o %s", mode, quoted(d.path)),
		}
	}
	return nil
}
