package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A unix path is taken by asking, never by force. NAME.lock keeps out other
// supervisords; connect(2) shows whether anybody accepts there; only what
// refuses is removed, and then the real name is bound. (Binding another name and
// renaming it would steal a living server's path, and getsockname(2) would show
// the other name for ever.)
//
// The directory may be a service user's, who can replace any entry between two
// looks. So an entry is held by descriptor, compared by inode before it is
// removed, and owner and mode are given to the inode that was bound.

// sunPath is how many bytes the kernel takes, less the NUL that programs expect.
const sunPath = 107

// A place is where a unix socket lies, and the lock on it.
type place struct {
	path string // as configured
	name string // last component
	dir  *safepath.Dir
	ours bool // nobody else can change the path: it can be used as it is
	lock *safepath.Lock
	node int // O_PATH descriptor of the bound inode; -1: none
}

// occupy opens the directory and takes the lock.
func occupy(at string) (*place, error) {
	if len(at) > sunPath {
		return nil, fmt.Errorf("the path has %d bytes, a unix socket's at most %d", len(at), sunPath)
	}
	p := &place{path: at, name: safepath.Base(at), node: -1}
	if p.name == "" || p.name == "." || p.name == ".." {
		return nil, fmt.Errorf("%w: not the path of a file", fs.ErrInvalid)
	}
	if err := p.enter(p.directory()); err != nil {
		return nil, err
	}
	if err := p.secure(); err != nil {
		p.dir.Close()
		return nil, err
	}
	return p, nil
}

// directory is cut, not cleaned: a ".." behind a link leads where the kernel says.
func (p *place) directory() string { return p.path[:strings.LastIndex(p.path, "/")+1] }

// secure takes the lock. Its holder is another supervisord, whether it listens
// at this moment or not.
func (p *place) secure() (err error) {
	p.lock, err = p.dir.Lock(p.name + ".lock")
	if held := (*safepath.HeldError)(nil); errors.As(err, &held) {
		return &occupiedError{holder: holder{pid: held.PID, uid: -1, command: command(held.PID)}}
	}
	return err
}

// directoryMode is systemd's DirectoryMode=.
const directoryMode = 0o755

// enter opens the directory, and finds out whether it is closed to others. If it is
// missing it is made, with those above it, where nobody else could lead that astray.
func (p *place) enter(dir string) (err error) {
	if p.dir, err = safepath.OpenDir(dir); err == nil {
		p.ours = true
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.dir, err = safepath.MakeDir(dir, directoryMode)
		p.ours = err == nil
		if err != nil {
			return &directoryError{err}
		}
		return nil
	case !errors.Is(err, fs.ErrPermission):
		return err
	}
	if p.dir, err = safepath.OpenForeign(dir); errors.Is(err, fs.ErrNotExist) {
		return &directoryError{err}
	}
	return err
}

// A directoryError is that a directory was missing and could not be made.
type directoryError struct{ err error }

func (e *directoryError) Error() string { return "cannot make its directory: " + e.err.Error() }
func (e *directoryError) Unwrap() error { return e.err }

// leave removes what was bound and the lock file, if they are still ours.
func (p *place) leave() error {
	err := p.unbind()
	return errors.Join(err, p.lock.Remove(), p.dir.Close())
}

// bind makes a socket under the name, which does not listen yet. It is born
// with mode 0, so that nobody connects before it has its owner.
func (p *place) bind(s *unit.Socket, o owner) (int, error) {
	if err := p.clear(); err != nil {
		return -1, err
	}
	fd, err := create(unix.AF_UNIX, s)
	if err != nil {
		return -1, err
	}
	err = unix.Fchmod(fd, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: p.reach()})
	}
	if err == nil {
		p.node, err = p.held(fd)
	}
	if err == nil {
		err = p.own(s, o)
	}
	if err != nil {
		closeFD(fd)
		return -1, errors.Join(err, p.unbind())
	}
	p.keepSpare()
	return fd, nil
}

// reach is the name for bind(2): the real one, which getsockname(2) will show,
// where nobody can lead it elsewhere, else one through our descriptor.
func (p *place) reach() string {
	if p.ours {
		return p.path
	}
	return p.dir.ProcName(p.name)
}

// clear makes the name free, if nobody is there.
func (p *place) clear() error {
	if err := p.unbind(); err != nil { // ours, from before
		return err
	}
	if err := p.clearName(); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// look opens the entry itself, whatever it is.
func (p *place) look() (int, error) { return p.lookAt(p.name) }

func (p *place) lookAt(name string) (int, error) {
	return unix.Openat(p.dir.FD(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// leads says what the path stands for by now. What cannot be found out is taken
// for good.
func (p *place) leads() destination {
	var is, was unix.Stat_t
	if !p.reached() {
		return nowhere
	}
	err := unix.Fstatat(p.dir.FD(), p.name, &is, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nowhere
	case err == nil && unix.Fstat(p.node, &was) == nil && !safepath.SameFile(is, was):
		return elsewhere
	}
	return here
}

// reached says whether the path still leads to the directory that we have open: it
// may have been moved, or removed and made anew.
func (p *place) reached() bool {
	var is, was unix.Stat_t
	if unix.Fstat(p.dir.FD(), &was) != nil {
		return true
	}
	switch err := unix.Stat(p.directory(), &is); err {
	case nil:
		return safepath.SameFile(is, was)
	case unix.ENOENT, unix.ENOTDIR:
		return false
	}
	return true
}

// taken says who or what is at the name; nil: nobody, or what nobody has open.
func (p *place) taken() error {
	node, err := p.look()
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(node)
	return vacant(node)
}

// identity is the bound inode; nil: not known.
func (p *place) identity() *Node {
	var st unix.Stat_t
	if unix.Fstat(p.node, &st) != nil {
		return nil
	}
	return &Node{Dev: uint64(st.Dev), Ino: st.Ino}
}

type destination int

const (
	here destination = iota
	nowhere
	elsewhere
)

// vacant says who or what is in the way; nil: a socket that nobody has open.
func vacant(node int) error {
	var st unix.Stat_t
	if err := unix.Fstat(node, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return &occupiedError{what: "something that is no socket is there", holder: nobody}
	}
	who, err := knock(node)
	switch err {
	case nil:
		return &occupiedError{holder: who}
	case unix.ECONNREFUSED:
		return nil
	case unix.EAGAIN, unix.EPROTOTYPE:
		return &occupiedError{holder: nobody}
	}
	return fmt.Errorf("cannot find out who is there: %w", err)
}

// knock connects to the very inode without waiting. Whoever answers is named by
// the kernel: the process that called listen(2).
func knock(node int) (holder, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return holder{}, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: procFD(node)}); err != nil {
		return holder{}, err
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nobody, nil
	}
	return holder{pid: int(cred.Pid), uid: int(cred.Uid), command: command(int(cred.Pid))}, nil
}

// remove unlinks the name if it still stands for this inode.
func (p *place) remove(node int) error { return p.removeAt(p.name, node) }

func (p *place) removeAt(name string, node int) error {
	var was, is unix.Stat_t
	if err := unix.Fstat(node, &was); err != nil {
		return err
	}
	err := unix.Fstatat(p.dir.FD(), name, &is, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case !safepath.SameFile(was, is):
		return &occupiedError{what: "something else was put there meanwhile", holder: nobody}
	}
	return p.dir.Remove(name)
}

// unbind removes the names that were bound here. What others have put in their place
// is not ours to remove.
func (p *place) unbind() error {
	if p.node < 0 {
		return nil
	}
	err := p.remove(p.node)
	p.removeAt(p.spare(), p.node) // the next bind removes what is left
	unix.Close(p.node)
	p.node = -1
	if occupied := (*occupiedError)(nil); errors.As(err, &occupied) {
		return nil
	}
	return err
}

// held opens the inode that fd was bound to. The kernel tells it, or else it is
// known by what nobody but us can make: a socket of ours with the mode and the
// one name of its birth.
func (p *place) held(fd int) (int, error) {
	const siocUnixFile = 0x89E0 // needs CAP_NET_ADMIN
	node, err := unix.IoctlRetInt(fd, siocUnixFile)
	if err == nil {
		unix.CloseOnExec(node)
		return node, nil
	}
	if node, err = p.look(); err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(node, &st); err == nil && !newborn(st) {
		err = &occupiedError{what: "something else was put there meanwhile", holder: nobody}
	}
	if err != nil {
		unix.Close(node)
		return -1, err
	}
	return node, nil
}

func newborn(st unix.Stat_t) bool {
	return st.Mode == unix.S_IFSOCK && st.Nlink == 1 && int(st.Uid) == unix.Geteuid()
}

// own gives the inode its owner and then its mode, in this order: nobody gets
// in meanwhile who should not.
func (p *place) own(s *unit.Socket, o owner) error {
	if o.uid >= 0 || o.gid >= 0 {
		if err := safepath.Chown(p.node, o.uid, o.gid); err != nil {
			return fmt.Errorf("cannot give it to %s: %w", strings.Trim(s.User+":"+s.Group, ":"), err)
		}
	}
	if err := safepath.Chmod(p.node, s.Mode&0o777); err != nil {
		return fmt.Errorf("cannot set its mode: %w", err)
	}
	return nil
}

// bindAbstract takes a name that is no file; it is free again as soon as the
// last holder is gone.
func bindAbstract(s *unit.Socket, name string) (int, error) {
	if len(name) < 2 || len(name) > sunPath {
		return -1, fmt.Errorf("an abstract name has 1 to %d bytes after the @", sunPath-1)
	}
	fd, err := create(unix.AF_UNIX, s)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}
