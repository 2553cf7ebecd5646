package safepath

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A directory can be removed under a program that has it open, and made again by
// somebody. What follows is for a program that notices.

// IsCurrent says whether the path still leads to this directory.
func (d *Dir) IsCurrent() bool {
	st, err := stat(d.fd)
	var there unix.Stat_t
	return err == nil && retry(func() error { return unix.Lstat(d.path, &there) }) == nil && SameFile(st, there)
}

// Has says whether the entry name is the directory sub.
func (d *Dir) Has(name string, sub *Dir) bool { return d.has(name, sub.fd) }

func (d *Dir) has(name string, fd int) bool {
	st, err := stat(fd)
	var there unix.Stat_t
	return err == nil && retry(func() error { return unix.Fstatat(d.fd, name, &there, unix.AT_SYMLINK_NOFOLLOW) }) == nil && SameFile(st, there)
}

// Become makes d the directory that by is, for all who have it, and closes by, also if
// it fails. Calls on d that are in progress work on the one or on the other.
func (d *Dir) Become(by *Dir) error {
	defer unix.Close(by.fd)
	err := retry(func() error { return unix.Dup3(by.fd, d.fd, unix.O_CLOEXEC) })
	if err != nil {
		return fmt.Errorf("cannot open %s again: %w", d.path, err)
	}
	return nil
}

// IsIn says whether the lock's file still is where others look for it in d.
func (l *Lock) IsIn(d *Dir) bool { return d.has(l.name, l.fd) }

// An Identity is whose a directory is, and who may do what there.
type Identity struct {
	gid  int
	mode uint32
	acls map[string][]byte // extended attributes
}

var acls = []string{"system.posix_acl_access", "system.posix_acl_default"}

// Identity returns that of d. Its owner is always ourselves.
func (d *Dir) Identity() (Identity, error) {
	st, err := stat(d.fd)
	if err != nil {
		return Identity{}, &Error{Path: d.path, Component: d.path, Err: err}
	}
	i := Identity{gid: int(st.Gid), mode: st.Mode & 0o7777, acls: map[string][]byte{}}
	for _, name := range acls {
		var b [4096]byte
		if n, err := unix.Getxattr(d.procPath(), name, b[:]); err == nil && n > 0 {
			i.acls[name] = b[:n]
		}
	}
	return i, nil
}

// Assume gives d, which was just made, the identity of another.
func (d *Dir) Assume(i Identity) error {
	st, err := stat(d.fd)
	if err == nil && int(st.Gid) != i.gid {
		err = Chown(d.fd, -1, i.gid)
	}
	if err == nil && st.Mode&0o7777 != i.mode {
		err = Chmod(d.fd, i.mode)
	}
	for name, value := range i.acls {
		if err == nil {
			err = unix.Setxattr(d.procPath(), name, value, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot give %s the owner, mode and ACL that it had: %w", d.path, err)
	}
	return nil
}

func (d *Dir) procPath() string { return "/proc/self/fd/" + strconv.Itoa(d.fd) }

// RenameNew is [Dir.Rename] where nothing has the new name yet; else the error
// wraps [os.ErrExist].
func (d *Dir) RenameNew(old, new string) error {
	if err := d.mustBeName(old); err != nil {
		return err
	}
	if err := d.mustBeName(new); err != nil {
		return err
	}
	err := retry(func() error { return unix.Renameat2(d.fd, old, d.fd, new, unix.RENAME_NOREPLACE) })
	if err == unix.EINVAL || err == unix.ENOSYS { // not in this file system
		if err = retry(func() error { return unix.Linkat(d.fd, old, d.fd, new, 0) }); err == nil {
			return d.Remove(old)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: d.join(old), New: d.join(new), Err: err}
	}
	return nil
}

// Again makes d what is at its path, if somebody has removed d: the directory is made
// again, with missing ones above it, and is whose it was.
func (d *Dir) Again() error {
	if d.IsCurrent() {
		return nil
	}
	was, err := d.Identity()
	if err != nil {
		return err
	}
	by, err := MakeDir(d.path, os.FileMode(was.mode&0o777))
	if err != nil {
		return err
	}
	if err := by.Assume(was); err != nil {
		by.Close()
		return err
	}
	return d.Become(by)
}
